"""Tiny models: real diffusers pipelines with seeded random weights, built without any file.

They exercise everything a pretrained model does (tokenizer, text encoder, guidance, scheduler,
VAE) in well under a second on one CPU core. Their videos show nothing in particular, but they move
and they depend on prompt, seed and every weight, so a fault in the pipeline shows in the video.
"""

# mypy: disable-error-code="no-untyped-call"
# (constructors of diffusers carry no annotations)

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from diffusers import LTXPipeline, WanPipeline
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

DIM = 32  # width of the text encoder


def seed_weights(
    pipeline: DiffusionPipeline, seed: int = 0, grain: float = 0.5
) -> DiffusionPipeline:
    """Overwrite every parameter of every component of ``pipeline``; give the pipeline back.

    A parameter's values come from numpy's ``PCG64([seed, crc32("<component>.<parameter>")])``, so
    they depend on nothing but its name, shape and ``seed``: not on the library's initialisation,
    nor on the order of the components, nor on the CPU. Matrices are normal with standard deviation
    1/sqrt(fan_in); one-dimensional weights (norms) are 1 + 0.1 N(0, 1); biases are 0.1 N(0, 1);
    convolution kernels blur but for ``grain``, the share of them that is white noise: less grain
    is smoother video that is less sensitive to faults. Buffers stay as they are. Every component
    is set to ``eval``.
    """
    for name, component in pipeline.components.items():
        if not isinstance(component, torch.nn.Module):
            continue
        component.eval()
        with torch.no_grad():
            for key, parameter in component.named_parameters():
                values = _values(f"{name}.{key}", tuple(parameter.shape), seed, grain)
                parameter.copy_(torch.from_numpy(values))
    return pipeline


def _values(name: str, shape: tuple[int, ...], seed: int, grain: float) -> np.ndarray:
    """The float32 values of the parameter ``name``."""
    random = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
    noise = random.standard_normal(shape)
    if name.endswith("bias"):
        values = 0.1 * noise
    elif len(shape) < 2:
        values = 1 + 0.1 * noise
    elif 3 in shape[2:]:
        values = _kernel(noise, grain)
    else:
        values = noise / np.sqrt(np.prod(shape[1:]))
    return values.astype(np.float32)


def _kernel(noise: np.ndarray, grain: float) -> np.ndarray:
    """Weights of a convolution from ``noise`` (out, in, *sizes): channels mixed and blurred.

    White kernels would decode every latent to something that looks like white noise, in which no
    metric sees motion or structure. The blur is the binomial [1, 2, 1] / 4 along each axis of
    size 3; ``grain`` times a white kernel is added.
    """
    fan_in, sizes = noise.shape[1], noise.shape[2:]
    blur = np.ones(1)
    for size in sizes:
        blur = np.multiply.outer(blur, [0.25, 0.5, 0.25] if size == 3 else np.ones(size))
    count = np.prod(sizes)
    channels = noise.mean(axis=tuple(range(2, noise.ndim)), keepdims=True) * np.sqrt(count)
    return channels * blur / np.sqrt(fan_in) + grain * noise / np.sqrt(fan_in * count)


def tiny_wan(seed: int = 0) -> WanPipeline:
    """A `diffusers.WanPipeline` of 1.4 million parameters.

    A video of 17×64×64 in 8 steps takes about 0.3 s on one CPU core.
    """
    from diffusers import (
        AutoencoderKLWan,
        FlowMatchEulerDiscreteScheduler,
        WanPipeline,
        WanTransformer3DModel,
    )
    from transformers import ByT5Tokenizer, UMT5Config, UMT5EncoderModel

    pipeline = WanPipeline(
        tokenizer=ByT5Tokenizer(),
        text_encoder=UMT5EncoderModel(UMT5Config(**text_config())),
        vae=AutoencoderKLWan(base_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=WanTransformer3DModel(
            num_layers=6,
            num_attention_heads=4,
            attention_head_dim=32,
            ffn_dim=256,
            text_dim=DIM,
            freq_dim=64,
        ),
    )
    return finished(pipeline, seed, grain=0.5)


def tiny_ltx(seed: int = 1) -> LTXPipeline:
    """A `diffusers.LTXPipeline` of 1.4 million parameters: another VAE, text encoder and guidance.

    A video of 17×64×64 in 8 steps takes about 0.4 s on one CPU core. The default seed is one whose
    videos depend well on prompt, seed and number of steps.
    """
    from diffusers import (
        AutoencoderKLLTXVideo,
        FlowMatchEulerDiscreteScheduler,
        LTXPipeline,
        LTXVideoTransformer3DModel,
    )
    from transformers import ByT5Tokenizer, T5Config, T5EncoderModel

    pipeline = LTXPipeline(
        tokenizer=ByT5Tokenizer(),
        text_encoder=T5EncoderModel(T5Config(**text_config())),
        vae=AutoencoderKLLTXVideo(
            latent_channels=16,
            block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            layers_per_block=(1, 1, 1, 1, 1),
            decoder_layers_per_block=(1, 1, 1, 1, 1),
            patch_size=1,  # patches of 4 would leave the last upsampling without a convolution
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        transformer=LTXVideoTransformer3DModel(
            in_channels=16,
            out_channels=16,
            num_layers=4,
            num_attention_heads=4,
            attention_head_dim=32,
            cross_attention_dim=128,
            caption_channels=DIM,
        ),
    )
    return finished(pipeline, seed, grain=0.2)


def text_config() -> dict[str, Any]:
    """A T5 as small as its tokenizer (384 bytes and sentinels) lets it be."""
    return {
        "vocab_size": 384,
        "d_model": DIM,
        "d_kv": 8,
        "d_ff": 64,
        "num_layers": 2,
        "num_heads": 4,
        "feed_forward_proj": "gated-gelu",
    }


def finished(pipeline: Any, seed: int, grain: float) -> Any:
    """``pipeline`` with seeded weights and without a progress bar."""
    seed_weights(pipeline, seed, grain)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
