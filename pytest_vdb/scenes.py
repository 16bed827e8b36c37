"""What the embedded model `shapes` was trained on: one shape that moves on a plain background.

A `Scene` is what such a caption says; the suite of prompts, the metrics and the renderer that made
the training data share it. Light: no numpy.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from itertools import product

SHAPES = ("circle", "square", "triangle")
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (225, 40, 40),
    "green": (40, 170, 60),
    "blue": (45, 80, 225),
    "yellow": (245, 215, 45),
    "purple": (150, 50, 190),
    "cyan": (45, 205, 215),
}
"""sRGB of each colour that a shape can have, 0 to 255."""
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "black": (16, 16, 16),
    "white": (240, 240, 240),
    "gray": (128, 128, 128),
    "blue": COLORS["blue"],
}
"""sRGB of each background, 0 to 255."""
DIRECTIONS: dict[str, tuple[int, int]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
}
"""Unit step (x, y) of each direction; y grows downwards, as rows of a frame do."""

TEMPLATES = (
    "a {color} {shape} moves {direction} on a {background} background",
    "a {color} {shape} that moves {direction}, {background} background",
    "on a {background} background, a {color} {shape} moves {direction}",
)
"""Captions of the training data; prompts use the first."""


@dataclass(frozen=True, order=True)
class Scene:
    """One caption's meaning: a key of each table above."""

    color: str
    shape: str
    direction: str
    background: str

    def caption(self, template: str = TEMPLATES[0]) -> str:
        """What the model is asked for: ``"a red circle moves left on a blue background"``."""
        return template.format(**asdict(self))


ATTRIBUTES = tuple(field.name for field in fields(Scene))


def scenes() -> tuple[Scene, ...]:
    """Every scene in which the shape can be seen: all but blue on blue."""
    combinations = product(COLORS, SHAPES, DIRECTIONS, BACKGROUNDS)
    return tuple(Scene(*c) for c in combinations if c[0] != c[3])


def read(text: str) -> Scene | None:
    """The scene that ``text`` describes; None unless it names each attribute exactly once, and the
    shape can be seen.

    The word before "background" is the background; "blue" elsewhere is the shape's colour.
    """
    words = re.findall(r"[a-z]+", text.lower())
    at = [i for i, word in enumerate(words) if word == "background"]
    if len(at) != 1 or at == [0] or words[at[0] - 1] not in BACKGROUNDS:
        return None
    background = words.pop(at[0] - 1)
    named = [[w for w in words if w in table] for table in (COLORS, SHAPES, DIRECTIONS)]
    if any(len(names) != 1 for names in named) or named[0] == [background]:
        return None
    (color,), (shape,), (direction,) = named
    return Scene(color, shape, direction, background)
