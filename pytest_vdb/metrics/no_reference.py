"""Metrics of the video alone, without a network.

Every metric is a function of uint8 (T, H, W, 3) RGB frames, and of rows that are computed a few
frames at a time, so memory does not grow with length. Integers are summed exactly where the formula
allows it: both ways give the same number.
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
    return flickering_of(difference_rows(frames))


def flickering_of(rows: np.ndarray) -> float:
    """`temporal_flickering` of `difference_rows`."""
    total, size = (math.fsum(column) for column in rows.T)
    return 1 - total / (255 * size)


def difference_rows(frames: np.ndarray) -> np.ndarray:
    """(T − 1, 2): the sum of the absolute differences of adjacent frames, and their number."""
    return np.array(
        [
            (np.abs(np.subtract(after, before, dtype=np.int16)).sum(dtype=np.int64), after.size)
            for before, after in pairwise(frames)
        ],
        dtype=np.float64,
    )


def motion_energy(frames: np.ndarray) -> float:
    """Mean absolute difference of the luma of adjacent frames / 255, in [0, 1], higher is better.

    A floor, not a quality: noise and shuffled frames raise it. It stands beside a consistency
    metric, which a frozen video would win. Raises Unmeasured for a single frame.
    """
    _require_pairs("motion_energy", frames)
    return motion_energy_of(luma_difference_rows(frames))


def motion_energy_of(rows: np.ndarray) -> float:
    """`motion_energy` of `luma_difference_rows`."""
    total, size = (math.fsum(column) for column in rows.T)
    return total / (sum(LUMA) * 255 * size)


def luma_difference_rows(frames: np.ndarray) -> np.ndarray:
    """(T − 1, 2): the sum of |difference| of adjacent lumas times 1000, and the pixels."""
    lumas = map(_luma, frames)
    return np.array(
        [(np.abs(b - a).sum(dtype=np.int64), b.size) for a, b in pairwise(lumas)],
        dtype=np.float64,
    )


def sharpness(frames: np.ndarray) -> float:
    """Variance of the Laplacian of the luma, in grey levels², mean over frames, higher is better.

    LAPV of Pech-Pacheco et al., ICPR 2000: the 4-neighbour Laplacian of the luma (0 to 255) over
    the interior of the frame. Noise and contrast raise it too, so compare the same prompts and
    seeds only. Raises Unmeasured for frames under 3×3 px.
    """
    return mean_of(sharpness_rows(frames))


def sharpness_rows(frames: np.ndarray) -> np.ndarray:
    """(T, 1): the variance of the Laplacian of each frame."""
    if min(frames.shape[1:3]) < 3:
        raise Unmeasured(
            f"sharpness: frames of {frames.shape[1]}×{frames.shape[2]} px have no interior; "
            "it needs 3×3 px"
        )
    return np.array([[_laplacian_variance(frame)] for frame in frames])


def mean_of(rows: np.ndarray) -> float:
    """The mean of rows of one number, (M, 1)."""
    return math.fsum(rows[:, 0]) / len(rows)


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
