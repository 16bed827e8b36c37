"""The renderer: a scene becomes a clip, antialiased, with numpy alone."""

from __future__ import annotations

import numpy as np

from pytest_vdb.metrics.shapes import coverage
from pytest_vdb.scenes import BACKGROUNDS, COLORS, DIRECTIONS, Scene

SIZE, FRAMES = 64, 9
RADIUS = (11.0, 15.0)  # px at 64: smaller corners drown in a VAE's cells of 8 px
TRAVEL = (20.0, 26.0)  # px at 64, from the first frame to the last


def render(
    scene: Scene, rng: np.random.Generator, size: int = SIZE, frames: int = FRAMES
) -> np.ndarray:
    """A clip of ``scene``: uint8 (frames, size, size, 3), RGB, the shape always inside the frame.

    ``rng`` draws the radius, the place and how far the shape travels, at constant speed.
    """
    scale = size / SIZE
    dx, dy = DIRECTIONS[scene.direction]
    travel = rng.uniform(*TRAVEL) * np.linspace(-0.5, 0.5, frames)
    radius = rng.uniform(*RADIUS)
    off = rng.uniform(-1, 1, 2) * np.where([dx, dy], 3.0, 9.0)
    x = (SIZE / 2 + off[0] + dx * travel) * scale
    y = (SIZE / 2 + off[1] + dy * travel) * scale
    alpha = coverage(scene.shape, x, y, np.full(frames, radius * scale), size, size)[..., None]
    color, background = np.array(COLORS[scene.color]), np.array(BACKGROUNDS[scene.background])
    return np.rint(background + alpha * (color - background)).astype(np.uint8)
