"""VideoMAE v2 (Wang et al., CVPR 2023), ViT-g/14, as content-debiased FVD uses it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import layer_norm

from pytest_vdb.errors import WrongWeights
from pytest_vdb.metrics.networks.vit import pretrained
from pytest_vdb.metrics.weights import read_state

FRAMES, SIDE, WIDTH = 16, 224, 1408
EPS = 1e-6  # of all its layer norms; transformers' classes have 1e-12 and 1e-5
CONFIG: dict[str, Any] = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 40,
    "num_attention_heads": 16,
    "intermediate_size": 6144,
    "image_size": SIDE,
    "patch_size": 14,
    "num_frames": FRAMES,
    "tubelet_size": 2,
    "layer_norm_eps": EPS,
    "use_mean_pooling": True,
}
NAMES = (  # of the published parameters, and what transformers calls them
    (r"patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"blocks\.(\d+)\.norm1\.", r"encoder.layer.\1.layernorm_before."),
    (r"blocks\.(\d+)\.norm2\.", r"encoder.layer.\1.layernorm_after."),
    (r"blocks\.(\d+)\.attn\.proj\.", r"encoder.layer.\1.attention.output.dense."),
    (r"blocks\.(\d+)\.attn\.q_bias", r"encoder.layer.\1.attention.attention.query.bias"),
    (r"blocks\.(\d+)\.attn\.v_bias", r"encoder.layer.\1.attention.attention.value.bias"),
    (r"blocks\.(\d+)\.mlp\.fc1\.", r"encoder.layer.\1.intermediate.dense."),
    (r"blocks\.(\d+)\.mlp\.fc2\.", r"encoder.layer.\1.output.dense."),
)
QKV = re.compile(r"blocks\.(\d+)\.attn\.qkv\.weight")


class VideoMAE(nn.Module):
    """float (B, 16, 3, 224, 224) in [0, 1] → (B, 1408): the mean token, normalised."""

    def __init__(self, model: Any, weight: torch.Tensor, bias: torch.Tensor) -> None:
        super().__init__()
        self.model = model
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        mean = self.model(pixel_values=clips).last_hidden_state.mean(1)
        return layer_norm(mean, mean.shape[-1:], self.weight, self.bias, EPS)


def load(path: Path, **smaller: int) -> VideoMAE:
    """The encoder of ``vit_g_hybrid_pt_1200e_ssv2_ft.pth``; its classifier is left out.

    ``smaller`` are other sizes of `transformers.VideoMAEConfig`, for a network of the same design.
    Raises WrongWeights for a file of another network.
    """
    from transformers import VideoMAEConfig, VideoMAEModel

    state = read_state(path)
    state = next((state[key] for key in ("model", "module") if key in state), state)
    named = dict(_renamed(state))
    try:
        weight, bias = named.pop("fc_norm.weight"), named.pop("fc_norm.bias")
    except KeyError:
        raise WrongWeights(
            f"{path} has no fc_norm and so is no VideoMAE v2 that was tuned to classify"
        ) from None
    config = VideoMAEConfig(**CONFIG | smaller)
    model = pretrained(VideoMAEModel, path, config, named)
    return VideoMAE(model, weight, bias).float().eval()  # the published file is in half precision


def _renamed(state: dict[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    for name, value in state.items():
        if name.startswith("head."):
            continue
        if matched := QKV.fullmatch(name):
            layer = f"encoder.layer.{matched[1]}.attention.attention."
            for part, share in zip(("query", "key", "value"), value.chunk(3), strict=True):
                yield f"{layer}{part}.weight", share
            continue
        for published, ours in NAMES:
            name = re.sub(f"^{published}", ours, name)
        yield name, value
