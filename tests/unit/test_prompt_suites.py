"""The shipped prompt suites: pinned, balanced, and what they are for."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image

from pytest_vdb import prompts, scenes
from pytest_vdb.gate.rules import PROMPTS_TO_GATE
from pytest_vdb.records import Prompt

ROOT = Path(__file__).parents[2]

# Never change an entry: a suite with other lines is a new version, with a new entry.
PINNED = {
    ("smoke", "1"): "96fb18559d479558aeaa7c059c3b1dd356964ebc43099aaf720046f8049bb8cd",
    ("standard", "1"): "33e0af32619a58fbf6993053348e6224606d711985277f45e0c0aa25c9508e58",
    ("motion", "1"): "84321ba5a0ee5e3f98b818aafb0d1094ddbb1adf04ee5c21bef4b247d2a061b3",
    ("long", "1"): "0a88c3a63797e6e4f8abf7c7ff4cdb0d3a9312a2c34731d78f4b41a2299f24b8",
    ("images", "1"): "608b3f01716d8573ca2b5d5d6262c5661a7ce10fb736ec9e79a2b62f6cdff4b2",
    ("shapes", "1"): "0036b361e2a98e48adbe5994f4eee0a694d131169728c21b314586928a5c9ec5",
}
SIZES = {"smoke": 8, "standard": 64, "motion": 48, "long": 16, "images": 12, "shapes": 48}


def load(which: str) -> tuple[Prompt, ...]:
    return prompts.load(which, Path())


def tags(prompt: Prompt) -> dict[str, str]:
    """One value an axis; of an axis that stands there twice, the last."""
    return dict(tag.split(":", 1) for tag in prompt.tags)


@pytest.mark.parametrize("name", SIZES)
def test_a_suite_is_what_its_version_says(name: str) -> None:
    suite = next(s for s in prompts.describe() if s.name == name)
    assert suite.sha256 == PINNED[name, suite.version], (
        "a changed suite needs the next version in SHIPPED and a new entry here"
    )
    assert (suite.n, len(load(name))) == (SIZES[name], SIZES[name])


def test_every_shipped_file_is_a_suite() -> None:
    files = {path.stem for path in Path(prompts.__file__).parent.glob("*.jsonl")}
    assert files == set(prompts.suites()) == set(SIZES)


def test_no_text_and_no_id_stands_in_two_suites() -> None:
    every = [prompt for name in SIZES for prompt in load(name)]
    assert len({p.id for p in every}) == len({p.text for p in every}) == sum(SIZES.values())


@pytest.mark.parametrize("name", SIZES)
def test_texts_are_plain(name: str) -> None:
    for prompt in load(name):
        assert prompt.text.isascii()
        assert prompt.text.isprintable()
        assert prompt.text == " ".join(prompt.text.split())
        assert prompt.id.startswith(f"{name}-")
        if name != "long":  # 3 tokens for 2 words at the very most: below 77 everywhere
            assert 5 <= len(prompt.text.split()) <= 45


def test_smoke_has_the_fewest_prompts_that_gate_statistically() -> None:
    assert SIZES["smoke"] == PROMPTS_TO_GATE


AXES = {"subject": 8, "action": 8, "camera": 8, "style": 8, "count": 4, "colour": 8, "relation": 8}


@pytest.mark.parametrize("axis", AXES)
def test_standard_is_balanced(axis: str) -> None:
    counts = Counter(tags(prompt)[axis] for prompt in load("standard"))
    assert set(counts.values()) == {64 // AXES[axis]}
    assert min(counts.values()) >= PROMPTS_TO_GATE  # so every value can gate by itself


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(AXES, 2)))
def test_every_two_axes_of_standard_are_balanced_together(one: str, other: str) -> None:
    """An orthogonal array: the effect of one axis is never another's in disguise."""
    pairs = Counter((tags(p)[one], tags(p)[other]) for p in load("standard"))
    assert len(pairs) == AXES[one] * AXES[other]
    assert len(set(pairs.values())) == 1


SAYS = {
    "camera": {
        "static": "static camera",
        "pan-left": "camera pans left",
        "pan-right": "camera pans right",
        "tilt-up": "camera tilts up",
        "zoom-in": "camera zooms in",
        "zoom-out": "camera zooms out",
        "orbit": "camera circles",
        "tracking": "tracking shot",
    },
    "style": {
        "documentary": "documentary footage",
        "cinematic": "cinematic",
        "vintage-film": "vintage film",
        "studio": "studio",
        "watercolour": "watercolour painting",
        "clay": "clay animation",
        "paper-cutout": "paper cut-out animation",
        "pixel-art": "pixel art",
    },
    "relation": {
        "left-of": "to the left of",
        "right-of": "to the right of",
        "above": "above",
        "below": "below",
        "in-front-of": "in front of",
        "behind": "behind",
        "inside": "inside",
        "on-top-of": "on top of",
    },
    "count": {word: word for word in ("one", "two", "three", "four")},
    "colour": {
        word: word
        for word in ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
    },
}


@pytest.mark.parametrize("axis", SAYS)
def test_texts_of_standard_say_what_their_tags_say_and_nothing_else(axis: str) -> None:
    for prompt in load("standard"):
        said = [v for v, w in SAYS[axis].items() if re.search(rf"\b{w}\b", prompt.text.lower())]
        assert said == [tags(prompt)[axis]], prompt.text


def test_every_kind_of_motion_can_gate_by_itself() -> None:
    kinds = Counter(tags(prompt)["kind"] for prompt in load("motion"))
    assert kinds == dict.fromkeys(
        ("camera", "rigid", "periodic", "fluid", "articulated", "still"), PROMPTS_TO_GATE
    )
    for kind in kinds:
        speeds = Counter(tags(prompt)["speed"] for prompt in load(f"motion:kind:{kind}"))
        assert speeds == ({"still": 8} if kind == "still" else {"fast": 4, "slow": 4})


def test_a_pair_of_long_prompts_differs_at_its_end_alone() -> None:
    assert len(load("long:tail:a")) == PROMPTS_TO_GATE
    for one, other in zip(load("long:tail:a"), load("long:tail:b"), strict=True):
        assert tags(one)["pair"] == tags(other)["pair"]
        same = next(i for i, (a, b) in enumerate(zip(one.text, other.text)) if a != b)  # noqa: B905
        words = len(one.text[:same].split())
        assert len(one.text[same:].split()) <= 15
        assert max(len(one.text), len(other.text)) - same < 90
        # Roughly, from the tokenizers that docs/prompts.md names; its table has the counts.
        past = [int(tag.split(":")[1]) for tag in one.tags if tag.startswith("past:")]
        assert all(words * 1.2 >= limit for limit in past)
        assert int(tags(one)["tokens"]) == pytest.approx(len(one.text.split()) * 1.35, rel=0.1)


@pytest.mark.parametrize(
    ("limit", "pairs"), [(77, 7), (128, 6), (226, 5), (256, 4), (512, 1)], ids=str
)
def test_long_reaches_past_every_limit(limit: int, pairs: int) -> None:
    assert len(load(f"long:past:{limit}")) == 2 * pairs


def test_a_model_that_drops_the_end_of_a_prompt_makes_one_video_of_a_pair() -> None:
    """What ``long`` is for, with a real encoder that reads 64 or 512 tokens (here: bytes)."""
    from pytest_vdb.models.catalog import CATALOG
    from pytest_vdb.models.open import open_source

    spec = next(spec for spec in CATALOG if spec.name == "tiny-wan")
    source = open_source(spec)
    size = {"num_frames": 5, "height": 64, "width": 64, "num_inference_steps": 2}

    def videos(limit: int) -> set[bytes]:
        call = {**spec.call, **size, "max_sequence_length": limit}
        return {source.generate(p, 0, call).frames.tobytes() for p in load("long:pair:1")}

    assert len(videos(64)) == 1
    assert len(videos(512)) == 2


def test_shapes_are_the_scenes_that_training_never_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools" / "train_shapes"))
    import data
    import suite

    assert "".join(f"{line}\n" for line in suite.lines()) == (
        Path(prompts.__file__).with_name("shapes.jsonl").read_text(encoding="utf-8")
    )
    asked = [scenes.read(prompt.text) for prompt in load("shapes")]
    assert asked == list(data.held_out())
    assert not set(asked) & set(data.training())
    assert {*asked, *data.training()} == set(scenes.scenes())
    for scene, prompt in zip(asked, load("shapes"), strict=True):
        assert tags(prompt) == asdict(scene)


@pytest.mark.parametrize("tag", ["shape:circle", "direction:left", "background:white"])
def test_a_part_of_shapes_can_gate_by_itself(tag: str) -> None:
    assert len(load(f"shapes:{tag}")) >= PROMPTS_TO_GATE


def test_images_are_those_that_the_suite_was_written_for() -> None:
    for prompt in load("images"):
        assert prompt.image is not None
        assert os.path.isabs(prompt.image)
        content = Path(prompt.image).read_bytes()
        assert prompt.image_sha256 == hashlib.sha256(content).hexdigest()
        with Image.open(prompt.image) as picture:
            assert min(picture.size) >= 300
    code = (
        "import sys, pathlib; from pytest_vdb import prompts; "
        "prompts.load('images', pathlib.Path()); prompts.describe(); "
        "assert not {'skimage', 'PIL', 'numpy', 'vbench'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_without_scikit_image_it_is_named() -> None:
    code = (
        "import sys, pathlib; sys.modules['skimage'] = None; from pytest_vdb import prompts; "
        "assert next(s for s in prompts.describe() if s.name == 'images').n == 12; "
        "prompts.load('images', pathlib.Path())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "UnknownPrompts: suite 'images', line 1" in done.stderr
    assert 'pip install "pytest-vdb[images]"' in done.stderr
