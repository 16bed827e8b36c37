"""AlexNet and VGG16 up to their last convolution, as perceptual metrics look at them.

Layers have the numbers that torchvision gave them in its published checkpoints: AlexNet of
Krizhevsky 2014 ("one weird trick") and configuration D of Simonyan & Zisserman 2015.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import conv2d, max_pool2d

from pytest_vdb.metrics.weights import fill, read_state

VGG16_WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
Pool = Callable[[torch.Tensor], torch.Tensor]


def max_pool(features: torch.Tensor) -> torch.Tensor:
    """VGG's own: the largest of 2×2."""
    return max_pool2d(features, 2)


def l2_pool(features: torch.Tensor) -> torch.Tensor:
    """√(blurred squares), every second one: 3×3 Hann weights, padded by a zero (DISTS, eq. 4)."""
    taps = features.new_tensor([0.25, 0.5, 0.25], dtype=torch.float32)
    channels = features.shape[1]
    kernel = torch.outer(taps, taps).expand(channels, 1, 3, 3)
    with torch.autocast(features.device.type, enabled=False):  # squares overflow float16
        squares = features.float() ** 2
        return (conv2d(squares, kernel, stride=2, padding=1, groups=channels) + 1e-12).sqrt()


class Trunk(nn.Module):
    """Five stages, each ending in a ReLU. Takes float (N, 3, H, W) and yields each one's output.

    A generator: who compares two pictures a stage at a time never holds all the stages.
    """

    def __init__(self, *stages: Sequence[nn.Module], gap: int = 0) -> None:
        super().__init__()
        self.stages = nn.ModuleList(_numbered(stages, gap))

    def forward(self, pictures: torch.Tensor, pool: Pool | None = None) -> Iterator[torch.Tensor]:
        """``pool`` is what stands before every stage but the first."""
        features = pictures
        for index, stage in enumerate(self.stages):
            features = stage(pool(features) if pool and index else features)
            yield features


def alexnet() -> Trunk:
    """(64, 192, 384, 256, 256) channels, the first stage at a quarter of the size."""
    return Trunk(
        [nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU()],
        [nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU()],
        [nn.MaxPool2d(3, 2), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()],
        [nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()],
        [nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()],
    )


def vgg16() -> Trunk:
    """(64, 128, 256, 512, 512) channels. It has no pooling of its own: LPIPS and DISTS differ."""
    return Trunk(*vgg16_stages(), gap=1)


def vgg16_stages() -> list[list[nn.Module]]:
    """The convolutions, each with its ReLU, that stand between poolings."""
    stages: list[list[nn.Module]] = []
    before = 3
    for widths in VGG16_WIDTHS:
        stage: list[nn.Module] = []
        for width in widths:
            stage += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            before = width
        stages.append(stage)
    return stages


def load_alexnet(path: Path) -> Trunk:
    """torchvision's ``alexnet-owt-7be5be79.pth``; raises WrongWeights for another's names."""
    return _load(alexnet(), path)


def load_vgg16(path: Path) -> Trunk:
    """torchvision's ``vgg16-397923af.pth``; raises WrongWeights for another's names."""
    return _load(vgg16(), path)


def _load(trunk: Trunk, path: Path) -> Trunk:
    state = {}
    for name, tensor in read_state(path).items():
        part, _, rest = name.partition(".")
        if part != "classifier":  # three large linear layers that no metric looks at
            state[rest if part == "features" else name] = tensor
    fill(trunk, staged(trunk, state), path)
    return trunk


def staged(trunk: Trunk, state: dict[str, Any]) -> dict[str, Any]:
    """The published ``"<layer>.weight"`` → ``"stages.<stage>.<layer>.weight"``."""
    stage_of = {
        layer: f"stages.{index}"
        for index, stage in enumerate(trunk.stages)
        for layer, _ in stage.named_children()
    }
    return {
        f"{stage_of.get(name.partition('.')[0], 'unknown')}.{name}": tensor
        for name, tensor in state.items()
    }


def _numbered(stages: Sequence[Sequence[nn.Module]], gap: int) -> Iterator[nn.Sequential]:
    """Numbered through, with ``gap`` numbers left to what stands between two stages."""
    number = 0
    for layers in stages:
        stage = nn.Sequential()
        for layer in layers:
            stage.add_module(str(number), layer)
            number += 1
        number += gap
        yield stage
