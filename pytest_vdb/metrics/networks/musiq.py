"""MUSIQ: how good a picture looks, technically, from patches of several scales.

Ke et al., "MUSIQ: Multi-scale Image Quality Transformer" (ICCV 2021). Parameters have the names
and shapes that pyiqa publishes; resampling and padding are pyiqa's, which VBench computes with.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import conv2d, interpolate, max_pool2d, pad, relu

from pytest_vdb.metrics.weights import fill, read_state

PATCH = 32
LONGER = (224, 384)  # px of the longer side of the scales beside the picture's own
GRID = 10  # positions are hashed onto 10 × 10
WIDTH, HEADS, LAYERS, HIDDEN = 384, 6, 14, 1152
STEM = 64


class MUSIQ(nn.Module):
    """float (N, 3, H, W) RGB in [0, 1] → (N, 1): about 0 to 100, not clipped, higher is better."""

    def __init__(self, layers: int = LAYERS) -> None:
        super().__init__()
        self.conv_root = _StandardConv(3, STEM, 7, stride=2)
        self.gn_root = nn.GroupNorm(32, STEM, eps=1e-6)
        self.block1 = _Bottleneck()
        self.embedding = nn.Linear(4 * STEM * (PATCH // 4) ** 2, WIDTH)
        self.transformer_encoder = _Encoder(layers)
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        scales = [_at(side, 2 * pictures - 1) for side in (*LONGER, None)]
        tokens = torch.cat([self._tokens(picture) for picture in scales], dim=1)
        places = torch.cat([hashed(*_counts(picture)) for picture in scales])
        sizes = torch.tensor([math.prod(_counts(picture)) for picture in scales])
        scale = torch.repeat_interleave(torch.arange(len(scales)), sizes)
        device = tokens.device
        result: torch.Tensor = self.head(
            self.transformer_encoder(tokens, places.to(device), scale.to(device))
        )
        return result

    def _tokens(self, picture: torch.Tensor) -> torch.Tensor:
        """(N, patches, 384). A patch is seen by itself: nothing leaks in from its neighbours."""
        batch, patches = len(picture), cut(picture)
        x = self.gn_root(self.conv_root(patches.flatten(0, 1)))
        x = self.block1(max_pool2d(_same(relu(x), 3, 2), 3, 2))
        x = x.permute(0, 2, 3, 1).reshape(batch, patches.shape[1], -1)  # channels last
        embedded: torch.Tensor = self.embedding(x)
        return embedded


class _StandardConv(nn.Conv2d):
    """A convolution whose filters have mean 0 and deviation 1, padded as TensorFlow's SAME."""

    def __init__(self, into: int, out: int, kernel: int, stride: int = 1) -> None:
        super().__init__(into, out, kernel, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        filters = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        filters = filters / (filters.std((1, 2, 3), keepdim=True) + 1e-5)
        return conv2d(_same(x, self.kernel_size[0], self.stride[0]), filters, stride=self.stride)


class _Bottleneck(nn.Module):
    """The one residual block behind the stem: 64 → 256 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _StandardConv(STEM, STEM, 1)
        self.gn1 = nn.GroupNorm(32, STEM, eps=1e-4)
        self.conv2 = _StandardConv(STEM, STEM, 3)
        self.gn2 = nn.GroupNorm(32, STEM, eps=1e-4)
        self.conv3 = _StandardConv(STEM, 4 * STEM, 1)
        self.gn3 = nn.GroupNorm(32, 4 * STEM, eps=1e-4)
        self.conv_proj = _StandardConv(STEM, 4 * STEM, 1)
        self.gn_proj = nn.GroupNorm(32, 4 * STEM, eps=1e-4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = relu(self.gn1(self.conv1(x)))
        y = relu(self.gn2(self.conv2(y)))
        return relu(self.gn3(self.conv3(y)) + self.gn_proj(self.conv_proj(x)))


class _Encoder(nn.Module):
    """Patches with their places and scales → the class token, (N, 384)."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        places, scales = torch.zeros(1, GRID * GRID, WIDTH), torch.zeros(len(LONGER) + 1, WIDTH)
        self.posembed_input = nn.ParameterDict({"position_emb": places})
        self.scaleembed_input = nn.ParameterDict({"scale_emb": scales})
        self.cls = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.encoder_norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.transformer = nn.ModuleDict({f"encoderblock_{i}": _Block() for i in range(layers)})

    def forward(
        self, tokens: torch.Tensor, places: torch.Tensor, scales: torch.Tensor
    ) -> torch.Tensor:
        x = tokens + self.posembed_input["position_emb"][0, places]
        x = x + self.scaleembed_input["scale_emb"][scales]
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], dim=1)
        for block in self.transformer.values():
            x = block(x)
        first: torch.Tensor = self.encoder_norm(x[:, 0])
        return first


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.attention = nn.ModuleDict(
            {name: nn.Linear(WIDTH, WIDTH) for name in ("query", "key", "value", "out")}
        )
        self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(WIDTH, HIDDEN), "fc2": nn.Linear(HIDDEN, WIDTH)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self._attend(self.norm1(x))
        hidden = nn.functional.gelu(self.mlp["fc1"](self.norm2(x)))
        result: torch.Tensor = x + self.mlp["fc2"](hidden)
        return result

    def _attend(self, x: torch.Tensor) -> torch.Tensor:
        def heads(name: str) -> torch.Tensor:
            part: torch.Tensor = self.attention[name](x)
            return part.reshape(*part.shape[:2], HEADS, WIDTH // HEADS).transpose(1, 2)

        seen = nn.functional.scaled_dot_product_attention(
            heads("query"), heads("key"), heads("value")
        )
        result: torch.Tensor = self.attention["out"](seen.transpose(1, 2).flatten(2))
        return result


def cut(picture: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W) → (N, patches, 3, 32, 32), row by row; zeros around what is no whole patch.

    The reference fills a scale up to a fixed number of patches and masks those out again. Nothing
    of them reaches the class token, so there are none here.
    """
    rows, columns = _counts(picture)
    whole = _same(picture, PATCH, PATCH)
    patches = whole.reshape(-1, 3, rows, PATCH, columns, PATCH)
    return patches.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)


def hashed(rows: int, columns: int) -> torch.Tensor:
    """(rows · columns,) int64 in [0, 100): the cell of a 10 × 10 grid that each patch falls into.

    By the nearest-neighbour rule of `interpolate` on the CPU, the reference's.
    """
    grid = torch.arange(GRID, dtype=torch.float32)[None, None]
    down, across = (interpolate(grid, count, mode="nearest")[0, 0] for count in (rows, columns))
    return (GRID * down[:, None] + across[None, :]).flatten().long()


def scaled(height: int, width: int, longer: int) -> tuple[int, int]:
    """Height and width with a longer side of ``longer`` px, rounded half to even."""
    ratio = longer / max(height, width)
    return round(height * ratio), round(width * ratio)


def _at(longer: int | None, picture: torch.Tensor) -> torch.Tensor:
    if longer is None:
        return picture
    height, width = picture.shape[-2:]
    size = scaled(height, width, longer)
    return interpolate(picture, size, mode="bicubic", align_corners=False)  # not antialiased


def _counts(picture: torch.Tensor) -> tuple[int, int]:
    """Rows and columns of patches."""
    height, width = picture.shape[-2:]
    return math.ceil(height / PATCH), math.ceil(width / PATCH)


def _same(x: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    """Zeros around, so that there are ceil(length / stride) steps; the odd one behind."""
    sides: list[int] = []
    for length in (x.shape[-1], x.shape[-2]):
        missing = (math.ceil(length / stride) - 1) * stride + kernel - length
        sides += [missing // 2, missing - missing // 2]
    return pad(x, sides)


def load(path: Path) -> MUSIQ:
    """The network of ``path``. Raises WrongWeights for any other file."""
    network = MUSIQ()
    fill(network, read_state(path), path)
    return network.eval()
