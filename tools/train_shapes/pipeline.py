"""The three networks as one `diffusers.WanPipeline`, and how it is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from transformers import ByT5Tokenizer, UMT5Config, UMT5EncoderModel

from pytest_vdb.models.folder import digest

TOKENS = 64  # bytes of a caption, padded: what the model is trained on and must be called with
SHIFT = 3.0  # of the timesteps towards noise


def text_encoder() -> Any:
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=384,
            d_model=64,
            d_kv=16,
            d_ff=128,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
        )
    )


def transformer(channels: int = 8) -> Any:
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_layers=5,
        num_attention_heads=4,
        attention_head_dim=32,
        in_channels=channels,
        out_channels=channels,
        text_dim=64,
        freq_dim=64,
        ffn_dim=256,
        rope_max_seq_len=32,
    )


def assemble(vae: Any, encoder: Any, denoiser: Any) -> Any:
    pipeline = WanPipeline(
        tokenizer=ByT5Tokenizer(),
        text_encoder=encoder.eval(),
        vae=vae.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
        transformer=denoiser.eval(),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def export(pipeline: Any, folder: Path) -> str:
    """Write ``pipeline`` in fp16, as `from_pretrained` reads it; give its digest, the catalog's."""
    pipeline.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    # transformers 5 writes as a list what 4 reads as a dict; the tokenizer makes them anew anyway.
    _forget(folder / "tokenizer" / "tokenizer_config.json", "extra_special_tokens")
    for component in ("vae", "transformer"):  # where it was trained is nobody's business
        _forget(folder / component / "config.json", "_name_or_path")
    return digest(folder)


def _forget(config: Path, key: str) -> None:
    known = json.loads(config.read_text(encoding="utf-8"))
    known.pop(key, None)
    config.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
