"""LTX-2: a video and its sound."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_vdb.models.embedded import DIM
from pytest_vdb.models.twins.parts import byte_tokenizer, language_config, twin, vision_config

if TYPE_CHECKING:
    from diffusers import LTX2Pipeline

HEADS, WIDTH, AUDIO_WIDTH = 4, 32, 16
RATE = 4000  # Hz of the sound that the VAE knows; the vocoder gives twice as many


def tiny_ltx2(seed: int = 0) -> LTX2Pipeline:
    """A `diffusers.LTX2Pipeline`, whose videos have two channels of sound."""
    from diffusers import (
        AutoencoderKLLTX2Audio,
        AutoencoderKLLTX2Video,
        FlowMatchEulerDiscreteScheduler,
        LTX2Pipeline,
        LTX2VideoTransformer3DModel,
    )
    from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
    from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    layers, channels = 2, 16
    pipeline = LTX2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=AutoencoderKLLTX2Video(
            latent_channels=channels,
            block_out_channels=(8, 16, 32, 64),
            decoder_block_out_channels=(8, 16, 32),
            layers_per_block=(1, 1, 1, 1, 1),
            decoder_layers_per_block=(1, 1, 1, 1),
            patch_size=1,
            spatial_compression_ratio=8,
            temporal_compression_ratio=8,
        ),
        audio_vae=AutoencoderKLLTX2Audio(
            base_channels=8,
            ch_mult=(1, 1, 1),
            num_res_blocks=1,
            resolution=32,
            latent_channels=2,
            sample_rate=RATE,
            mel_hop_length=40,
            mel_bins=16,
        ),
        text_encoder=Gemma3ForConditionalGeneration(
            Gemma3Config(
                text_config={**language_config(layers), "num_key_value_heads": 2, "head_dim": 8},
                vision_config=vision_config(),
            )
        ),
        tokenizer=byte_tokenizer(),
        connectors=LTX2TextConnectors(
            caption_channels=DIM,
            text_proj_in_factor=layers + 1,
            **_connector("video"),
            **_connector("audio"),
        ),
        transformer=LTX2VideoTransformer3DModel(
            in_channels=channels,
            out_channels=channels,
            num_attention_heads=HEADS,
            attention_head_dim=WIDTH,
            cross_attention_dim=HEADS * WIDTH,
            audio_in_channels=8,
            audio_out_channels=8,
            audio_num_attention_heads=HEADS,
            audio_attention_head_dim=AUDIO_WIDTH,
            audio_cross_attention_dim=HEADS * AUDIO_WIDTH,
            audio_sampling_rate=RATE,
            audio_hop_length=40,
            num_layers=3,
            caption_channels=DIM,
        ),
        vocoder=LTX2Vocoder(
            in_channels=32,
            hidden_channels=32,
            upsample_kernel_sizes=[8, 8, 4],
            upsample_factors=[5, 4, 4],
            resnet_kernel_sizes=[3],
            resnet_dilations=[[1, 3]],
            output_sampling_rate=2 * RATE,
        ),
    )
    return twin(pipeline, seed, grain=0.2, contrast=1.0)


def _connector(kind: str) -> dict[str, Any]:
    return {
        f"{kind}_connector_num_attention_heads": HEADS,
        f"{kind}_connector_attention_head_dim": DIM // HEADS,
        f"{kind}_connector_num_layers": 1,
        f"{kind}_connector_num_learnable_registers": 16,
    }
