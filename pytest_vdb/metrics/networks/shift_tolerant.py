"""The shift-tolerant AlexNet and VGG16 of ST-LPIPS (Ghildyal & Liu, ECCV 2022), with its heads.

Where the plain networks take every second value, these blur first: what moves by a pixel stays
what it is. Parameter names are those of the package stlpips-pytorch 0.0.2, less their prefixes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import conv2d, pad

from pytest_vdb.metrics.networks.trunks import Trunk, staged, vgg16_stages
from pytest_vdb.metrics.weights import fill, read_state

LEAST = {"alex": 21, "vgg": 18}
"""px: what is less is pooled to nothing, or is less than its reflected border."""
WIDTHS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}


class Blur(nn.Module):
    """Binomial 3×3, every second value, with two reflected values at each border."""

    filt: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("filt", torch.zeros(channels, 1, 3, 3))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        padded = pad(features, (2, 2, 2, 2), mode="reflect")
        return conv2d(padded, self.filt, stride=2, groups=len(self.filt))


class ShiftTolerant(nn.Module):
    """``trunk``, and ``heads``: one weight a channel of each of its five stages, (1, C, 1, 1)."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.least = LEAST[kind]
        self.trunk = _alexnet() if kind == "alex" else _vgg16()
        self.heads = nn.ParameterList(torch.zeros(1, width, 1, 1) for width in WIDTHS[kind])


def load_alex(path: Path) -> ShiftTolerant:
    """``alex_shift_tolerant.pth``; raises WrongWeights for another's names."""
    return _load(ShiftTolerant("alex"), path)


def load_vgg(path: Path) -> ShiftTolerant:
    """``vgg_shift_tolerant.pth``; raises WrongWeights for another's names."""
    return _load(ShiftTolerant("vgg"), path)


def _alexnet() -> Trunk:
    return Trunk(
        [nn.Conv2d(3, 64, 11, padding=2), Blur(64), nn.ReLU()],
        [nn.MaxPool2d(3, 1), Blur(64), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU()],
        [nn.MaxPool2d(3, 1), Blur(192), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()],
        [nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()],
        [nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()],
    )


def _vgg16() -> Trunk:
    first, *others = vgg16_stages()
    widths = WIDTHS["vgg"][:-1]
    pooled = ([nn.MaxPool2d(2, 1), Blur(n), *on] for n, on in zip(widths, others, strict=True))
    return Trunk(first, *pooled)


def _load(module: ShiftTolerant, path: Path) -> ShiftTolerant:
    layers: dict[str, Any] = {}
    state: dict[str, Any] = {}
    for name, tensor in read_state(path).items():
        part, _, rest = name.partition(".")
        if part == "net":
            layers[rest.partition(".")[2]] = tensor
        elif part.startswith("lin"):
            state[f"heads.{part[3:]}"] = tensor
        elif part != "scaling_layer":  # LPIPS's own two constants
            state[name] = tensor
    state |= {f"trunk.{name}": tensor for name, tensor in staged(module.trunk, layers).items()}
    fill(module, state, path)
    return module
