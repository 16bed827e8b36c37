"""The Wan family: two experts, a picture to start from, and SkyReels-V2, which shares its parts."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_vdb.models.embedded import DIM
from pytest_vdb.models.twins.parts import clip_vision, twin, umt5

if TYPE_CHECKING:
    from diffusers import SkyReelsV2Pipeline, WanImageToVideoPipeline, WanPipeline

CHANNELS = 16  # of a latent


def tiny_wan22(seed: int = 2) -> WanPipeline:
    """A `diffusers.WanPipeline` like Wan 2.2 A14B: one transformer for noise, one for detail."""
    from diffusers import WanPipeline, WanTransformer3DModel

    pipeline = WanPipeline(
        **umt5(),
        vae=_vae(),
        scheduler=_scheduler(),
        transformer=WanTransformer3DModel(**_transformer(num_layers=3)),
        transformer_2=WanTransformer3DModel(**_transformer(num_layers=3)),
        boundary_ratio=0.875,
    )
    return twin(pipeline, seed, grain=0.5, contrast=1.0)


def tiny_wan22_ti2v(seed: int = 0) -> WanPipeline:
    """A `diffusers.WanPipeline` like Wan 2.2 TI2V-5B: a residual VAE, a time step a token."""
    from diffusers import AutoencoderKLWan, WanPipeline, WanTransformer3DModel

    channels = 48
    pipeline = WanPipeline(
        **umt5(),
        vae=AutoencoderKLWan(
            base_dim=8,
            decoder_base_dim=8,
            z_dim=channels,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
            latents_mean=[0.0] * channels,
            latents_std=[1.0] * channels,
            is_residual=True,
            in_channels=12,
            out_channels=12,
            patch_size=2,
            scale_factor_spatial=16,
        ),
        scheduler=_scheduler(),
        transformer=WanTransformer3DModel(
            **_transformer(in_channels=channels, out_channels=channels)
        ),
        expand_timesteps=True,
    )
    return twin(pipeline, seed, grain=0.5, contrast=1.0)


def tiny_wan_i2v(seed: int = 2) -> WanImageToVideoPipeline:
    """A `diffusers.WanImageToVideoPipeline` like Wan 2.1 I2V: CLIP sees the picture as well."""
    from diffusers import WanImageToVideoPipeline, WanTransformer3DModel

    encoder, processor = clip_vision(projected=False)
    pipeline = WanImageToVideoPipeline(
        **umt5(),
        vae=_vae(),
        scheduler=_scheduler(),
        transformer=WanTransformer3DModel(
            **_transformer(
                in_channels=2 * CHANNELS + 4,  # noise, the picture's latent, which frames it gives
                image_dim=DIM,
                added_kv_proj_dim=128,
            )
        ),
        image_encoder=encoder,
        image_processor=processor,
    )
    return twin(pipeline, seed, grain=0.5, contrast=1.0)


def tiny_skyreels(seed: int = 2) -> SkyReelsV2Pipeline:
    """A `diffusers.SkyReelsV2Pipeline`."""
    from diffusers import SkyReelsV2Pipeline, SkyReelsV2Transformer3DModel, UniPCMultistepScheduler

    pipeline = SkyReelsV2Pipeline(
        **umt5(),
        vae=_vae(),
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=8.0
        ),
        transformer=SkyReelsV2Transformer3DModel(**_transformer()),
    )
    return twin(pipeline, seed, grain=0.5, contrast=1.0)


def _transformer(**changes: Any) -> dict[str, Any]:
    return {
        "num_layers": 6,
        "num_attention_heads": 4,
        "attention_head_dim": 32,
        "ffn_dim": 256,
        "text_dim": DIM,
        "freq_dim": 64,
        **changes,
    }


def _vae() -> Any:
    from diffusers import AutoencoderKLWan

    return AutoencoderKLWan(base_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1)


def _scheduler() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(shift=3.0)
