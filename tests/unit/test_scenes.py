"""What a caption says, and which texts are none."""

from __future__ import annotations

from collections import Counter

import pytest

from pytest_vdb.scenes import (
    ATTRIBUTES,
    BACKGROUNDS,
    COLORS,
    DIRECTIONS,
    SHAPES,
    TEMPLATES,
    Scene,
    read,
    scenes,
)


def test_every_scene_is_there_once_but_blue_on_blue() -> None:
    known = scenes()
    every = len(COLORS) * len(SHAPES) * len(DIRECTIONS) * len(BACKGROUNDS)
    assert len(known) == len(set(known)) == 276 == every - len(SHAPES) * len(DIRECTIONS)
    assert not any(scene.color == scene.background for scene in known)
    assert {*Counter(scene.shape for scene in known).values()} == {92}


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_caption_is_read_back(template: str) -> None:
    for scene in scenes():
        assert read(scene.caption(template)) == scene
        assert read(scene.caption(template).upper() + ".") == scene


def test_attributes_are_the_fields_in_order() -> None:
    red = Scene("red", "circle", "left", "blue")
    assert tuple(getattr(red, name) for name in ATTRIBUTES) == ("red", "circle", "left", "blue")
    assert red.caption() == "a red circle moves left on a blue background"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a red fox in the snow",
        "a circle moves left on a blue background",
        "a red green circle moves left on a blue background",
        "a red circle and a square move left on a blue background",
        "a red circle moves on a blue background",
        "a red circle moves left and up on a blue background",
        "a red circle moves left",
        "a red circle moves left on a background",
        "a red circle moves left on a green background",
        "a red circle moves left on a blue background, white background",
        "background: a red circle moves left on blue",
        "a blue circle moves left on a blue background",
    ],
)
def test_a_text_that_says_too_little_or_too_much_is_no_scene(text: str) -> None:
    assert read(text) is None


def test_palettes_are_far_enough_apart_to_be_told() -> None:
    """What is near one color, or one background, is near no other."""
    from pytest_vdb.metrics.shapes import NEAR

    for palette in (COLORS, BACKGROUNDS):
        for one in palette:
            for other in {*palette} - {one}:
                away = sum((a - b) ** 2 for a, b in zip(palette[one], palette[other], strict=True))
                assert away**0.5 > 1.8 * NEAR
