"""RAFT (Teed & Deng, ECCV 2020): optical flow by looking up a pyramid of all-pairs correlations.

The large model, with the parameter names of the published ``raft-things.pth``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, grid_sample, pad, unfold

from pytest_vdb.errors import Unmeasured
from pytest_vdb.metrics.weights import fill, read_state

LEVELS, RADIUS, HIDDEN = 4, 4, 128
ITERATIONS = 20  # as VBench runs it
SMALLEST = 8 * 2**LEVELS  # px: the pyramid's last level has two cells there, and one below


def load(path: Path) -> Raft:
    """RAFT of ``raft-things.pth`` or a file like it. Raises WrongWeights for any other."""
    state = {name.removeprefix("module."): value for name, value in read_state(path).items()}
    model = Raft()
    fill(model, state, path)
    return model.eval()


class Raft(nn.Module):
    """Frames (N, 3, h, w) on the scale 0–255 → flow (N, 2, h, w): x, then y, in pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.fnet = _Encoder(256, nn.InstanceNorm2d)
        self.cnet = _Encoder(2 * HIDDEN, nn.BatchNorm2d)
        self.update_block = _Update()

    def prepare(self, frames: torch.Tensor) -> tuple[torch.Tensor, tuple[float, float]]:
        """uint8 (N, 3, H, W) → (frames that `forward` takes, px of the video for one of theirs).

        The video's own size, with its edge repeated to a multiple of 8 px. Raises Unmeasured for
        frames that are smaller than the pyramid.
        """
        padded, _ = pad_to(frames.float(), 8)
        require_pyramid("RAFT", frames, padded)
        return padded, (1.0, 1.0)

    def forward(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        with torch.autocast(before.device.type, enabled=False):  # coordinates need float32
            return self._flow(2 * (before.float() / 255) - 1, 2 * (after.float() / 255) - 1)

    def _flow(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        levels = pyramid(self.fnet(before), self.fnet(after))
        context = self.cnet(before)
        hidden, given = context[:, :HIDDEN].tanh(), context[:, HIDDEN:].relu()
        start = positions(hidden)
        flow = torch.zeros_like(start)
        for _ in range(ITERATIONS):
            found = look_up(levels, start + flow, RADIUS)
            hidden, step = self.update_block(hidden, given, found, flow)
            flow = flow + step
        return upsample(flow, 0.25 * self.update_block.mask(hidden))


def positions(like: torch.Tensor) -> torch.Tensor:
    """(N, C, h, w) → (N, 2, h, w): each pixel's x and y."""
    count, _, height, width = like.shape
    y, x = torch.meshgrid(
        torch.arange(height, device=like.device, dtype=torch.float32),
        torch.arange(width, device=like.device, dtype=torch.float32),
        indexing="ij",
    )
    return torch.stack([x, y]).expand(count, 2, height, width)


def sample(maps: torch.Tensor, at: torch.Tensor, outside: str = "zeros") -> torch.Tensor:
    """Bilinear values of ``maps`` (N, C, h, w) at pixels ``at`` (N, 2, ...): (N, C, ...).

    Beyond the border they are 0, or with ``outside="border"`` those of the nearest pixel.
    """
    height, width = maps.shape[-2:]
    x, y = at.unbind(1)
    grid = torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], dim=-1)
    return grid_sample(maps, grid, padding_mode=outside, align_corners=True)


def warp(images: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """What ``images`` (N, C, h, w) show where ``flow`` (N, 2, h, w), in pixels, leads."""
    return sample(images, positions(flow) + flow, "border")


def pyramid(first: torch.Tensor, second: torch.Tensor) -> list[torch.Tensor]:
    """Features (N, C, h, w) of two frames → ``LEVELS`` × (N·h·w, 1, h/2ˡ, w/2ˡ).

    Each pixel's products with every pixel of ``second``, over √C; then means of 2×2 of them.
    """
    count, channels, height, width = first.shape
    products = first.flatten(2).transpose(1, 2) @ second.flatten(2) / channels**0.5
    levels = [products.reshape(count * height * width, 1, height, width)]
    for _ in range(LEVELS - 1):
        levels.append(avg_pool2d(levels[-1], 2))
    return levels


def look_up(levels: Sequence[torch.Tensor], at: torch.Tensor, radius: int) -> torch.Tensor:
    """The pyramid around each pixel's ``at`` (N, 2, h, w): (N, L · (2 · radius + 1)², h, w).

    Channels go level by level, and in a level column by column: x is the slower one.
    """
    count, _, height, width = at.shape
    reach = torch.arange(-radius, radius + 1, device=at.device, dtype=at.dtype)
    around = torch.stack(torch.meshgrid(reach, reach, indexing="ij"))  # (2, x, y)
    centre = at.permute(0, 2, 3, 1).reshape(-1, 2, 1, 1)
    found = [sample(level, centre / 2**i + around) for i, level in enumerate(levels)]
    stacked = torch.stack([one.flatten(1) for one in found], dim=1)
    return stacked.reshape(count, height, width, -1).permute(0, 3, 1, 2).contiguous()


def upsample(flow: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Flow (N, 2, h, w) → (N, 2, 8h, 8w): each pixel a convex combination of 3×3 coarse ones.

    ``weights`` are (N, 9 · 64, h, w), before their softmax over the nine.
    """
    count, _, height, width = flow.shape
    shares = weights.view(count, 1, 9, 8, 8, height, width).softmax(dim=2)
    nine = unfold(8 * flow, 3, padding=1).view(count, 2, 9, 1, 1, height, width)
    fine = (shares * nine).sum(dim=2)  # (N, 2, 8, 8, h, w)
    return fine.permute(0, 1, 4, 2, 5, 3).reshape(count, 2, 8 * height, 8 * width)


def pad_to(frames: torch.Tensor, multiple: int) -> tuple[torch.Tensor, tuple[slice, slice]]:
    """Float frames with their edge repeated to a multiple of px, and where they lie in that."""
    sides, inside = [], []
    for length in frames.shape[-2:]:
        more = -length % multiple
        sides.append((more // 2, more - more // 2))
        inside.append(slice(more // 2, more // 2 + length))
    (top, bottom), (left, right) = sides
    padded = pad(frames, (left, right, top, bottom), mode="replicate")
    return padded, (inside[0], inside[1])


def require_pyramid(name: str, frames: torch.Tensor, padded: torch.Tensor) -> None:
    """Raise Unmeasured for frames so small that a level of the pyramid has one cell."""
    if min(padded.shape[-2:]) < SMALLEST:
        height, width = frames.shape[-2:]
        raise Unmeasured(
            f"{name} needs frames of {SMALLEST}×{SMALLEST} px, and these have {height}×{width}; "
            "generate larger ones"
        )


class _Encoder(nn.Module):
    """(N, 3, h, w) → (N, output, h/8, w/8)."""

    def __init__(self, output: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3)
        self.norm1 = norm(64)
        self.layer1 = nn.Sequential(_Residual(64, 64, norm), _Residual(64, 64, norm))
        self.layer2 = nn.Sequential(_Residual(64, 96, norm, 2), _Residual(96, 96, norm))
        self.layer3 = nn.Sequential(_Residual(96, 128, norm, 2), _Residual(128, 128, norm))
        self.conv2 = nn.Conv2d(128, output, 1)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        first = self.norm1(self.conv1(frames)).relu()
        return self.conv2(self.layer3(self.layer2(self.layer1(first))))


class _Residual(nn.Module):
    def __init__(
        self, given: int, output: int, norm: Callable[[int], nn.Module], stride: int = 1
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(given, output, 3, stride, 1)
        self.conv2 = nn.Conv2d(output, output, 3, 1, 1)
        self.norm1, self.norm2 = norm(output), norm(output)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1:
            self.norm3 = norm(output)  # the checkpoint has it under both names
            self.downsample = nn.Sequential(nn.Conv2d(given, output, 1, stride), self.norm3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm1(self.conv1(x)).relu()
        y = self.norm2(self.conv2(y)).relu()
        return (self.downsample(x) + y).relu()


class _Update(nn.Module):
    """One step: (hidden, context, correlations, flow) → (hidden, the flow's change)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = _Motion()
        self.gru = _Gru()
        self.flow_head = _Head()
        self.mask = nn.Sequential(
            nn.Conv2d(HIDDEN, 256, 3, 1, 1), nn.ReLU(), nn.Conv2d(256, 9 * 64, 1)
        )

    def forward(
        self,
        hidden: torch.Tensor,
        context: torch.Tensor,
        correlations: torch.Tensor,
        flow: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        motion = self.encoder(correlations, flow)
        hidden = self.gru(hidden, torch.cat([context, motion], dim=1))
        return hidden, self.flow_head(hidden)


class _Motion(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convc1 = nn.Conv2d(LEVELS * (2 * RADIUS + 1) ** 2, 256, 1)
        self.convc2 = nn.Conv2d(256, 192, 3, 1, 1)
        self.convf1 = nn.Conv2d(2, 128, 7, 1, 3)
        self.convf2 = nn.Conv2d(128, 64, 3, 1, 1)
        self.conv = nn.Conv2d(192 + 64, HIDDEN - 2, 3, 1, 1)

    def forward(self, correlations: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        seen = self.convc2(self.convc1(correlations).relu()).relu()
        moved = self.convf2(self.convf1(flow).relu()).relu()
        return torch.cat([self.conv(torch.cat([seen, moved], dim=1)).relu(), flow], dim=1)


class _Gru(nn.Module):
    """A gated recurrent unit of convolutions: along rows, then along columns."""

    def __init__(self) -> None:
        super().__init__()
        for number, size, padding in ((1, (1, 5), (0, 2)), (2, (5, 1), (2, 0))):
            for gate in "zrq":
                conv = nn.Conv2d(3 * HIDDEN, HIDDEN, size, padding=padding)
                self.add_module(f"conv{gate}{number}", conv)

    def forward(self, hidden: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        for number in (1, 2):
            z, r, q = (self.get_submodule(f"conv{gate}{number}") for gate in "zrq")
            both = torch.cat([hidden, given], dim=1)
            update, reset = z(both).sigmoid(), r(both).sigmoid()
            new = q(torch.cat([reset * hidden, given], dim=1)).tanh()
            hidden = (1 - update) * hidden + update * new
        return hidden


class _Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(HIDDEN, 256, 3, 1, 1)
        self.conv2 = nn.Conv2d(256, 2, 3, 1, 1)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.conv2(self.conv1(hidden).relu())
