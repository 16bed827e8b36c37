"""Metrics against the baseline's video, without a network.

Both videos are uint8 (T, H, W, 3), RGB, of one shape. Every frame is computed by itself, so no
number depends on a batch size, and memory does not grow with length. The functions that end in
``_rows`` give a row a frame; a mean and its worst frame are two readings of the same rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from pytest_vdb.errors import Unmeasured

if TYPE_CHECKING:
    import torch

PSNR_CAP = 100.0
"""dB for identical frames, whose PSNR is infinite: neither JSON nor a mean can hold infinity."""
SSIM_MIN = 11  # px: one whole window
MS_SSIM_MIN = 176  # px: the window on the fifth scale, 11 · 2⁴
BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang, Simoncelli, Bovik 2003

Frame = Callable[[np.ndarray, np.ndarray], float]


def psnr(frames: np.ndarray, reference: np.ndarray) -> float:
    """10·log10(255²/MSE) of each frame in dB, capped at 100; mean over frames."""
    return mean(psnr_rows(frames, reference))


def psnr_worst_frame(frames: np.ndarray, reference: np.ndarray) -> float:
    """`psnr` of the worst frame."""
    return lowest(psnr_rows(frames, reference))


def ssim(frames: np.ndarray, reference: np.ndarray) -> float:
    """SSIM (Wang et al. 2004) of each RGB frame, 11×11 Gaussian window, σ 1.5; mean over frames.

    In [−1, 1]; 1 is identical. Raises Unmeasured for frames under 11 px.
    """
    return mean(ssim_rows(frames, reference))


def ssim_worst_frame(frames: np.ndarray, reference: np.ndarray) -> float:
    """`ssim` of the worst frame."""
    return lowest(ssim_rows(frames, reference))


def ms_ssim(frames: np.ndarray, reference: np.ndarray) -> float:
    """MS-SSIM (Wang, Simoncelli, Bovik 2003) of each RGB frame, five scales; mean over frames.

    In [0, 1]; 1 is identical. Raises Unmeasured for frames under 176 px: with fewer scales it
    would be another metric under the published name.
    """
    return mean(ms_ssim_rows(frames, reference))


def ms_ssim_worst_frame(frames: np.ndarray, reference: np.ndarray) -> float:
    """`ms_ssim` of the worst frame."""
    return lowest(ms_ssim_rows(frames, reference))


def mad(frames: np.ndarray, reference: np.ndarray) -> float:
    """Mean absolute difference of all values in grey levels, [0, 255], lower is better. Exact."""
    return mean_difference(difference_rows(frames, reference))


def p99_difference(frames: np.ndarray, reference: np.ndarray) -> float:
    """The 99th percentile of the absolute differences of all values of the whole video.

    In grey levels, [0, 255], lower is better: `numpy.percentile(…, 99)`, interpolated between the
    two nearest ranks. Exact, from counts: memory does not grow with length.
    """
    return percentile_99(difference_rows(frames, reference))


def psnr_rows(frames: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(T, 1) float64: `psnr` of each frame in dB."""
    return _rows(_psnr, frames, reference)


def ssim_rows(frames: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(T, 1) float64: `ssim` of each frame. Raises Unmeasured as it does."""
    _require_size("ssim", frames, SSIM_MIN, "one whole 11 px window")
    return _rows(_ssim, frames, reference)


def ms_ssim_rows(frames: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(T, 1) float64: `ms_ssim` of each frame. Raises Unmeasured as it does."""
    _require_size("ms_ssim", frames, MS_SSIM_MIN, "five scales of an 11 px window; ssim needs less")
    return _rows(_ms_ssim, frames, reference)


def difference_rows(frames: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(T, 256) float64: how many values of each frame differ by 0, 1, … 255 grey levels."""
    return np.array(
        [
            np.bincount(np.abs(np.subtract(a, b, dtype=np.int16)).ravel(), minlength=256)
            for a, b in zip(frames, reference, strict=True)
        ],
        dtype=np.float64,
    )


def mean(rows: np.ndarray) -> float:
    """Of rows (T, 1), one a frame: their mean."""
    return float(rows.mean())


def lowest(rows: np.ndarray) -> float:
    """Of rows (T, 1), one a frame: the worst frame where higher is better."""
    return float(rows.min())


def highest(rows: np.ndarray) -> float:
    """Of rows (T, 1), one a frame: the worst frame where lower is better."""
    return float(rows.max())


def mean_difference(rows: np.ndarray) -> float:
    """`mad` of `difference_rows`."""
    counts = rows.sum(0)
    return float(counts @ np.arange(256) / counts.sum())


def percentile_99(rows: np.ndarray) -> float:
    """`p99_difference` of `difference_rows`."""
    up_to = rows.sum(0).cumsum()
    rank = 0.99 * (up_to[-1] - 1)
    below, above = (int(np.searchsorted(up_to, r, "right")) for r in (int(rank), math.ceil(rank)))
    return below + (above - below) * (rank - int(rank))


def _rows(metric: Frame, frames: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(T, 1) float64."""
    return np.array([[metric(a, b)] for a, b in zip(frames, reference, strict=True)])


def _psnr(ours: np.ndarray, theirs: np.ndarray) -> float:
    from torchmetrics.functional.image import peak_signal_noise_ratio

    value = peak_signal_noise_ratio(
        _planes(ours).double(), _planes(theirs).double(), data_range=255.0
    )
    return min(float(value), PSNR_CAP)


def _ssim(ours: np.ndarray, theirs: np.ndarray) -> float:
    if np.array_equal(ours, theirs):
        return 1.0  # SSIM(x, x) = 1; float32 misses it by 1e-4 where a frame is flat
    return _map_mean(_planes(ours), _planes(theirs))


def _ms_ssim(ours: np.ndarray, theirs: np.ndarray) -> float:
    from torch.nn.functional import avg_pool2d
    from torchmetrics.functional.image import structural_similarity_index_measure

    if np.array_equal(ours, theirs):
        return 1.0
    a, b = _planes(ours), _planes(theirs)
    product = 1.0
    for beta in BETAS[:-1]:
        _, contrast = structural_similarity_index_measure(
            a, b, data_range=255.0, return_contrast_sensitivity=True
        )
        product *= max(float(contrast), 0.0) ** beta
        a, b = avg_pool2d(a, 2), avg_pool2d(b, 2)
    return float(product * max(_map_mean(a, b), 0.0) ** BETAS[-1])


def _map_mean(a: torch.Tensor, b: torch.Tensor) -> float:
    """Mean of the whole SSIM map of two (1, 3, H, W) tensors in 0 to 255.

    From the map, not from torchmetrics' own mean: version 1.4 leaves the border out and later
    ones do not, and one name must not mean two numbers.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    _, full = structural_similarity_index_measure(a, b, data_range=255.0, return_full_image=True)
    return float(full.double().mean())


def _planes(frame: np.ndarray) -> torch.Tensor:
    """(H, W, 3) uint8 → (1, 3, H, W) float32 in 0 to 255."""
    import torch

    return torch.from_numpy(frame.transpose(2, 0, 1)[None].astype(np.float32))


def _require_size(name: str, frames: np.ndarray, least: int, why: str) -> None:
    height, width = frames.shape[1:3]
    if min(height, width) < least:
        raise Unmeasured(
            f"{name}: frames of {height}×{width} px are too small; "
            f"it needs {least}×{least} px ({why})"
        )
