"""How alike the frames of a video are to a network, and how beautiful they are to one.

Rows are networks' features, (T, D), a row a frame; metrics are functions of them in float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_vdb.errors import Unmeasured
from pytest_vdb.metrics import preprocess

if TYPE_CHECKING:
    import torch

SIDE = 224
LITE_MEAN, LITE_STD = (127 / 255,) * 3, (128 / 255,) * 3  # (x − 127) / 128, as Lite was trained

# ---------------------------------------------------------------------------- rows


def dino(network: Any, frames: torch.Tensor) -> torch.Tensor:
    """uint8 (N, 3, H, W) → (N, 768): DINO's class token of the whole frame, as VBench takes it.

    The shorter side becomes 224 px, bilinear, *without* antialiasing; nothing is cropped.
    """
    small = preprocess.resize_shorter(frames, SIDE, antialias=False)
    return network(preprocess.normalize(small, preprocess.IMAGENET_MEAN, preprocess.IMAGENET_STD))


def clip_vbench(network: Any, frames: torch.Tensor) -> torch.Tensor:
    """uint8 (N, 3, H, W) → (N, D): a CLIP network of the frame's middle, as VBench takes it.

    The shorter side becomes the network's, bicubic, *without* antialiasing or clipping.
    """
    return _clip(network, frames, antialias=False)


def clip(network: Any, frames: torch.Tensor) -> torch.Tensor:
    """uint8 (N, 3, H, W) → (N, D): a CLIP network of the frame's middle, as CLIP was trained.

    The shorter side becomes the network's, bicubic with antialiasing.
    """
    return _clip(network, frames, antialias=True)


def _clip(network: Any, frames: torch.Tensor, antialias: bool) -> torch.Tensor:
    small = preprocess.resize_shorter(frames, network.side, "bicubic", antialias=antialias)
    square = preprocess.center_crop(small, network.side)
    return network(preprocess.normalize(square, preprocess.CLIP_MEAN, preprocess.CLIP_STD))


def efficientnet(network: Any, frames: torch.Tensor) -> torch.Tensor:
    """uint8 (N, 3, H, W) → (N, 1280) of the whole frame; the shorter side becomes 224 px."""
    small = preprocess.resize_shorter(frames, SIDE, "bicubic")
    return network(preprocess.normalize(small, LITE_MEAN, LITE_STD))


# ---------------------------------------------------------------------------- metrics


def consistency(features: np.ndarray) -> float:
    """Mean over t ≥ 1 of ½ [max(0, cos(f_t, f_{t−1})) + max(0, cos(f_t, f_0))], in [0, 1].

    ``features``: (T, D), a row a frame; higher is better. VBench's subject consistency (DINO) and
    background consistency (CLIP), Huang et al., CVPR 2024. A frozen video scores 1. Raises
    Unmeasured for fewer than two frames and for a feature that is zero or not finite.
    """
    adjacent, first = _cosines(features)
    return float(np.mean((np.maximum(adjacent, 0) + np.maximum(first, 0)) / 2))


def semantic_consistency(features: np.ndarray) -> float:
    """Mean over t ≥ 1 of ½ [cos(f_t, f_{t−1}) + cos(f_t, f_0)], in [−1, 1].

    As `consistency` without the clipping, of features that see what a frame shows. Raises as
    `consistency` does.
    """
    return float(np.mean(_semantic(features)))


def semantic_consistency_worst_frame(features: np.ndarray) -> float:
    """Least over t ≥ 1 of ½ [cos(f_t, f_{t−1}) + cos(f_t, f_0)], in [−1, 1].

    One broken frame or one cut, which a mean over a hundred frames hides. Raises as `consistency`
    does.
    """
    return float(np.min(_semantic(features)))


def aesthetic_quality(ratings: np.ndarray) -> float:
    """Mean of the frames' ratings / 10; ``ratings``: (T, 1), about 1 to 10; higher is better.

    VBench's aesthetic quality. Not bounded: the rating is a linear function. Raises Unmeasured for
    a rating that is not finite.
    """
    return float(np.mean(_finite(ratings)) / 10)


def unit(features: np.ndarray) -> np.ndarray:
    """(T, D) → float64 (T, D) of length 1. Raises Unmeasured for a zero row or one not finite."""
    lengths = np.linalg.norm(_finite(features), axis=1, keepdims=True)
    if not lengths.all():
        raise Unmeasured(
            f"the network gave zeros for frame {int(np.argmin(lengths))}, which have no cosine"
        )
    return np.asarray(features, dtype=np.float64) / lengths


def _semantic(features: np.ndarray) -> np.ndarray:
    adjacent, first = _cosines(features)
    return np.asarray((adjacent + first) / 2)


def _cosines(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each frame but the first: with the one before it, with the first one. (T − 1,) each."""
    if len(features) < 2:
        raise Unmeasured("a video of one frame has no consistency; it needs num_frames=2")
    rows = unit(features)
    return np.einsum("td,td->t", rows[1:], rows[:-1]), rows[1:] @ rows[0]


def _finite(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise Unmeasured(
            f"the network gave a number that is not finite for frame {int(np.argmax(bad))}; in "
            "half precision that is an overflow: compute metrics in float32"
        )
    return values
