"""Frames as networks want them: resized with antialiasing, cropped, normalised. Only torch.

What Pillow gives for 8-bit pictures, and torchvision for float ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_vdb.errors import Unmeasured

if TYPE_CHECKING:
    import torch

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
LONGEST = 16  # times the shorter side: beyond it the resized frame would fill the memory


def resize(
    frames: torch.Tensor,
    height: int,
    width: int,
    mode: str = "bilinear",
    *,
    antialias: bool = True,
) -> torch.Tensor:
    """(N, 3, H, W), uint8 or float → float32 (N, 3, height, width).

    ``mode`` is ``"bilinear"`` or ``"bicubic"``. Values stay on their scale. With ``antialias`` it
    is Pillow's filter (bicubic with a = −0.5), and 8-bit frames stay whole grey levels: as in
    Pillow, rows are resized first, and after each of the two passes values are rounded and
    bicubic's overshoot is clipped to 0–255. Without, it is torch's on floats (a = −0.75), which
    takes the nearest pixels only, so it aliases where it shrinks; nothing is rounded or clipped.
    """
    from torch.nn.functional import interpolate

    def scaled(values: torch.Tensor, *size: int) -> torch.Tensor:
        if values.shape[-2:] == size:
            return values
        return interpolate(values, size, mode=mode, antialias=antialias)

    if frames.dtype.is_floating_point or not antialias:
        return scaled(frames.float(), height, width)
    rows = _grey(scaled(frames.float(), frames.shape[-2], width))
    return _grey(scaled(rows, height, width))


def _grey(values: torch.Tensor) -> torch.Tensor:
    return (values + 0.5).floor().clamp(0, 255)


def resize_shorter(
    frames: torch.Tensor, side: int, mode: str = "bilinear", *, antialias: bool = True
) -> torch.Tensor:
    """Resize so that the shorter side has ``side`` px; the longer one is truncated to whole px.

    Raises Unmeasured for frames more than ``LONGEST`` times as long as they are wide.
    """
    require_like(frames)
    height, width = frames.shape[-2:]
    if height <= width:
        size = side, int(side * width / height)
    else:
        size = int(side * height / width), side
    return resize(frames, *size, mode, antialias=antialias)


def require_like(frames: torch.Tensor) -> None:
    """Raise Unmeasured for frames (..., H, W) more than ``LONGEST`` times as long as wide."""
    height, width = frames.shape[-2:]
    if max(height, width) > LONGEST * min(height, width):
        raise Unmeasured(
            f"frames of {width}×{height} px are more than {LONGEST} times as long as they are "
            "wide, so no network has seen their like; crop the video first"
        )


def center_crop(frames: torch.Tensor, side: int) -> torch.Tensor:
    """The middle ``side`` × ``side`` px; rounds the corner as torchvision does.

    Raises Unmeasured for frames that are smaller.
    """
    height, width = frames.shape[-2:]
    if min(height, width) < side:
        raise Unmeasured(
            f"frames of {width}×{height} px have no middle of {side}×{side} px; resize them first"
        )
    top, left = (round((length - side) / 2) for length in (height, width))
    return frames[..., top : top + side, left : left + side]


def normalize(frames: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """(x / 255 − mean) / std a channel, of frames on the scale 0–255."""
    values = frames.float() / 255
    average, spread = (values.new_tensor(numbers).view(1, 3, 1, 1) for numbers in (mean, std))
    return (values - average) / spread
