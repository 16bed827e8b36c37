"""Metrics of the video alone.

Every function takes uint8 (T, H, W, 3) RGB frames, works through them one frame at a time (so
memory does not grow with length) and sums integers exactly where the formula allows it.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from pytest_vdb.errors import Unmeasured

LUMA = (299, 587, 114)  # BT.601 in thousandths: integers, so that sums are exact


def temporal_flickering(frames: np.ndarray) -> float:
    """(255 − mean absolute difference of adjacent frames) / 255, in [0, 1], higher is better.

    VBench's temporal flickering (Huang et al., CVPR 2024), meant for static scenes: motion lowers
    it as flicker does, and a frozen video scores 1. Raises Unmeasured for a single frame.
    """
    _require_pairs("temporal_flickering", frames)
    total = sum(
        int(np.abs(np.subtract(after, before, dtype=np.int16)).sum())
        for before, after in pairwise(frames)
    )
    return 1 - total / (255 * frames[1:].size)


def motion_energy(frames: np.ndarray) -> float:
    """Mean absolute difference of the luma of adjacent frames / 255, in [0, 1], higher is better.

    A floor, not a quality: noise and shuffled frames raise it. It stands beside a consistency
    metric, which a frozen video would win. Raises Unmeasured for a single frame.
    """
    _require_pairs("motion_energy", frames)
    total, before = 0, _luma(frames[0])
    for frame in frames[1:]:
        after = _luma(frame)
        total += int(np.abs(after - before).sum(dtype=np.int64))
        before = after
    return total / (sum(LUMA) * 255 * (frames[1:].size // 3))


def sharpness(frames: np.ndarray) -> float:
    """Variance of the Laplacian of the luma, in grey levels², mean over frames, higher is better.

    LAPV of Pech-Pacheco et al., ICPR 2000: the 4-neighbour Laplacian of the luma (0 to 255) over
    the interior of the frame. Noise and contrast raise it too, so compare the same prompts and
    seeds only. Raises Unmeasured for frames under 3×3 px.
    """
    if min(frames.shape[1:3]) < 3:
        raise Unmeasured(
            f"sharpness: frames of {frames.shape[1]}×{frames.shape[2]} px have no interior; "
            "it needs 3×3 px"
        )
    return math.fsum(_laplacian_variance(frame) for frame in frames) / len(frames)


def _laplacian_variance(frame: np.ndarray) -> float:
    y = _luma(frame)
    laplacian = y[:-2, 1:-1] + y[2:, 1:-1] + y[1:-1, :-2] + y[1:-1, 2:] - 4 * y[1:-1, 1:-1]
    return float(np.var(laplacian / sum(LUMA)))


def _luma(frame: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 → (H, W) int32, the BT.601 luma times 1000."""
    red, green, blue = (weight * frame[..., i].astype(np.int32) for i, weight in enumerate(LUMA))
    return red + green + blue


def _require_pairs(name: str, frames: np.ndarray) -> None:
    if len(frames) < 2:
        raise Unmeasured(f"{name}: a video of one frame has no motion; it needs num_frames=2")
