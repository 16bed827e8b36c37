"""AMT-S (Li et al., CVPR 2023): the frame in the middle of two, by flow in both directions.

With the parameter names of the published ``amt-s.pth``.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import instance_norm, interpolate, leaky_relu

from pytest_vdb.metrics.networks.raft import look_up, positions, pyramid, warp
from pytest_vdb.metrics.weights import fill, read_state

LEVELS, RADIUS, FLOWS = 4, 3, 3
CHANNELS = (20, 32, 44, 56)  # of the pyramid of frames, at 1/2, 1/4, 1/8 and 1/16
SIDE = 20  # channels that a decoder's residual block convolves once more
MIDDLE = 0.5  # the moment between the frames at 0 and 1


def load(path: Path) -> Amt:
    """AMT-S of ``amt-s.pth``. Raises WrongWeights for any other file."""
    state = read_state(path)
    model = Amt()
    fill(model, state.get("state_dict", state), path)
    return model.eval()


class Amt(nn.Module):
    """Two frames (N, 3, h, w) in [0, 1], of multiples of 16 px → the one between them."""

    def __init__(self) -> None:
        super().__init__()
        self.feat_encoder = _Features(84)
        self.encoder = _Pyramid()
        fine, half, quarter, eighth = CHANNELS
        self.decoder4 = _Decoder(2 * eighth + 1, 2 * eighth, quarter + 4)
        self.decoder3 = _Decoder(3 * quarter + 4, 3 * quarter, half + 4)
        self.decoder2 = _Decoder(3 * half + 4, 3 * half, fine + 4)
        self.decoder1 = _Decoder(3 * fine + 4, 3 * fine, 8 * FLOWS)
        self.update4 = _Update(quarter, 1)
        self.update3 = _Update(half, 2)
        self.update2 = _Update(fine, 4)
        self.comb_block = nn.Sequential(
            nn.Conv2d(3 * FLOWS, 6 * FLOWS, 3, 1, 1),
            nn.PReLU(6 * FLOWS),
            nn.Conv2d(6 * FLOWS, 3, 3, 1, 1),
        )

    def forward(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        with torch.autocast(before.device.type, enabled=False):  # coordinates need float32
            mean = torch.cat([before, after], dim=2).mean((1, 2, 3), keepdim=True)
            return self._between(before - mean, after - mean, mean)

    def _between(
        self, before: torch.Tensor, after: torch.Tensor, mean: torch.Tensor
    ) -> torch.Tensor:
        first, second = self.feat_encoder(before), self.feat_encoder(after)
        ways = pyramid(first, second), pyramid(second, first)
        firsts, seconds = self.encoder(before), self.encoder(after)
        moment = torch.full_like(firsts[-1][:, :1], MIDDLE)
        out = self.decoder4(torch.cat([firsts[-1], seconds[-1], moment], dim=1))
        flows, hidden = out[:, :4], out[:, 4:]  # to the frame before, x and y; to the one after
        flows, hidden = _refined(self.update4, ways, flows, hidden)
        for decoder, update, level in (
            (self.decoder3, self.update3, 2),
            (self.decoder2, self.update2, 1),
        ):
            out = decoder(_aligned(hidden, firsts[level], seconds[level], flows))
            flows, hidden = out[:, :4] + 2 * _resize(flows, 2), out[:, 4:]
            flows, hidden = _refined(update, ways, flows, hidden)
        out = self.decoder1(_aligned(hidden, firsts[0], seconds[0], flows))
        return self._merged(before, after, mean, out, 2 * _resize(flows, 2))

    def _merged(
        self,
        before: torch.Tensor,
        after: torch.Tensor,
        mean: torch.Tensor,
        out: torch.Tensor,
        flows: torch.Tensor,
    ) -> torch.Tensor:
        """Both frames warped by each of ``FLOWS`` flows, blended, and put together."""
        frames = []
        for i in range(FLOWS):
            back, forth = out[:, 2 * i :][:, :2], out[:, 2 * (FLOWS + i) :][:, :2]
            blend = out[:, 4 * FLOWS + i :][:, :1].sigmoid()
            rest = out[:, 5 * FLOWS + 3 * i :][:, :3]
            old, new = warp(before, back + flows[:, :2]), warp(after, forth + flows[:, 2:])
            frames.append(blend * old + (1 - blend) * new + mean + rest)
        stack = torch.stack(frames, dim=1)
        return (stack.mean(1) + self.comb_block(stack.flatten(1, 2))).clamp(0, 1)


Ways = tuple[list[torch.Tensor], list[torch.Tensor]]


def _refined(
    update: _Update, ways: Ways, flows: torch.Tensor, hidden: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Flows and features, corrected by what both pyramids of correlations show there."""
    coarse = _resize(flows, 1 / update.factor) / update.factor
    at = positions(coarse)
    to_after = at + coarse[:, 2:] / MIDDLE  # flow from the middle, made one from frame to frame
    to_before = at + coarse[:, :2] / (1 - MIDDLE)
    found = [look_up(ways[0], to_after, RADIUS), look_up(ways[1], to_before, RADIUS)]
    more, change = update(hidden, coarse, torch.cat(found, dim=1))
    return flows + change, hidden + more


def _aligned(
    hidden: torch.Tensor, first: torch.Tensor, second: torch.Tensor, flows: torch.Tensor
) -> torch.Tensor:
    warped = [warp(first, flows[:, :2]), warp(second, flows[:, 2:])]
    return torch.cat([hidden, *warped, flows], dim=1)


def _resize(x: torch.Tensor, factor: float) -> torch.Tensor:
    return interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def _conv(given: int, output: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(given, output, 3, stride, 1), nn.PReLU(output))


class _Features(nn.Module):
    """RAFT's small encoder: (N, 3, h, w) → (N, output, h/8, w/8)."""

    def __init__(self, output: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 7, 2, 3)
        self.layer1 = nn.Sequential(_Bottleneck(32, 32), _Bottleneck(32, 32))
        self.layer2 = nn.Sequential(_Bottleneck(32, 64, 2), _Bottleneck(64, 64))
        self.layer3 = nn.Sequential(_Bottleneck(64, 96, 2), _Bottleneck(96, 96))
        self.conv2 = nn.Conv2d(96, output, 1)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        first = instance_norm(self.conv1(frames)).relu()
        return self.conv2(self.layer3(self.layer2(self.layer1(first))))


class _Bottleneck(nn.Module):
    def __init__(self, given: int, output: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(given, output // 4, 1)
        self.conv2 = nn.Conv2d(output // 4, output // 4, 3, stride, 1)
        self.conv3 = nn.Conv2d(output // 4, output, 1)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1:
            shrink = nn.Conv2d(given, output, 1, stride)
            self.downsample = nn.Sequential(shrink, nn.InstanceNorm2d(output))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for conv in (self.conv1, self.conv2, self.conv3):
            y = instance_norm(conv(y)).relu()
        return (self.downsample(x) + y).relu()


class _Pyramid(nn.Module):
    """(N, 3, h, w) → four maps, each half as large as the one before."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (3, *CHANNELS)
        for number, (given, output) in enumerate(zip(sizes, CHANNELS, strict=False), 1):
            level = nn.Sequential(_conv(given, output, 2), _conv(output, output))
            self.add_module(f"pyramid{number}", level)

    def forward(self, frames: torch.Tensor) -> list[torch.Tensor]:
        maps = [frames]
        for level in self.children():
            maps.append(level(maps[-1]))
        return maps[1:]


class _Decoder(nn.Module):
    """(N, given, h, w) → (N, output, 2h, 2w)."""

    def __init__(self, given: int, inner: int, output: int) -> None:
        super().__init__()
        self.convblock = nn.Sequential(
            _conv(given, inner), _Side(inner), nn.ConvTranspose2d(inner, output, 4, 2, 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convblock(x)


class _Side(nn.Module):
    """A residual block whose last ``SIDE`` channels are convolved once more, twice."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = _conv(channels, channels), _conv(SIDE, SIDE)
        self.conv3, self.conv4 = _conv(channels, channels), _conv(SIDE, SIDE)
        self.conv5 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.prelu = nn.PReLU(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for conv, side in ((self.conv1, self.conv2), (self.conv3, self.conv4)):
            y = conv(y)
            y = torch.cat([y[:, :-SIDE], side(y[:, -SIDE:])], dim=1)
        return self.prelu(x + self.conv5(y))


class _Update(nn.Module):
    """(features, flows, correlations) → changes of the features and of the flows.

    Flows and correlations are at 1/8; features are ``factor`` times as large, and so are both
    changes.
    """

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.convc1 = nn.Conv2d(2 * LEVELS * (2 * RADIUS + 1) ** 2, 64, 1)
        self.convf1 = nn.Conv2d(4, 40, 7, 1, 3)
        self.convf2 = nn.Conv2d(40, 20, 3, 1, 1)
        self.conv = nn.Conv2d(64 + 20, 68, 3, 1, 1)
        self.gru = _two(68 + 4 + channels, 76)
        self.feat_head = _two(76, channels)
        self.flow_head = _two(76, 4)

    def forward(
        self, hidden: torch.Tensor, flows: torch.Tensor, correlations: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        seen = _leaky(self.convc1(correlations))
        moved = _leaky(self.convf2(_leaky(self.convf1(flows))))
        motion = _leaky(self.conv(torch.cat([seen, moved], dim=1)))
        small = _resize(hidden, 1 / self.factor)
        state = self.gru(torch.cat([motion, flows, small], dim=1))
        more, change = self.feat_head(state), self.flow_head(state)
        return _resize(more, self.factor), self.factor * _resize(change, self.factor)


def _two(given: int, output: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(given, 76, 3, 1, 1), nn.LeakyReLU(0.1), nn.Conv2d(76, output, 3, 1, 1)
    )


def _leaky(x: torch.Tensor) -> torch.Tensor:
    return leaky_relu(x, 0.1)
