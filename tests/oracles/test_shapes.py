"""The text adherence of `shapes`: right on what the renderer draws, low on what is wrong."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import permutations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pytest_vdb.errors import Unmeasured
from pytest_vdb.metrics import faults
from pytest_vdb.metrics.registry import Metrics, evaluate
from pytest_vdb.scenes import ATTRIBUTES, scenes

METRICS = Metrics()
SCENES = scenes()[::23]  # a dozen that hold every colour, shape, direction and background


def score(name, frames, scene):
    caption = scene if isinstance(scene, str) else scene.caption()
    return evaluate(METRICS.find(f"shapes_{name}"), frames, prompt=caption)


def scores(frames, scene):
    """The four scores, in the order of the attributes of a scene."""
    return np.array([score(name, frames, scene) for name in ATTRIBUTES])


@pytest.fixture(scope="module")
def clips(render):
    random = np.random.Generator(np.random.PCG64(0))
    return [(scene, render(scene, random)) for scene in SCENES]


def test_the_dozen_holds_every_word():
    words = {name: {getattr(scene, name) for scene in SCENES} for name in ATTRIBUTES}
    assert words == {name: {getattr(scene, name) for scene in scenes()} for name in ATTRIBUTES}


@pytest.mark.parametrize(
    ("size", "frames", "every"), [(64, 9, 5), (32, 5, 5), (64, 2, 9), (104, 17, 69)]
)
def test_what_the_renderer_draws_is_right(render, size, frames, every):
    random = np.random.Generator(np.random.PCG64(1))
    for scene in scenes()[::every]:
        clip = render(scene, random, size, frames)
        assert scores(clip, scene).min() >= 0.99, scene
        assert score("adherence", clip, scene) >= 0.99


def test_soft_and_noisy_clips_are_right(clips):
    """A decoder blurs; that is not what these metrics are about."""
    for scene, clip in clips:
        soft = gaussian_filter(clip.astype(float), (0, 1, 1, 0))
        noisy = faults.noise(np.rint(soft).astype(np.uint8), 5)
        assert scores(noisy, scene).min() >= 0.97, scene


def test_adherence_is_the_mean_of_the_four(clips):
    for scene, clip in clips:
        other = SCENES[0] if scene != SCENES[0] else SCENES[-1]
        assert score("adherence", clip, other) == pytest.approx(scores(clip, other).mean())


def test_one_wrong_word_costs_its_attribute_and_no_other(clips):
    for scene, clip in clips[::3]:
        for number, name in enumerate(ATTRIBUTES):
            others = {getattr(s, name) for s in scenes()} - {getattr(scene, name)}
            wrong = [replace(scene, **{name: other}) for other in sorted(others)]
            for other in (s for s in wrong if s.color != s.background):
                assert scores(clip, other) == pytest.approx(np.arange(4) != number, abs=0.01)


def test_a_wrong_caption_scores_what_chance_gives(render):
    """Each attribute of another scene, drawn at random, is right as often as scenes share it."""
    pairs = list(permutations(scenes(), 2))
    chance = np.mean([[asdict(a)[n] == asdict(b)[n] for n in ATTRIBUTES] for a, b in pairs], axis=0)
    assert chance == pytest.approx([0.165, 0.331, 0.247, 0.249], abs=0.001)
    random = np.random.Generator(np.random.PCG64(2))
    drawn = [pairs[i] for i in random.choice(len(pairs), 150, replace=False)]
    got = np.mean([scores(render(a, random, 32, 5), b) for a, b in drawn], axis=0)
    assert got == pytest.approx(chance, abs=0.08)  # two standard deviations of 150 draws


def reversed_(clip, scene):
    return clip[::-1]


def frozen(clip, scene):
    return faults.frozen(clip)


def shuffled(clip, scene):
    return faults.shuffled(clip)


@pytest.mark.parametrize("damage", [frozen, shuffled, reversed_])
def test_what_does_not_move_that_way_has_no_direction(clips, damage):
    for scene, clip in clips:
        expected = [name != "direction" for name in ATTRIBUTES]
        assert scores(damage(clip, scene), scene) == pytest.approx(expected, abs=0.01)


def test_a_black_video_shows_no_shape(clips):
    for scene, clip in clips:
        expected = [n == "background" and scene.background == "black" for n in ATTRIBUTES]
        assert scores(faults.black(clip), scene) == pytest.approx(expected, abs=0.01)


def test_noise_shows_nothing(clips):
    random = np.random.Generator(np.random.PCG64(3))
    for scene, clip in clips[::4]:
        noise = random.integers(0, 256, clip.shape, dtype=np.uint8)
        assert scores(noise, scene) == pytest.approx(np.zeros(4), abs=0.15)


def test_a_ghost_beside_the_shape_is_no_shape(clips):
    for scene, clip in clips[::4]:
        ghost = (clip // 2 + np.roll(clip, 24, axis=(1, 2)) // 2).astype(np.uint8)
        assert score("shape", ghost, scene) < 0.5


def test_a_text_without_a_scene_is_unmeasured(clips):
    with pytest.raises(Unmeasured, match="names no scene"):
        score("color", clips[0][1], "a dog on the beach")


@pytest.mark.parametrize("name", ["direction", "adherence"])
def test_one_frame_has_no_direction(clips, name):
    scene, clip = clips[0]
    with pytest.raises(Unmeasured, match="one frame"):
        score(name, clip[:1], scene)
