"""V-JEPA (Bardes et al., TMLR 2024), ViT-H/16, and the attentive probe that JEDi takes as features.

Parameters have the names and shapes of the published checkpoints. Positions are in the checkpoint,
so clips are of the size that it was trained with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from pytest_vdb.errors import WrongWeights
from pytest_vdb.metrics.weights import fill, read_state

PROBE = "ssv2-probe.pth.tar"
EPS = 1e-6  # of the encoder's layer norms; the probe's have torch's default


class Size(NamedTuple):
    """Width, layers and heads; what it reads, in frames and px; its patches, the same."""

    width: int = 1280
    layers: int = 32
    heads: int = 16
    frames: int = 16
    side: int = 224
    tubelet: int = 2
    patch: int = 16


class VJepa(nn.Module):
    """float (N, 3, 16, 224, 224), normalised → (N, 1280): what the probe pools of all tokens."""

    def __init__(self, size: Size = Size()) -> None:  # noqa: B008  # it is frozen
        super().__init__()
        self.encoder = _Encoder(size)
        self.pooler = _Pooler(size)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.pooler(self.encoder(clips))
        return result


class _Encoder(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        cube = (size.tubelet, size.patch, size.patch)
        tokens = size.frames // size.tubelet * (size.side // size.patch) ** 2
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, size.width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv3d(3, size.width, cube, stride=cube)})
        self.blocks = nn.ModuleList(_Block(size) for _ in range(size.layers))
        self.norm = nn.LayerNorm(size.width, eps=EPS)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed["proj"](clips).flatten(2).transpose(1, 2) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        result: torch.Tensor = self.norm(x)
        return result


class _Block(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(size.width, eps=EPS)
        self.attn: Any = _Attention(size, qkv=3)
        self.norm2 = nn.LayerNorm(size.width, eps=EPS)
        self.mlp = _Mlp(size.width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.attn.qkv(self.norm1(x)).chunk(3, -1)
        x = x + self.attn(q, k, v)
        result: torch.Tensor = x + self.mlp(self.norm2(x))
        return result


class _Pooler(nn.Module):
    """Tokens (N, L, D) → (N, D): one learnt query looks at all of them."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.query_tokens = nn.Parameter(torch.zeros(1, 1, size.width))
        self.cross_attention_block = nn.ModuleDict(
            {
                "norm1": nn.LayerNorm(size.width),
                "xattn": _Attention(size, q=1, kv=2),
                "norm2": nn.LayerNorm(size.width),
                "mlp": _Mlp(size.width),
            }
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        block = self.cross_attention_block
        query = self.query_tokens.expand(len(tokens), -1, -1)
        attend: Any = block["xattn"]
        k, v = attend.kv(block["norm1"](tokens)).chunk(2, -1)
        query = query + attend(attend.q(query), k, v)
        query = query + block["mlp"](block["norm2"](query))
        return query[:, 0]


class _Attention(nn.Module):
    """``shares`` are its linear maps before the heads: their names, and how many widths wide."""

    def __init__(self, size: Size, **shares: int) -> None:
        super().__init__()
        self.heads = size.heads
        for name, widths in shares.items():
            self.add_module(name, nn.Linear(size.width, widths * size.width))
        self.proj = nn.Linear(size.width, size.width)

    def forward(self, *qkv: torch.Tensor) -> torch.Tensor:
        q, k, v = (x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2) for x in qkv)
        result: torch.Tensor = self.proj(
            scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        )
        return result


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.fc2(gelu(self.fc1(x)))
        return result


def load(path: Path, size: Size = Size()) -> VJepa:  # noqa: B008  # it is frozen
    """The target encoder of ``path`` and the pooler of the probe beside it; its classes are left.

    Raises WrongWeights for files that are damaged or of another network.
    """
    probe = path.with_name(PROBE)
    encoder, classifier = _part(path, "target_encoder"), _part(probe, "classifier")
    pooler = {n: v for n, v in classifier.items() if n.startswith("pooler.")}
    network = VJepa(size)
    fill(network.encoder, {n.removeprefix("backbone."): v for n, v in encoder.items()}, path)
    fill(network.pooler, {n.removeprefix("pooler."): v for n, v in pooler.items()}, probe)
    return network.float().eval()


def _part(path: Path, key: str) -> dict[str, torch.Tensor]:
    state = read_state(path).get(key)
    if not isinstance(state, dict):
        raise WrongWeights(f"{path} has no {key} and so is no checkpoint of V-JEPA")
    return {name.removeprefix("module."): value for name, value in state.items()}
