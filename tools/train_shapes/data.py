"""The training set: which scenes are held out, and clips of the others."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from render import render

from pytest_vdb.scenes import DIRECTIONS, SHAPES, Scene, scenes

PER_CELL = 4


def held_out() -> tuple[Scene, ...]:
    """The 48 scenes that training never sees: 4 of each shape and direction, drawn with seed 0."""
    rng = np.random.default_rng(0)
    chosen: list[Scene] = []
    for shape, direction in product(SHAPES, DIRECTIONS):
        those = [s for s in scenes() if (s.shape, s.direction) == (shape, direction)]
        chosen += [those[i] for i in rng.choice(len(those), PER_CELL, replace=False)]
    return tuple(chosen)


def training() -> tuple[Scene, ...]:
    hidden = set(held_out())
    return tuple(scene for scene in scenes() if scene not in hidden)


def clips(count: int, seed: int) -> tuple[list[Scene], torch.Tensor]:
    """``count`` clips, every training scene equally often: uint8 (count, 3, T, H, W)."""
    rng = np.random.default_rng(seed)
    those = training()
    order = np.concatenate([rng.permutation(len(those)) for _ in range(-(-count // len(those)))])
    which = [those[i] for i in order[:count]]
    video = np.stack([render(scene, rng) for scene in which])
    return which, torch.from_numpy(video).permute(0, 4, 1, 2, 3).contiguous()


def signal(video: torch.Tensor) -> torch.Tensor:
    """uint8 → float32 in [−1, 1], as a VAE takes it."""
    return video.float() / 127.5 - 1
