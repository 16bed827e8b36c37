"""I3D (Carreira & Zisserman, CVPR 2017), RGB, Kinetics-400: what FVD is computed from.

Parameters have the names and shapes of ``i3d_pretrained_400.pt``, DeepMind's weights in the names
of pytorch-i3d, which VideoGPT, TATS and cd-fvd share.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import max_pool3d, pad, relu

from pytest_vdb.errors import WrongWeights
from pytest_vdb.metrics.weights import read_state

FRAMES, SIDE, CLASSES = 16, 224, 400
Size = tuple[int, int, int]

# A block's widths: 1×1×1; 1×1×1 then 3×3×3, twice; 1×1×1 after a pool. Or a pool's size and stride.
LAYERS: tuple[tuple[str, tuple[int, ...] | tuple[Size, Size]], ...] = (
    ("Mixed_3b", (64, 96, 128, 16, 32, 32)),
    ("Mixed_3c", (128, 128, 192, 32, 96, 64)),
    ("MaxPool3d_4a_3x3", ((3, 3, 3), (2, 2, 2))),
    ("Mixed_4b", (192, 96, 208, 16, 48, 64)),
    ("Mixed_4c", (160, 112, 224, 24, 64, 64)),
    ("Mixed_4d", (128, 128, 256, 24, 64, 64)),
    ("Mixed_4e", (112, 144, 288, 32, 64, 64)),
    ("Mixed_4f", (256, 160, 320, 32, 128, 128)),
    ("MaxPool3d_5a_2x2", ((2, 2, 2), (2, 2, 2))),
    ("Mixed_5b", (256, 160, 320, 32, 128, 128)),
    ("Mixed_5c", (384, 192, 384, 48, 128, 128)),
)


class I3D(nn.Module):
    """float (B, 3, T, 224, 224) in [−1, 1], T ≥ 9 → (B, 400): logits, their mean over time."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = _Unit(3, 64, 7, 2)
        self.MaxPool3d_2a_3x3 = _Pool((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = _Unit(64, 64, 1)
        self.Conv3d_2c_3x3 = _Unit(64, 192, 3)
        self.MaxPool3d_3a_3x3 = _Pool((1, 3, 3), (1, 2, 2))
        width = 192
        for name, sizes in LAYERS:
            if name.startswith("Max"):
                self.add_module(name, _Pool(*sizes))
                continue
            block = _Mixed(width, *sizes)
            self.add_module(name, block)
            width = block.width
        self.trunk = tuple(self.children())  # a tuple: the same modules, not registered again
        self.logits = _Head(width)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        for layer in self.trunk:
            clips = layer(clips)
        return self.logits(nn.functional.avg_pool3d(clips, (2, 7, 7), 1)).mean(2)[..., 0, 0]


class _Head(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(width, CLASSES, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.conv3d(x)
        return result


class _Unit(nn.Module):
    def __init__(self, into: int, out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.kernel, self.stride = (kernel,) * 3, (stride,) * 3
        self.conv3d = nn.Conv3d(into, out, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(out, eps=1e-5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return relu(self.bn(self.conv3d(_same(x, self.kernel, self.stride))))


class _Pool(nn.Module):
    def __init__(self, kernel: Size, stride: Size) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # What is padded is 0, and everything here is the result of a ReLU: it never is the largest.
        return max_pool3d(_same(x, self.kernel, self.stride), self.kernel, self.stride)


class _Mixed(nn.Module):
    """Four branches side by side."""

    def __init__(self, into: int, one: int, a: int, b: int, c: int, d: int, last: int) -> None:
        super().__init__()
        self.b0 = _Unit(into, one, 1)
        self.b1a, self.b1b = _Unit(into, a, 1), _Unit(a, b, 3)
        self.b2a, self.b2b = _Unit(into, c, 1), _Unit(c, d, 3)
        self.b3a, self.b3b = _Pool((3, 3, 3), (1, 1, 1)), _Unit(into, last, 1)
        self.width = one + b + d + last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branches = (
            self.b0(x),
            self.b1b(self.b1a(x)),
            self.b2b(self.b2a(x)),
            self.b3b(self.b3a(x)),
        )
        return torch.cat(branches, 1)


def _same(x: torch.Tensor, kernel: Size, stride: Size) -> torch.Tensor:
    """TensorFlow's SAME padding, zeros; what is odd goes behind."""
    sides: list[int] = []
    for length, k, s in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride), strict=True):
        total = max(k - (length % s or s), 0)
        sides += [total // 2, total - total // 2]
    return pad(x, sides)


def load(path: Path) -> I3D:
    """The network of ``path``, a state dict. Raises WrongWeights for any other file.

    ``i3d_torchscript.pt`` is refused: it holds code to run, and weights that give another FVD.
    """
    network = I3D()
    fill(network, read_state(path), path)
    return network.eval()


def fill(network: nn.Module, state: dict[str, torch.Tensor], path: Path) -> None:
    """Load exactly ``state``; files of before torch 0.4 lack the counters of batch norms.

    Raises WrongWeights, which names a parameter that is missing or too many.
    """
    counters = {n: t for n, t in network.state_dict().items() if n.endswith("num_batches_tracked")}
    try:
        network.load_state_dict(counters | state)
    except RuntimeError as error:
        raise WrongWeights(f"{path} is no {type(network).__name__}: {error}") from None
