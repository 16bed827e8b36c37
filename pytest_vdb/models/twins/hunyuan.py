"""The HunyuanVideo family, FramePack, and Kandinsky 5, which decodes with the same VAE."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_vdb.models.embedded import DIM, text_config
from pytest_vdb.models.twins.parts import (
    byte_tokenizer,
    clip,
    language_config,
    qwen_config,
    twin,
    vision_config,
)

if TYPE_CHECKING:
    from diffusers import (
        HunyuanVideo15Pipeline,
        HunyuanVideoFramepackPipeline,
        HunyuanVideoPipeline,
        Kandinsky5T2VPipeline,
    )

HEAD = 16  # width of an attention head
AXES = (4, 6, 6)  # of it, how much tells time, row and column


def tiny_hunyuan(seed: int = 1) -> HunyuanVideoPipeline:
    """A `diffusers.HunyuanVideoPipeline`: Llama and CLIP read the prompt."""
    from diffusers import HunyuanVideoPipeline, HunyuanVideoTransformer3DModel

    pipeline = HunyuanVideoPipeline(
        **_llama(),
        **clip("_2"),
        vae=_vae(),
        scheduler=_scheduler(),
        transformer=HunyuanVideoTransformer3DModel(**_transformer()),
    )
    return twin(pipeline, seed, grain=1.0, contrast=0.3)


def tiny_framepack(seed: int = 1) -> HunyuanVideoFramepackPipeline:
    """A `diffusers.HunyuanVideoFramepackPipeline`: sections of a video, from a picture."""
    from diffusers import HunyuanVideoFramepackPipeline, HunyuanVideoFramepackTransformer3DModel
    from transformers import SiglipImageProcessor, SiglipVisionConfig, SiglipVisionModel

    pipeline = HunyuanVideoFramepackPipeline(
        **_llama(),
        **clip("_2"),
        vae=_vae(),
        scheduler=_scheduler(),
        transformer=HunyuanVideoFramepackTransformer3DModel(
            **_transformer(),
            has_image_proj=True,
            image_proj_dim=DIM,
            has_clean_x_embedder=True,
        ),
        image_encoder=SiglipVisionModel(SiglipVisionConfig(**vision_config())),
        feature_extractor=SiglipImageProcessor(size={"height": 32, "width": 32}),
    )
    return twin(pipeline, seed, grain=1.0, contrast=0.5)


def tiny_hunyuan15(seed: int = 3) -> HunyuanVideo15Pipeline:
    """A `diffusers.HunyuanVideo15Pipeline`: Qwen reads the prompt, ByT5 the text to be shown."""
    from diffusers import (
        AutoencoderKLHunyuanVideo15,
        ClassifierFreeGuidance,
        HunyuanVideo15Pipeline,
        HunyuanVideo15Transformer3DModel,
    )
    from transformers import ByT5Tokenizer, T5Config, T5EncoderModel
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLTextModel

    channels = 8
    pipeline = HunyuanVideo15Pipeline(
        tokenizer=byte_tokenizer(system=108),
        text_encoder=Qwen2_5_VLTextModel(Qwen2_5_VLTextConfig(**qwen_config(layers=3))),
        tokenizer_2=ByT5Tokenizer(),
        text_encoder_2=T5EncoderModel(T5Config(**text_config())),
        vae=AutoencoderKLHunyuanVideo15(
            latent_channels=channels,
            block_out_channels=(8, 8, 8, 8, 8),
            layers_per_block=1,
        ),
        scheduler=_scheduler(),
        transformer=HunyuanVideo15Transformer3DModel(
            in_channels=2 * channels + 1,
            out_channels=channels,
            num_attention_heads=2,
            attention_head_dim=HEAD,
            rope_axes_dim=AXES,
            num_layers=3,
            num_refiner_layers=1,
            text_embed_dim=DIM,
            text_embed_2_dim=DIM,
            image_embed_dim=DIM,
            target_size=64,
            task_type="t2v",
        ),
        guider=ClassifierFreeGuidance(guidance_scale=6.0),
    )
    return twin(pipeline, seed, grain=1.0, contrast=0.4)


def tiny_kandinsky5(seed: int = 1) -> Kandinsky5T2VPipeline:
    """A `diffusers.Kandinsky5T2VPipeline`: Qwen-VL and CLIP read the prompt."""
    from diffusers import Kandinsky5T2VPipeline, Kandinsky5Transformer3DModel
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    pipeline = Kandinsky5T2VPipeline(
        tokenizer=byte_tokenizer(),
        text_encoder=Qwen2_5_VLForConditionalGeneration(
            Qwen2_5_VLConfig(text_config=qwen_config(), vision_config=_QWEN_VISION)
        ),
        **clip("_2"),
        vae=_vae(),
        scheduler=_scheduler(),
        transformer=Kandinsky5Transformer3DModel(
            in_visual_dim=16,
            out_visual_dim=16,
            in_text_dim=DIM,
            in_text_dim2=DIM,
            time_dim=64,
            model_dim=64,
            ff_dim=128,
            num_text_blocks=1,
            num_visual_blocks=4,
            axes_dims=AXES,
        ),
    )
    return twin(pipeline, seed, grain=1.0, contrast=0.4)


_QWEN_VISION = {
    "depth": 1,
    "hidden_size": DIM,
    "intermediate_size": 64,
    "num_heads": 4,
    "out_hidden_size": DIM,
    "fullatt_block_indexes": [0],
}


def _llama() -> dict[str, Any]:
    """``tokenizer`` and ``text_encoder``; the pipeline takes the third layer from the end."""
    from transformers import LlamaConfig, LlamaModel

    return {
        "tokenizer": byte_tokenizer(),
        "text_encoder": LlamaModel(LlamaConfig(**language_config(layers=3))),
    }


def _transformer() -> dict[str, Any]:
    return {
        "num_attention_heads": 4,
        "attention_head_dim": HEAD,
        "rope_axes_dim": AXES,
        "num_layers": 2,
        "num_single_layers": 2,
        "num_refiner_layers": 1,
        "text_embed_dim": DIM,
        "pooled_projection_dim": DIM,
    }


def _vae() -> Any:
    from diffusers import AutoencoderKLHunyuanVideo

    return AutoencoderKLHunyuanVideo(
        block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4
    )


def _scheduler() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(shift=7.0)
