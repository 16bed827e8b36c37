"""Metrics against the baseline's video.

Both videos are uint8 (T, H, W, 3), RGB, of one shape. Every frame is computed by itself, so no
number depends on a batch size, and memory does not grow with length.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
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
    return float(_series(_psnr, frames, reference).mean())


def psnr_worst_frame(frames: np.ndarray, reference: np.ndarray) -> float:
    """`psnr` of the worst frame."""
    return float(_series(_psnr, frames, reference).min())


def ssim(frames: np.ndarray, reference: np.ndarray) -> float:
    """SSIM (Wang et al. 2004) of each RGB frame, 11×11 Gaussian window, σ 1.5; mean over frames.

    In [−1, 1]; 1 is identical. Raises Unmeasured for frames under 11 px.
    """
    return float(_ssim_series(frames, reference).mean())


def ssim_worst_frame(frames: np.ndarray, reference: np.ndarray) -> float:
    """`ssim` of the worst frame."""
    return float(_ssim_series(frames, reference).min())


def ms_ssim(frames: np.ndarray, reference: np.ndarray) -> float:
    """MS-SSIM (Wang, Simoncelli, Bovik 2003) of each RGB frame, five scales; mean over frames.

    In [0, 1]; 1 is identical. Raises Unmeasured for frames under 176 px: with fewer scales it
    would be another metric under the published name.
    """
    return float(_ms_ssim_series(frames, reference).mean())


def ms_ssim_worst_frame(frames: np.ndarray, reference: np.ndarray) -> float:
    """`ms_ssim` of the worst frame."""
    return float(_ms_ssim_series(frames, reference).min())


def _ssim_series(frames: np.ndarray, reference: np.ndarray) -> np.ndarray:
    _require_size("ssim", frames, SSIM_MIN, "one whole 11 px window")
    return _series(_ssim, frames, reference)


def _ms_ssim_series(frames: np.ndarray, reference: np.ndarray) -> np.ndarray:
    _require_size("ms_ssim", frames, MS_SSIM_MIN, "five scales of an 11 px window; ssim needs less")
    return _series(_ms_ssim, frames, reference)


_memo: OrderedDict[tuple[str, str, str], np.ndarray] = OrderedDict()


def _series(metric: Frame, frames: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(T,) float64. Remembered by content, so that a mean and its worst frame cost one pass."""
    key = (metric.__name__, _digest(frames), _digest(reference))
    if key not in _memo:
        pairs = zip(frames, reference, strict=True)
        _memo[key] = np.array([metric(ours, theirs) for ours, theirs in pairs])
        while len(_memo) > 64:
            _memo.popitem(last=False)
    return _memo[key]


def _digest(frames: np.ndarray) -> str:
    return f"{frames.shape}{hashlib.sha256(np.ascontiguousarray(frames).data).hexdigest()}"


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
