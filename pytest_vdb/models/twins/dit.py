"""Transformers of many houses over a T5 or another small language model."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_vdb.models.embedded import DIM
from pytest_vdb.models.twins.parts import (
    VOCABULARY,
    byte_tokenizer,
    language_config,
    picture_vae,
    qwen_config,
    t5,
    twin,
)

if TYPE_CHECKING:
    from diffusers import (
        AllegroPipeline,
        Cosmos3OmniPipeline,
        EasyAnimatePipeline,
        LattePipeline,
        MochiPipeline,
        SanaVideoPipeline,
    )


def tiny_mochi(seed: int = 1) -> MochiPipeline:
    """A `diffusers.MochiPipeline`."""
    from diffusers import (
        AutoencoderKLMochi,
        FlowMatchEulerDiscreteScheduler,
        MochiPipeline,
        MochiTransformer3DModel,
    )

    pipeline = MochiPipeline(
        **t5(),
        vae=AutoencoderKLMochi(
            encoder_block_out_channels=(32, 32, 32, 32),
            decoder_block_out_channels=(32, 32, 32, 32),
            layers_per_block=(1, 1, 1, 1, 1),
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        transformer=MochiTransformer3DModel(
            num_attention_heads=4,
            attention_head_dim=16,
            num_layers=4,
            pooled_projection_dim=DIM,
            text_embed_dim=DIM,
            time_embed_dim=32,
            max_sequence_length=64,
        ),
    )
    return twin(pipeline, seed, grain=0.3, contrast=0.2)


def tiny_allegro(seed: int = 1) -> AllegroPipeline:
    """A `diffusers.AllegroPipeline`."""
    from diffusers import (
        AllegroPipeline,
        AllegroTransformer3DModel,
        AutoencoderKLAllegro,
        EulerAncestralDiscreteScheduler,
    )

    vae: Any = AutoencoderKLAllegro(
        block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4, sample_size=128
    )
    vae.enable_tiling()  # it decodes in no other way
    pipeline = AllegroPipeline(
        **t5(),
        vae=vae,
        scheduler=EulerAncestralDiscreteScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012
        ),
        transformer=AllegroTransformer3DModel(
            num_attention_heads=4,
            attention_head_dim=24,
            num_layers=4,
            cross_attention_dim=96,
            caption_channels=DIM,
            sample_height=8,
            sample_width=8,
            sample_frames=4,
        ),
    )
    return twin(pipeline, seed, grain=1.0, contrast=0.5)


def tiny_latte(seed: int = 1) -> LattePipeline:
    """A `diffusers.LattePipeline`: attention in space and in time by turns, pictures decoded."""
    from diffusers import AutoencoderKL, DDIMScheduler, LattePipeline, LatteTransformer3DModel

    pipeline = LattePipeline(
        **t5(),
        vae=AutoencoderKL(**picture_vae()),
        scheduler=DDIMScheduler(beta_schedule="linear", beta_start=0.0001, beta_end=0.02),
        transformer=LatteTransformer3DModel(
            num_attention_heads=4,
            attention_head_dim=16,
            in_channels=4,
            out_channels=8,
            num_layers=3,
            cross_attention_dim=64,
            attention_bias=True,
            sample_size=8,
            patch_size=2,
            activation_fn="gelu-approximate",
            num_embeds_ada_norm=1000,
            norm_type="ada_norm_single",
            norm_elementwise_affine=False,
            caption_channels=DIM,
            video_length=8,
        ),
    )
    return twin(pipeline, seed, grain=0.3, contrast=0.5)


def tiny_sana_video(seed: int = 0) -> SanaVideoPipeline:
    """A `diffusers.SanaVideoPipeline`: linear attention; Gemma reads the prompt."""
    from diffusers import (
        AutoencoderKLWan,
        DPMSolverMultistepScheduler,
        SanaVideoPipeline,
        SanaVideoTransformer3DModel,
    )
    from transformers import Gemma2Config, Gemma2Model

    pipeline = SanaVideoPipeline(
        tokenizer=byte_tokenizer(),
        text_encoder=Gemma2Model(
            Gemma2Config(**language_config(), num_key_value_heads=2, head_dim=8)
        ),
        vae=AutoencoderKLWan(base_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1),
        scheduler=DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=8.0
        ),
        transformer=SanaVideoTransformer3DModel(
            num_attention_heads=4,
            attention_head_dim=16,
            num_cross_attention_heads=4,
            cross_attention_head_dim=16,
            cross_attention_dim=64,
            caption_channels=DIM,
            num_layers=4,
            sample_size=8,
        ),
    )
    return twin(pipeline, seed, grain=0.5, contrast=1.0)


def tiny_easyanimate(seed: int = 1) -> EasyAnimatePipeline:
    """A `diffusers.EasyAnimatePipeline` like EasyAnimate 5.1: Qwen2-VL reads the prompt."""
    from diffusers import (
        AutoencoderKLMagvit,
        EasyAnimatePipeline,
        EasyAnimateTransformer3DModel,
        FlowMatchEulerDiscreteScheduler,
    )
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    pipeline = EasyAnimatePipeline(
        tokenizer=byte_tokenizer(),
        text_encoder=Qwen2VLForConditionalGeneration(
            Qwen2VLConfig(text_config=qwen_config(), vision_config=_QWEN_VISION)
        ),
        vae=AutoencoderKLMagvit(
            block_out_channels=[8, 8, 8, 8], layers_per_block=1, norm_num_groups=4
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        transformer=EasyAnimateTransformer3DModel(
            num_attention_heads=4,
            attention_head_dim=16,
            in_channels=16,
            out_channels=16,
            patch_size=2,
            num_layers=4,
            mmdit_layers=4,
            time_embed_dim=64,
            add_norm_text_encoder=True,
            text_embed_dim=DIM,
            sample_width=8,
            sample_height=8,
        ),
    )
    return twin(pipeline, seed, grain=2.0, contrast=0.4)


def tiny_cosmos(seed: int = 2) -> Cosmos3OmniPipeline:
    """A `diffusers.Cosmos3OmniPipeline`: one transformer reads the prompt and makes the video.

    Without the guardrail, which this class lets one leave out and which needs gated weights.
    """
    from diffusers import (
        AutoencoderKLWan,
        Cosmos3OmniPipeline,
        Cosmos3OmniTransformer,
        UniPCMultistepScheduler,
    )

    channels = 16
    pipeline = Cosmos3OmniPipeline(
        text_tokenizer=byte_tokenizer(),
        vae=AutoencoderKLWan(base_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1),
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0
        ),
        transformer=Cosmos3OmniTransformer(
            head_dim=16,
            hidden_size=64,
            intermediate_size=128,
            latent_channel=channels,
            latent_patch_size=2,
            patch_latent_dim=4 * channels,
            num_attention_heads=4,
            num_key_value_heads=2,
            num_hidden_layers=4,
            vocab_size=VOCABULARY,
            rope_scaling={"mrope_section": [4, 2, 2], "rope_type": "default"},
        ),
        enable_safety_checker=False,
    )
    return twin(pipeline, seed, grain=0.5, contrast=1.0)


_QWEN_VISION = {"depth": 1, "embed_dim": DIM, "hidden_size": DIM, "num_heads": 4}
