"""Text adherence of `shapes`: right on what the renderer draws, low on what is wrong."""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter, zoom

from pytest_vdb.errors import Unmeasured
from pytest_vdb.metrics import faults
from pytest_vdb.metrics.registry import Metrics, evaluate
from pytest_vdb.scenes import ATTRIBUTES, BACKGROUNDS, COLORS, TEMPLATES, scenes

METRICS = Metrics()
VALUES = np.array([astuple(scene) for scene in scenes()])
SCENES = scenes()[::23]  # a dozen that holds every colour, shape, direction and background


def score(name, frames, caption):
    return evaluate(METRICS.find(f"shapes_{name}"), frames, prompt=caption)


def scores(frames, scene):
    """One score an attribute."""
    return np.array([score(name, frames, scene.caption()) for name in ATTRIBUTES])


def random(seed):
    return np.random.Generator(np.random.PCG64(seed))


@pytest.fixture(scope="module")
def clips(render):
    """(scene, uint8 (9, 64, 64, 3)) of the dozen."""
    rng = random(0)
    return [(scene, render(scene, rng)) for scene in SCENES]


def test_the_dozen_holds_every_value():
    dozen = np.array([astuple(scene) for scene in SCENES])
    for some, every in zip(dozen.T, VALUES.T, strict=True):
        assert set(some) == set(every)


@pytest.mark.parametrize(
    ("size", "frames", "step"), [(64, 9, 11), (32, 5, 11), (64, 2, 23), (104, 17, 69)]
)
def test_what_the_renderer_draws_is_right(render, size, frames, step):
    rng = random(1)
    for scene in scenes()[::step]:
        clip = render(scene, rng, size, frames)
        assert scores(clip, scene).min() >= 0.99, scene
        assert score("adherence", clip, scene.caption()) >= 0.99, scene


POLYGONS = {
    "square": [(-8, -8), (8, -8), (8, 8), (-8, 8)],
    "triangle": [(0, -10), (-10, 8), (10, 8)],
}
PATHS = {"left": (-2, 0), "right": (2, 0), "up": (0, -2), "down": (0, 2)}


@pytest.mark.parametrize("direction", PATHS)
@pytest.mark.parametrize("shape", ["circle", *POLYGONS])
def test_what_pillow_draws_is_right(shape, direction):
    """Coordinates and colours written here: nothing that the renderer and the scorer share."""
    across, down = PATHS[direction]
    frames = []
    for t in range(9):
        x, y = 32 + across * (t - 4), 32 + down * (t - 4)
        picture = Image.new("RGB", (256, 256), (255, 255, 255))
        draw = ImageDraw.Draw(picture)
        if shape == "circle":
            draw.ellipse([4 * (x - 9), 4 * (y - 9), 4 * (x + 9), 4 * (y + 9)], fill=(220, 30, 30))
        else:
            corners = [(4 * (x + dx), 4 * (y + dy)) for dx, dy in POLYGONS[shape]]
            draw.polygon(corners, fill=(220, 30, 30))
        frames.append(np.asarray(picture.resize((64, 64), Image.Resampling.BOX)))
    clip = np.stack(frames)
    for name in ("circle", *POLYGONS):
        for way in PATHS:
            asked = f"a red {name} moves {way} on a white background"
            right = {"color": 1.0, "background": 1.0, "shape": float(name == shape)}
            right["direction"] = float(way == direction)
            found = {attribute: score(attribute, clip, asked) for attribute in ATTRIBUTES}
            assert found == pytest.approx(right, abs=0.01)


def test_a_soft_and_noisy_clip_is_right(clips):
    """A decoder blurs: these metrics are about what there is to see, not how sharp it is."""
    for scene, clip in clips:
        soft = gaussian_filter(clip.astype(float), (0, 1, 1, 0))
        clip = faults.noise(np.rint(soft).astype(np.uint8), 5)
        assert scores(clip, scene).min() >= 0.99, scene


def test_one_wrong_word_costs_its_attribute_alone(clips):
    for scene, clip in clips[::5]:
        for place, name in enumerate(ATTRIBUTES):
            for word in {*VALUES[:, place]} - {getattr(scene, name)}:
                wrong = replace(scene, **{name: str(word)})  # never blue on blue
                if wrong in scenes():
                    expected = [float(other != name) for other in ATTRIBUTES]
                    assert scores(clip, wrong) == pytest.approx(expected, abs=0.01), wrong


def test_adherence_is_the_mean_of_the_four(clips):
    for scene, clip in clips[::4]:
        wrong = next(other for other in SCENES if other.shape != scene.shape)
        mean = scores(clip, wrong).mean()
        assert mean < 0.76
        assert score("adherence", clip, wrong.caption()) == pytest.approx(mean, abs=1e-12)


def test_a_wrong_caption_scores_what_chance_gives(render):
    """Right as often as another scene, drawn at random, shares the attribute."""
    n = len(VALUES)
    same = (VALUES[:, None] == VALUES).sum((0, 1)) - n
    chance = same / (n * (n - 1))
    assert chance == pytest.approx([0.165, 0.331, 0.247, 0.249], abs=0.001)
    rng = random(2)
    got = []
    for _ in range(150):
        shown, asked = (scenes()[i] for i in rng.choice(n, 2, replace=False))
        got.append(scores(render(shown, rng, 32, 5), asked))
    assert np.mean(got, axis=0) == pytest.approx(chance, abs=0.08)  # two standard errors


def test_the_wording_of_a_caption_changes_no_score(clips):
    for scene, clip in clips[::6]:
        for name in (*ATTRIBUTES, "adherence"):
            assert len({score(name, clip, scene.caption(t)) for t in TEMPLATES}) == 1


def backwards(clip):
    return clip[::-1]


@pytest.mark.parametrize("damage", [faults.frozen, faults.shuffled, backwards])
def test_frames_that_do_not_move_that_way_have_no_direction(clips, damage):
    for scene, clip in clips:
        expected = [float(name != "direction") for name in ATTRIBUTES]
        assert scores(damage(clip), scene) == pytest.approx(expected, abs=0.01), scene


def test_a_black_video_is_a_black_background_and_nothing_else(clips):
    for scene, clip in clips:
        on_black = scene.background == "black"
        expected = [name == "background" and on_black for name in ATTRIBUTES]
        assert list(scores(faults.black(clip), scene)) == expected


def test_white_noise_shows_nothing(clips):
    noise = random(3).integers(0, 256, clips[0][1].shape, np.uint8)
    for scene, _ in clips:
        got = dict(zip(ATTRIBUTES, scores(noise, scene), strict=True))
        assert got.pop("color") < 0.1
        assert set(got.values()) == {0.0}


def alpha(clip, scene):
    """How much of each pixel the shape covers, and the two colours: what the renderer mixed."""
    color, background = (
        np.array(table[name], dtype=float)
        for table, name in ((COLORS, scene.color), (BACKGROUNDS, scene.background))
    )
    axis = color - background
    return ((clip - background) @ axis / (axis @ axis))[..., None], color, background


def mixed(cover, color, background):
    return np.rint(background + cover * (color - background)).astype(np.uint8)


def second_blob(clip, scene, opacity=1.0):
    """The shape once more, 20 px to the side or, at the edge, on the frame's other side."""
    cover, color, background = alpha(clip, scene)
    copy = np.roll(cover, 20, 2)
    return mixed(np.maximum(cover, opacity * copy), color, background)


def ghost(clip, scene):
    return second_blob(clip, scene, 0.5)


def resized(clip, scene):
    """Everything is .6 as large from the middle of the clip on."""
    late = clip[len(clip) // 2 :]
    small = zoom(late, (1, 0.6, 0.6, 1), order=1, mode="nearest", grid_mode=True)
    before = (clip.shape[1] - small.shape[1]) // 2
    after = clip.shape[1] - small.shape[1] - before
    frame = ((0, 0), (before, after), (before, after), (0, 0))
    return np.concatenate([clip[: len(clip) // 2], np.pad(small, frame, mode="edge")])


def recoloured(clip, scene):
    """The shape has another colour from the middle of the clip on."""
    cover, _, background = alpha(clip, scene)
    other = next(c for c in COLORS if c not in (scene.color, scene.background))
    late = mixed(cover, np.array(COLORS[other], dtype=float), background)
    return np.concatenate([clip[: len(clip) // 2], late[len(clip) // 2 :]])


@pytest.mark.parametrize(
    ("damage", "name", "most"),
    [
        (second_blob, "shape", 0.0),
        (ghost, "shape", 0.0),
        (resized, "shape", 5 / 9),  # the frames of the commoner size are right
        (recoloured, "color", 4 / 9),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_a_shape_that_is_not_one_or_does_not_last(clips, damage, name, most):
    for scene, clip in clips:
        damaged = damage(clip, scene)
        assert score(name, damaged, scene.caption()) <= most, scene
        assert score("adherence", damaged, scene.caption()) < 0.9, scene


@pytest.mark.parametrize("name", [*ATTRIBUTES, "adherence"])
def test_a_text_that_is_no_such_caption_is_unmeasured(clips, name):
    for text in ("", "a red fox", "a red or blue circle moves left on a black background"):
        with pytest.raises(Unmeasured, match=rf"shapes_{name}: .* ask for one such as 'a red circ"):
            score(name, clips[0][1], text)


@pytest.mark.parametrize("name", ["direction", "adherence"])
def test_one_frame_has_no_direction(clips, name):
    scene, clip = clips[0]
    with pytest.raises(Unmeasured, match="one frame has no direction; it needs num_frames=2"):
        score(name, clip[:1], scene.caption())
    assert score("shape", clip[:1], scene.caption()) == 1
