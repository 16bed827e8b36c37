"""A tiny twin of each family of video-diffusion models: real classes, seeded random weights.

Each is a pipeline of diffusers that is built without a file: the family's own transformer or
U-Net, VAE, scheduler and text encoders, small; texts are read as bytes.
"""

from __future__ import annotations

from pytest_vdb.records import Json, ModelSpec

IMAGE = "image-to-video"


def _twin(
    name: str,
    location: str,
    pipeline: str,
    millions: float,
    call: dict[str, Json] | None = None,
    **more: Json,
) -> ModelSpec:
    """The entry of one twin; ``call`` changes the default call arguments, None drops one."""
    usual = {"num_frames": 17, "height": 64, "width": 64, "num_inference_steps": 4}
    return ModelSpec(
        name=name,
        source="factory",
        location=f"pytest_vdb.models.twins.{location}",
        call={key: value for key, value in (usual | (call or {})).items() if value is not None},
        options={"num_threads": 1},
        summary=f"{pipeline} of diffusers, {millions} million seeded random weights",
        pipeline=pipeline,
        **more,
    )


_T5 = {"max_sequence_length": 64}
_LLAMA = {"prompt_template": {"template": "{}", "crop_start": 0}, **_T5}
_FEW = {"num_frames": 8}
_VIDEO_LENGTH = {"num_frames": None, "video_length": 8}
_ALLEGRO = {"num_frames": 24, "height": 128, "width": 128}  # no smaller: the size of a VAE's tile
_SANA: dict[str, Json] = {
    "num_frames": None,
    "frames": 17,
    "use_resolution_binning": False,
    "complex_human_instruction": [],
}

TWINS: tuple[ModelSpec, ...] = (
    _twin("tiny-cogvideox", "cogvideox:tiny_cogvideox", "CogVideoXPipeline", 0.5, _T5),
    _twin(
        "tiny-cogvideox-i2v",
        "cogvideox:tiny_cogvideox_i2v",
        "CogVideoXImageToVideoPipeline",
        0.5,
        _T5,
        task=IMAGE,
    ),
    _twin("tiny-consisid", "cogvideox:tiny_consisid", "ConsisIDPipeline", 0.5, _T5, task=IMAGE),
    _twin("tiny-wan2.2", "wan:tiny_wan22", "WanPipeline", 1.6, _T5),
    _twin("tiny-wan2.2-ti2v", "wan:tiny_wan22_ti2v", "WanPipeline", 1.5, _T5),
    _twin("tiny-wan-i2v", "wan:tiny_wan_i2v", "WanImageToVideoPipeline", 1.7, _T5, task=IMAGE),
    _twin("tiny-skyreels", "wan:tiny_skyreels", "SkyReelsV2Pipeline", 1.4, _T5),
    _twin("tiny-hunyuan", "hunyuan:tiny_hunyuan", "HunyuanVideoPipeline", 0.7, _LLAMA),
    _twin(
        "tiny-hunyuan1.5",
        "hunyuan:tiny_hunyuan15",
        "HunyuanVideo15Pipeline",
        4.7,
        {"num_frames": 9, "num_inference_steps": 2},
    ),
    _twin(
        "tiny-framepack",
        "hunyuan:tiny_framepack",
        "HunyuanVideoFramepackPipeline",
        1.1,
        # One section: 4 × 4 + 1 frames, whatever smaller number is asked for.
        {"num_frames": 13, "latent_window_size": 4, "num_inference_steps": 2, **_LLAMA},
        task=IMAGE,
    ),
    _twin(
        "tiny-kandinsky5",
        "hunyuan:tiny_kandinsky5",
        "Kandinsky5T2VPipeline",
        0.6,
        {"max_sequence_length": 1024, "num_inference_steps": 2},
    ),
    _twin("tiny-ltx2", "ltx2:tiny_ltx2", "LTX2Pipeline", 2.3, _T5, audio=True),
    _twin("tiny-mochi", "dit:tiny_mochi", "MochiPipeline", 1.0, {"num_frames": 13, **_T5}),
    _twin(
        "tiny-allegro",
        "dit:tiny_allegro",
        "AllegroPipeline",
        0.8,
        {**_ALLEGRO, "num_inference_steps": 2, "clean_caption": False, **_T5},
    ),
    _twin(
        "tiny-latte",
        "dit:tiny_latte",
        "LattePipeline",
        0.5,
        {**_VIDEO_LENGTH, "clean_caption": False},
    ),
    _twin("tiny-sana-video", "dit:tiny_sana_video", "SanaVideoPipeline", 0.4, {**_SANA, **_T5}),
    _twin(
        "tiny-easyanimate",
        "dit:tiny_easyanimate",
        "EasyAnimatePipeline",
        0.8,
        {"negative_prompt": ""},
    ),
    _twin("tiny-cosmos", "dit:tiny_cosmos", "Cosmos3OmniPipeline", 0.4, output="video"),
    _twin("tiny-svd", "unet:tiny_svd", "StableVideoDiffusionPipeline", 1.8, _FEW, task=IMAGE),
    _twin("tiny-animatediff", "unet:tiny_animatediff", "AnimateDiffPipeline", 1.7, _FEW),
    _twin("tiny-modelscope", "unet:tiny_modelscope", "TextToVideoSDPipeline", 1.4, _FEW),
    _twin(
        "tiny-text2video-zero",
        "unet:tiny_text2video_zero",
        "TextToVideoZeroPipeline",
        0.8,
        {**_VIDEO_LENGTH, "t0": 1, "t1": 2},
        output="images",
    ),
)
