"""Inception v3 as FID defines it (Szegedy et al. 2016; Heusel et al. 2017).

TensorFlow's graph of 2015-12-05, which is not torchvision's network: averages leave out the
padding, the last block pools by the maximum, and there are 1008 classes. Parameters have the names
and shapes of ``pt_inception-2015-12-05-6726825d.pth``, of pytorch-fid and torch-fidelity.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, max_pool2d, relu

from pytest_vdb.metrics.networks.i3d import fill
from pytest_vdb.metrics.weights import read_state

SIDE, POOLED, CLASSES = 299, 2048, 1008
Kernel = int | tuple[int, int]
Branch = tuple[tuple[str, int, Kernel], ...]  # name, width and size of convolutions in a row

ROW, COLUMN = (1, 7), (7, 1)


def _a(pooled: int) -> tuple[Branch, ...]:
    return (
        (("branch1x1", 64, 1),),
        (("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)),
        (("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)),
        (("branch_pool", pooled, 1),),
    )


def _c(width: int) -> tuple[Branch, ...]:
    sizes: tuple[Kernel, ...] = (1, COLUMN, ROW, COLUMN, ROW)
    double = zip((width,) * 4 + (192,), sizes, strict=True)
    return (
        (("branch1x1", 192, 1),),
        (("branch7x7_1", width, 1), ("branch7x7_2", width, ROW), ("branch7x7_3", 192, COLUMN)),
        tuple((f"branch7x7dbl_{i}", out, size) for i, (out, size) in enumerate(double, 1)),
        (("branch_pool", 192, 1),),
    )


# The last convolution of a branch of these two has stride 2, as has their pool.
HALVING_B: tuple[Branch, ...] = (
    (("branch3x3", 384, 3),),
    (("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)),
)
HALVING_D: tuple[Branch, ...] = (
    (("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3)),
    (
        *(("branch7x7x3_1", 192, 1), ("branch7x7x3_2", 192, ROW)),
        *(("branch7x7x3_3", 192, COLUMN), ("branch7x7x3_4", 192, 3)),
    ),
)


class FidInception(nn.Module):
    """uint8 or float (N, 3, H, W) on 0–255 → (N, 2048 + 1008).

    First the pooled features of FID and KID, then the logits of the Inception Score, which leave
    out the bias, as its first code did.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Unit(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _Unit(32, 32, 3)
        self.Conv2d_2b_3x3 = _Unit(32, 64, 3, padded=True)
        self.Conv2d_3b_1x1 = _Unit(64, 80, 1)
        self.Conv2d_4a_3x3 = _Unit(80, 192, 3)
        self.Mixed_5b = _Mixed(192, _a(32))
        self.Mixed_5c = _Mixed(256, _a(64))
        self.Mixed_5d = _Mixed(288, _a(64))
        self.Mixed_6a = _Halving(288, HALVING_B)
        for letter, width in zip("bcde", (128, 160, 160, 192), strict=True):
            self.add_module(f"Mixed_6{letter}", _Mixed(768, _c(width)))
        self.Mixed_7a = _Halving(768, HALVING_D)
        self.Mixed_7b = _Fan(1280)
        self.Mixed_7c = _Fan(2048, largest=True)
        self.layers = tuple(self.children())  # a tuple: the same modules, not registered again
        self.fc = nn.Linear(POOLED, CLASSES)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        x = (resize_tensorflow(frames.float(), SIDE) - 128) / 128
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in (2, 4):
                x = max_pool2d(x, 3, 2)
        pooled = x.mean((2, 3))
        return torch.cat([pooled, pooled @ self.fc.weight.T], 1)


class _Unit(nn.Module):
    def __init__(
        self, into: int, out: int, size: Kernel, stride: int = 1, padded: bool = False
    ) -> None:
        super().__init__()
        height, width = (size, size) if isinstance(size, int) else size
        padding = (height // 2, width // 2) if padded else 0
        self.conv = nn.Conv2d(into, out, (height, width), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=1e-3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return relu(self.bn(self.conv(x)))


class _Mixed(nn.Module):
    """Branches side by side; the last one is of the averaged input."""

    halves = False

    def __init__(self, into: int, branches: tuple[Branch, ...]) -> None:
        super().__init__()
        self.branches = tuple(self._branch(into, branch) for branch in branches)

    def _branch(self, into: int, branch: Branch) -> tuple[nn.Module, ...]:
        units: list[nn.Module] = []
        for position, (name, out, size) in enumerate(branch, 1):
            halves = self.halves and position == len(branch)
            unit = _Unit(into, out, size, stride=2 if halves else 1, padded=not halves)
            self.add_module(name, unit)
            units.append(unit)
            into = out
        return tuple(units)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inputs = [x] * (len(self.branches) - 1) + [_average(x)]
        pairs = zip(self.branches, inputs, strict=True)
        return torch.cat([_chain(units, given) for units, given in pairs], 1)


class _Halving(_Mixed):
    """Branches side by side that halve the picture, and its pool."""

    halves = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([*(_chain(units, x) for units in self.branches), max_pool2d(x, 3, 2)], 1)


class _Fan(nn.Module):
    """Two of the branches end in a row and a column side by side."""

    def __init__(self, into: int, largest: bool = False) -> None:
        super().__init__()
        self.largest = largest
        self.branch1x1 = _Unit(into, 320, 1)
        self.branch3x3_1 = _Unit(into, 384, 1)
        self.branch3x3_2a = _Unit(384, 384, (1, 3), padded=True)
        self.branch3x3_2b = _Unit(384, 384, (3, 1), padded=True)
        self.branch3x3dbl_1 = _Unit(into, 448, 1)
        self.branch3x3dbl_2 = _Unit(448, 384, 3, padded=True)
        self.branch3x3dbl_3a = _Unit(384, 384, (1, 3), padded=True)
        self.branch3x3dbl_3b = _Unit(384, 384, (3, 1), padded=True)
        self.branch_pool = _Unit(into, 192, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        branches = (
            self.branch1x1(x),
            self.branch3x3_2a(single),
            self.branch3x3_2b(single),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(max_pool2d(x, 3, 1, padding=1) if self.largest else _average(x)),
        )
        return torch.cat(branches, 1)


def _chain(units: tuple[nn.Module, ...], x: torch.Tensor) -> torch.Tensor:
    for unit in units:
        x = unit(x)
    return x


def _average(x: torch.Tensor) -> torch.Tensor:
    return avg_pool2d(x, 3, 1, padding=1, count_include_pad=False)


def resize_tensorflow(frames: torch.Tensor, side: int) -> torch.Tensor:
    """float (N, C, H, W) → (N, C, side, side) by TensorFlow 1's bilinear resize.

    Not antialiased, and pixel i of the result lies at i · H / side of the input: the corner is kept
    and the picture shifts by up to half a pixel. FID's numbers depend on it.
    """
    for axis in (3, 2):
        length = frames.shape[axis]
        place = torch.arange(side, device=frames.device, dtype=torch.float32) * (length / side)
        low = place.long()
        share = place - low
        if axis == 2:
            share = share[:, None]
        lower, upper = (
            frames.index_select(axis, i) for i in (low, (low + 1).clamp_max(length - 1))
        )
        frames = lower + (upper - lower) * share
    return frames


def load(path: Path) -> FidInception:
    """The network of ``path``. Raises WrongWeights for a file that is not FID's Inception."""
    network = FidInception()
    fill(network, read_state(path), path)
    return network.eval()
