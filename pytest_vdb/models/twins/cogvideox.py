"""CogVideoX, and ConsisID, which is built on it."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_vdb.models.embedded import DIM
from pytest_vdb.models.twins.parts import t5, twin

if TYPE_CHECKING:
    from diffusers import CogVideoXImageToVideoPipeline, CogVideoXPipeline
    from diffusers.pipelines.consisid.pipeline_consisid import ConsisIDPipeline

TEXT = 64  # bytes of a prompt that the transformer reads


def tiny_cogvideox(seed: int = 1) -> CogVideoXPipeline:
    """A `diffusers.CogVideoXPipeline` like CogVideoX-2b: fixed positions, DDIM."""
    from diffusers import CogVideoXDDIMScheduler, CogVideoXPipeline, CogVideoXTransformer3DModel

    pipeline = CogVideoXPipeline(
        **t5(),
        vae=_vae(),
        transformer=CogVideoXTransformer3DModel(**_transformer()),
        scheduler=CogVideoXDDIMScheduler(**_schedule()),
    )
    return twin(pipeline, seed, grain=0.3, contrast=0.3)


def tiny_cogvideox_i2v(seed: int = 1) -> CogVideoXImageToVideoPipeline:
    """A `diffusers.CogVideoXImageToVideoPipeline` like CogVideoX-5b: rotary positions, DPM."""
    from diffusers import (
        CogVideoXDPMScheduler,
        CogVideoXImageToVideoPipeline,
        CogVideoXTransformer3DModel,
    )

    pipeline = CogVideoXImageToVideoPipeline(
        **t5(),
        vae=_vae(),
        transformer=CogVideoXTransformer3DModel(**_transformer(**_FROM_PICTURE)),
        scheduler=CogVideoXDPMScheduler(**_schedule()),
    )
    return twin(pipeline, seed, grain=0.3, contrast=0.3)


def tiny_consisid(seed: int = 1) -> ConsisIDPipeline:
    """A `ConsisIDPipeline` without the face branch, whose inputs a face detector's files make.

    diffusers exports the class only where OpenCV is installed, which no more than drawing the
    key points of a face needs; hence it is imported from where it lives.
    """
    from diffusers import CogVideoXDPMScheduler
    from diffusers.models.transformers.consisid_transformer_3d import ConsisIDTransformer3DModel
    from diffusers.pipelines.consisid.pipeline_consisid import ConsisIDPipeline

    pipeline = ConsisIDPipeline(
        **t5(),
        vae=_vae(),
        transformer=ConsisIDTransformer3DModel(**_transformer(**_FROM_PICTURE)),
        scheduler=CogVideoXDPMScheduler(**_schedule()),
    )
    return twin(pipeline, seed, grain=0.3, contrast=0.3)


_FROM_PICTURE: dict[str, Any] = {
    "in_channels": 32,  # noise, and the latent of the picture
    "use_rotary_positional_embeddings": True,
}


def _transformer(**changes: Any) -> dict[str, Any]:
    return {
        "num_attention_heads": 4,
        "attention_head_dim": 16,
        "num_layers": 4,
        "time_embed_dim": 64,
        "text_embed_dim": DIM,
        "max_text_seq_length": TEXT,
        "sample_width": 8,
        "sample_height": 8,
        "sample_frames": 17,
        **changes,
    }


def _vae() -> Any:
    from diffusers import AutoencoderKLCogVideoX

    return AutoencoderKLCogVideoX(
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        sample_height=64,
        sample_width=64,
    )


def _schedule() -> dict[str, Any]:
    """The schedule of CogVideoX, on which its shift towards noise rests."""
    return {
        "beta_schedule": "scaled_linear",
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "snr_shift_scale": 3.0,
        "timestep_spacing": "trailing",
    }
