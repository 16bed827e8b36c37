"""Imaging quality: noise, blur and exposure, by a network that learned from judged photographs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_vdb.errors import Unmeasured
from pytest_vdb.metrics.preprocess import resize

if TYPE_CHECKING:
    import torch

LONGEST = 512
"""Frames with a longer side are brought down to it first, as VBench does."""


def quality(network: torch.nn.Module, frames: torch.Tensor) -> torch.Tensor:
    """MUSIQ's opinion of each frame, (N, 1), about 0 to 100.

    ``network`` is a MUSIQ and ``frames`` are uint8 (N, 3, H, W). A longer side above 512 px is
    brought down to it bilinearly, without antialiasing or rounding to whole grey levels: VBench's
    numbers would move with a better filter. Raises Unmeasured for frames so narrow that nothing is
    left of them at the network's smallest scale.
    """
    from pytest_vdb.metrics.networks.musiq import LONGER, scaled

    height, width = frames.shape[-2:]
    if not all(scaled(*fitting(height, width), LONGER[0])):
        raise Unmeasured(
            f"imaging_quality: a frame of {height}×{width} px has no pixel left when its longer "
            f"side is {LONGER[0]} px; compare the sides of the video with what was asked for"
        )
    small = resize(frames, *fitting(height, width), antialias=False)  # as VBench's transform
    result: torch.Tensor = network(small / 255)
    return result


def imaging_quality(scores: np.ndarray) -> float:
    """Mean of the frames' scores / 100, about 0 to 1, higher is better.

    ``scores`` are (M, 1) floats on MUSIQ's scale, 0 to 100. VBench's imaging quality (Huang et
    al., CVPR 2024), which gives 0 to 100 for a video and this only for all of them. The network's
    last layer is linear, so a value may lie outside 0 to 1.
    """
    return float(np.mean(scores)) / 100


def fitting(height: int, width: int, longest: int = LONGEST) -> tuple[int, int]:
    """Height and width with the longer side at most ``longest`` px, truncated to whole px."""
    if max(height, width) <= longest:
        return height, width
    scale = longest / max(height, width)
    return int(scale * height), int(scale * width)
