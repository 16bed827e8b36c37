"""Distances of deep features: LPIPS, shift-tolerant LPIPS and DISTS, one row a frame.

Each function takes the network of its name and two uint8 tensors (N, 3, H, W), RGB, on the
network's device, and gives (N, 1) float32 distances: 0 is identical, higher is worse. Frames keep
their size, as in the reference code; a frame's distance is that of the frame alone. Each raises
Unmeasured for frames that the network's pooling would reduce to nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pytest_vdb.errors import MissingWeights, Unmeasured, WrongWeights
from pytest_vdb.metrics.networks.trunks import Pool, l2_pool, max_pool
from pytest_vdb.metrics.preprocess import IMAGENET_MEAN, IMAGENET_STD, normalize
from pytest_vdb.metrics.weights import read_state

if TYPE_CHECKING:
    from pytest_vdb.metrics.networks.shift_tolerant import ShiftTolerant
    from pytest_vdb.metrics.networks.trunks import Trunk

# LPIPS shifts and scales pictures in [−1, 1]; this is the same for pictures in [0, 1].
LPIPS_MEAN = tuple((shift + 1) / 2 for shift in (-0.030, -0.088, -0.188))
LPIPS_STD = tuple(scale / 2 for scale in (0.458, 0.448, 0.450))
EPS = 1e-10  # of LPIPS, beside a feature's norm
STABLE = 1e-6  # c1 and c2 of DISTS

# The published heads, as torchmetrics ships them, and what their sha256 begins with.
HEADS = {
    "alex": ("lpips_models/alex.pth", "df73285e35b22355"),
    "vgg": ("lpips_models/vgg.pth", "a78928a0af1e5f0f"),
    "dists": ("dists_models/weights.pt", "f5e65c96230b7f6c"),
}

Pairs = Iterator[tuple[torch.Tensor, torch.Tensor]]


def lpips(trunk: Trunk, frames: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """LPIPS 0.1 over torchvision's AlexNet (Zhang et al., CVPR 2018); 31 px at least.

    Features of five ReLUs, of unit length in every place; Σ over stages of the mean over places of
    their squared differences, weighted by channel (the published linear heads).
    """
    _require("lpips", frames, 31)
    return _weighted(_pairs(trunk, frames, reference), _heads("alex", frames.device))


def lpips_vgg(trunk: Trunk, frames: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """`lpips` over VGG16 with its own heads; 16 px at least. Not on the same scale."""
    _require("lpips_vgg", frames, 16)
    pairs = _pairs(trunk, frames, reference, max_pool)
    return _weighted(pairs, _heads("vgg", frames.device))


def st_lpips(network: ShiftTolerant, frames: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Shift-tolerant LPIPS (Ghildyal & Liu, ECCV 2022): LPIPS's formula, blurred networks.

    Over AlexNet or VGG16, whichever ``network`` is; the package's example uses AlexNet.
    """
    _require("st_lpips", frames, network.least)
    return _weighted(_pairs(network.trunk, frames, reference), list(network.heads))


def dists(trunk: Trunk, frames: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """DISTS (Ding et al., TPAMI 2020) over VGG16 with L2 pooling; 1 px at least.

    1 − Σ over the channels of the picture and five ReLUs of α·l + β·s, where l compares their means
    and s is their covariance over their mean variance. Computed as the sum of α·(1 − l) and
    β·(1 − s), which is the same and exactly 0 for equal frames.
    """
    weights = _read_heads("dists", frames.device)
    total = frames.new_zeros(len(frames), 1, dtype=torch.float32)
    start = 0
    for a, b in _with_pictures(trunk, frames, reference):
        channels = slice(start, start + a.shape[1])
        start = channels.stop
        alpha, beta = (weights[name][:, channels, 0, 0] for name in ("alpha", "beta"))
        texture, structure = _dissimilarity(a, b)
        total += (alpha * texture + beta * structure).sum(1, keepdim=True)
    return total / sum(weights[name].sum() for name in ("alpha", "beta"))


def _dissimilarity(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """1 − l and 1 − s of DISTS, (N, C) each, of features (N, C, H, W)."""
    mean_a, mean_b = (x.mean((2, 3), keepdim=True) for x in (a, b))
    a, b = a - mean_a, b - mean_b
    texture = (mean_a - mean_b) ** 2 / (mean_a**2 + mean_b**2 + STABLE)
    spread = (a**2).mean((2, 3)) + (b**2).mean((2, 3)) + STABLE
    return texture[:, :, 0, 0], ((a - b) ** 2).mean((2, 3)) / spread


def _with_pictures(trunk: Trunk, frames: torch.Tensor, reference: torch.Tensor) -> Pairs:
    """The pictures in [0, 1], then the stages."""
    yield frames.float() / 255, reference.float() / 255
    yield from _pairs(trunk, frames, reference, l2_pool, IMAGENET_MEAN, IMAGENET_STD)


def _pairs(
    trunk: Trunk,
    frames: torch.Tensor,
    reference: torch.Tensor,
    pool: Pool | None = None,
    mean: Sequence[float] = LPIPS_MEAN,
    std: Sequence[float] = LPIPS_STD,
) -> Pairs:
    """Both videos' features, a stage at a time, in float32 whatever the convolutions are in."""
    ours, theirs = (trunk(normalize(x, mean, std), pool) for x in (frames, reference))
    for a, b in zip(ours, theirs, strict=True):
        yield a.float(), b.float()


def _weighted(pairs: Pairs, heads: Sequence[torch.Tensor]) -> torch.Tensor:
    """Σ over stages of the mean over places of head · (â − b̂)², (N, 1)."""
    stages = zip(pairs, heads, strict=True)
    distances = [((_unit(a) - _unit(b)) ** 2 * head).sum(1).mean((1, 2)) for (a, b), head in stages]
    return torch.stack(distances).sum(0)[:, None]


def _unit(features: torch.Tensor) -> torch.Tensor:
    return features / (features.square().sum(1, keepdim=True).sqrt() + EPS)


def _heads(kind: str, device: torch.device) -> list[torch.Tensor]:
    weights = _read_heads(kind, device)
    return [weights[f"lin{stage}.model.1.weight"] for stage in range(5)]


@cache
def _read_heads(kind: str, device: torch.device) -> dict[str, torch.Tensor]:
    """Raises MissingWeights where torchmetrics has no such file, WrongWeights for another one."""
    from importlib.metadata import distribution

    inside, digest = HEADS[kind]
    path = Path(str(distribution("torchmetrics").locate_file("torchmetrics/functional/image")))
    path /= inside
    if not path.is_file():
        raise MissingWeights(
            f"{kind}: torchmetrics has no {inside}; pip install 'torchmetrics>=1.7'"
        )
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if not found.startswith(digest):
        raise WrongWeights(
            f"{path} is not the published file: its sha256 is {found} and should begin with "
            f"{digest}; pip install --force-reinstall torchmetrics"
        )
    return {name: tensor.to(device) for name, tensor in read_state(path).items()}


def _require(name: str, frames: torch.Tensor, least: int) -> None:
    height, width = frames.shape[-2:]
    if min(height, width) < least:
        raise Unmeasured(
            f"{name}: frames of {height}×{width} px are too small; it needs {least}×{least} px, or "
            "its network pools them to nothing"
        )
