"""CLIP ViT-H/14 under OpenCLIP's parameter names (Cherti et al., CVPR 2023), as HPS v2 has them.

The same network as transformers' CLIPModel: parameters are renamed, and attention's three matrices
are cut apart.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from pytest_vdb.errors import WrongWeights
from pytest_vdb.metrics.networks.clip import Clip
from pytest_vdb.metrics.networks.viclip import MERGES, tokenizer
from pytest_vdb.metrics.networks.vit import pretrained
from pytest_vdb.metrics.weights import read_state

VIT_H14: dict[str, Any] = {
    "projection_dim": 1024,
    "text_config": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "hidden_act": "gelu",
    },
    "vision_config": {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "patch_size": 14,
        "hidden_act": "gelu",
    },
}
NAMES = (  # OpenCLIP's, and what transformers calls them
    (r"visual\.class_embedding$", "vision_model.embeddings.class_embedding"),
    (r"visual\.positional_embedding$", "vision_model.embeddings.position_embedding.weight"),
    (r"visual\.conv1\.", "vision_model.embeddings.patch_embedding."),
    (r"visual\.ln_pre\.", "vision_model.pre_layrnorm."),
    (r"visual\.ln_post\.", "vision_model.post_layernorm."),
    (r"visual\.proj$", "visual_projection.weight"),
    (r"visual\.transformer\.resblocks\.", "vision_model.encoder.layers."),
    (r"transformer\.resblocks\.", "text_model.encoder.layers."),
    (r"token_embedding\.", "text_model.embeddings.token_embedding."),
    (r"positional_embedding$", "text_model.embeddings.position_embedding.weight"),
    (r"ln_final\.", "text_model.final_layer_norm."),
    (r"text_projection$", "text_projection.weight"),
)
IN_BLOCKS = (
    (".ln_1.", ".layer_norm1."),
    (".ln_2.", ".layer_norm2."),
    (".attn.out_proj.", ".self_attn.out_proj."),
    (".mlp.c_fc.", ".mlp.fc1."),
    (".mlp.c_proj.", ".mlp.fc2."),
)
TURNED = ("visual_projection.weight", "text_projection.weight")  # OpenCLIP multiplies from the left


class OpenClip(Clip):
    """`Clip` whose text is mended first, as OpenCLIP does: broken Unicode, HTML escapes."""

    def text(self, prompt: str) -> torch.Tensor:
        import ftfy

        return super().text(html.unescape(html.unescape(ftfy.fix_text(prompt))).strip())


def load(path: Path, **smaller: Any) -> OpenClip:
    """The network of ``path``, with the merges of CLIP's tokenizer beside it.

    ``smaller`` are other sizes of `transformers.CLIPConfig`, for a network of the same design.
    Raises WrongWeights for files that are damaged or of another network.
    """
    from transformers import CLIPConfig, CLIPModel

    state = read_state(path)
    state = state.get("state_dict", state)
    config = CLIPConfig(**VIT_H14 | smaller)
    try:
        named = dict(renamed(state))
    except (AttributeError, ValueError, RuntimeError) as error:
        raise WrongWeights(f"{path} holds no weights of OpenCLIP: {error}") from None
    model = pretrained(CLIPModel, path, config, named)
    return OpenClip(model, tokenizer(path.with_name(MERGES)))


def renamed(state: dict[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """OpenCLIP's parameters by the names that transformers has for them."""
    for name, value in state.items():
        for theirs, ours in NAMES:
            name = re.sub(f"^{theirs}", ours, name)
        for theirs, ours in IN_BLOCKS:
            name = name.replace(theirs, ours)
        if matched := re.fullmatch(r"(.*)\.attn\.in_proj_(weight|bias)", name):
            for part, share in zip(("q", "k", "v"), value.chunk(3), strict=True):
                yield f"{matched[1]}.self_attn.{part}_proj.{matched[2]}", share
        else:
            yield name, value.T if name in TURNED else value
