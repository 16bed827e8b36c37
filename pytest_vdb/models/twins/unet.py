"""Families that grew out of Stable Diffusion: a U-Net that was taught time."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_vdb.models.embedded import DIM
from pytest_vdb.models.twins.parts import clip, clip_vision, picture_vae, twin

if TYPE_CHECKING:
    from diffusers import (
        AnimateDiffPipeline,
        StableVideoDiffusionPipeline,
        TextToVideoSDPipeline,
        TextToVideoZeroPipeline,
    )

WIDTHS = (32, 64)


def tiny_svd(seed: int = 1) -> StableVideoDiffusionPipeline:
    """A `diffusers.StableVideoDiffusionPipeline`: a picture and no prompt."""
    from diffusers import (
        AutoencoderKLTemporalDecoder,
        EulerDiscreteScheduler,
        StableVideoDiffusionPipeline,
        UNetSpatioTemporalConditionModel,
    )

    encoder, processor = clip_vision(224, 32)  # the pipeline itself resizes to 224 px
    vae = picture_vae()
    del vae["norm_num_groups"], vae["up_block_types"]
    vae["block_out_channels"] = (32, 32, 32, 32)
    pipeline = StableVideoDiffusionPipeline(
        vae=AutoencoderKLTemporalDecoder(**vae),
        image_encoder=encoder,
        unet=UNetSpatioTemporalConditionModel(
            sample_size=8,
            down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
            up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
            block_out_channels=WIDTHS,
            addition_time_embed_dim=32,
            projection_class_embeddings_input_dim=96,
            layers_per_block=1,
            cross_attention_dim=DIM,
            num_attention_heads=(2, 4),
            num_frames=8,
        ),
        scheduler=EulerDiscreteScheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            interpolation_type="linear",
            prediction_type="v_prediction",
            sigma_max=700.0,
            sigma_min=0.002,
            timestep_spacing="leading",
            timestep_type="continuous",
            use_karras_sigmas=True,
        ),
        feature_extractor=processor,
    )
    return twin(pipeline, seed, grain=0.3, contrast=0.7)


def tiny_animatediff(seed: int = 1) -> AnimateDiffPipeline:
    """A `diffusers.AnimateDiffPipeline`: a U-Net for pictures and an adapter that moves them."""
    from diffusers import (
        AnimateDiffPipeline,
        AutoencoderKL,
        DDIMScheduler,
        MotionAdapter,
        UNet2DConditionModel,
    )

    pipeline = AnimateDiffPipeline(
        **clip(),
        vae=AutoencoderKL(**picture_vae()),
        unet=UNet2DConditionModel(**_unet()),
        motion_adapter=MotionAdapter(
            block_out_channels=WIDTHS,
            motion_layers_per_block=1,
            motion_num_attention_heads=4,
            motion_norm_num_groups=8,
        ),
        scheduler=DDIMScheduler(**_SCHEDULE, beta_schedule="linear", clip_sample=False),
    )
    return twin(pipeline, seed, grain=0.3, contrast=0.7)


def tiny_modelscope(seed: int = 1) -> TextToVideoSDPipeline:
    """A `diffusers.TextToVideoSDPipeline`, the class of ModelScope and Zeroscope."""
    from diffusers import AutoencoderKL, DDIMScheduler, TextToVideoSDPipeline, UNet3DConditionModel

    pipeline = TextToVideoSDPipeline(
        **clip(),
        vae=AutoencoderKL(**picture_vae()),
        unet=UNet3DConditionModel(
            **_unet(
                down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
                up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
            )
        ),
        scheduler=DDIMScheduler(**_SCHEDULE, beta_schedule="scaled_linear", clip_sample=False),
    )
    return twin(pipeline, seed, grain=0.3, contrast=0.7)


def tiny_text2video_zero(seed: int = 1) -> TextToVideoZeroPipeline:
    """A `diffusers.TextToVideoZeroPipeline`: a U-Net for pictures whose noise is moved."""
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        TextToVideoZeroPipeline,
        UNet2DConditionModel,
    )

    pipeline = TextToVideoZeroPipeline(
        **clip(),
        vae=AutoencoderKL(**picture_vae()),
        unet=UNet2DConditionModel(**_unet()),
        scheduler=DDIMScheduler(**_SCHEDULE, beta_schedule="scaled_linear", clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return twin(pipeline, seed, grain=0.3, contrast=0.7)


_SCHEDULE: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012}


def _unet(**changes: Any) -> dict[str, Any]:
    return {
        "sample_size": 8,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "block_out_channels": WIDTHS,
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "cross_attention_dim": DIM,
        "attention_head_dim": 8,
        **changes,
    }
