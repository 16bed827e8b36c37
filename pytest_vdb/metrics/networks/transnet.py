"""TransNet V2: where one shot of a video ends and the next begins.

Souček & Lokoč, "TransNet V2: An effective deep network architecture for fast shot transition
detection" (2020). Parameters have the names and shapes of the published PyTorch conversion.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import normalize, pad, relu

from pytest_vdb.metrics.weights import fill, read_state

HEIGHT, WIDTH = 27, 48
FILTERS = (16, 32, 64)
DILATIONS = (1, 2, 4, 8)
LOOKUP = 101  # a frame is compared with the 50 before it, itself, and the 50 after it
BINS = 512  # of colours: three bits a channel


class TransNetV2(nn.Module):
    """uint8 (B, T, 3, 27, 48), RGB → float (B, T, 2): probabilities in [0, 1].

    The first is that a shot ends at this frame; the second, that the frame lies in a transition.
    """

    def __init__(self) -> None:
        super().__init__()
        inputs = (3, *(len(DILATIONS) * filters for filters in FILTERS[:-1]))
        self.SDDCNN = nn.ModuleList(
            _Stack(into, filters) for into, filters in zip(inputs, FILTERS, strict=True)
        )
        channels = [len(DILATIONS) * filters for filters in FILTERS]
        self.frame_sim_layer = _FrameSimilarity(sum(channels))
        self.color_hist_layer = _ColorHistograms()
        self.fc1 = nn.Linear(channels[-1] * 3 * 6 + 2 * 128, 1024)
        self.cls_layer1 = nn.Linear(1024, 1)
        self.cls_layer2 = nn.Linear(1024, 1)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        x = frames.transpose(1, 2).float() / 255
        stacks = []
        for stack in self.SDDCNN:
            x = stack(x)
            stacks.append(x)
        content = x.permute(0, 2, 3, 4, 1).flatten(2)
        parts = (self.color_hist_layer(frames), self.frame_sim_layer(stacks), content)
        hidden = relu(self.fc1(torch.cat(parts, dim=2)))
        logits = torch.cat([self.cls_layer1(hidden), self.cls_layer2(hidden)], dim=2)
        return logits.sigmoid()


class _Stack(nn.Module):
    """Two dilated cells with a shortcut around the second; halves height and width."""

    def __init__(self, into: int, filters: int) -> None:
        super().__init__()
        self.DDCNN = nn.ModuleList([_Cell(into, filters), _Cell(len(DILATIONS) * filters, filters)])
        self.pool = nn.AvgPool3d((1, 2, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = relu(self.DDCNN[0](x))
        pooled: torch.Tensor = self.pool(relu(self.DDCNN[1](first)) + first)
        return pooled


class _Cell(nn.Module):
    """Convolutions that look 1, 2, 4 and 8 frames far, side by side."""

    def __init__(self, into: int, filters: int) -> None:
        super().__init__()
        for dilation in DILATIONS:
            self.add_module(f"Conv3D_{dilation}", _Separable(into, filters, dilation))
        self.bn = nn.BatchNorm3d(len(DILATIONS) * filters, eps=1e-3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = [getattr(self, f"Conv3D_{dilation}")(x) for dilation in DILATIONS]
        normal: torch.Tensor = self.bn(torch.cat(seen, dim=1))
        return normal


class _Separable(nn.Module):
    """A 3 × 3 × 3 convolution as one over space and one over time."""

    def __init__(self, into: int, filters: int, dilation: int) -> None:
        super().__init__()
        space = nn.Conv3d(into, 2 * filters, (1, 3, 3), padding=(0, 1, 1), bias=False)
        time = nn.Conv3d(
            *(2 * filters, filters, (3, 1, 1)),
            dilation=(dilation, 1, 1),
            padding=(dilation, 0, 0),
            bias=False,
        )
        self.layers = nn.Sequential(space, time)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layers(x)
        return result


class _FrameSimilarity(nn.Module):
    """How a frame's learned features resemble those of its neighbours."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.projection = nn.Linear(channels, 128)
        self.fc = nn.Linear(LOOKUP, 128)

    def forward(self, stacks: list[torch.Tensor]) -> torch.Tensor:
        means = torch.cat([x.mean(dim=(3, 4)) for x in stacks], dim=1).transpose(1, 2)
        return relu(self.fc(_with_neighbours(self.projection(means))))


class _ColorHistograms(nn.Module):
    """How a frame's colours resemble those of its neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(LOOKUP, 128)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        red, green, blue = (frames.long() >> 5).flatten(3).unbind(dim=2)
        colours = (red << 6) + (green << 3) + blue
        counts = torch.zeros(*colours.shape[:2], BINS, device=frames.device)
        counts.scatter_add_(2, colours, torch.ones_like(colours, dtype=counts.dtype))
        return relu(self.fc(_with_neighbours(counts)))


def _with_neighbours(x: torch.Tensor) -> torch.Tensor:
    """(B, T, D) → (B, T, 101): cosines with the frames around; 0 beyond the ends."""
    unit = normalize(x, dim=2)
    cosines = pad(unit @ unit.transpose(1, 2), [LOOKUP // 2, LOOKUP // 2])
    return cosines.unfold(2, LOOKUP, 1).diagonal(dim1=1, dim2=2).transpose(1, 2)


def load(path: Path) -> TransNetV2:
    """The network of ``path``. Raises WrongWeights for any other file."""
    network = TransNetV2()
    fill(network, read_state(path), path)
    return network.eval()
