"""The families of video-diffusion models that diffusers can run: one table, nothing imported.

Each row is what a model's own card says, or diffusers' documentation of its pipeline: the call
that they show, the dtype, the weights' licence. What neither says stays empty. ``memory`` is set
only where one of them publishes a figure for this call with all weights on the device; they write
GB and mean what torch and nvidia-smi count, so it is read as GiB. A revision is a commit, or the
branch that the documentation names.
"""

from __future__ import annotations

from typing import Any

from pytest_vdb.records import Json, ModelSpec
from pytest_vdb.units import GiB


def _call(
    frames: int,
    height: int,
    width: int,
    steps: int,
    guidance: float,
    count: str = "num_frames",
    **more: Json,
) -> dict[str, Json]:
    """Call arguments; ``count`` is the pipeline's own name for the number of frames."""
    return {
        count: frames,
        "height": height,
        "width": width,
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        **more,
    }


def _model(
    name: str, pipeline: str, location: str, call: dict[str, Json], summary: str, **fields: Any
) -> ModelSpec:
    fields = {"dtype": "bfloat16", **fields}
    return ModelSpec(
        name, "diffusers", location, call=call, summary=summary, pipeline=pipeline, **fields
    )


TILED: dict[str, Json] = {"vae_tiling": True}
I2V = "image-to-video"
COGVIDEOX_LICENCE = "CogVideoX LICENSE"

FAMILIES: tuple[ModelSpec, ...] = (
    _model(
        "cogvideox",
        "CogVideoXPipeline",
        "THUDM/CogVideoX-2b",
        _call(49, 480, 720, 50, 6.0),
        "CogVideoX 2B: 6 seconds at 8 frames a second",
        dtype="float16",
        memory=33 * GiB,
        licence="apache-2.0",
        twin="tiny-cogvideox",
    ),
    _model(
        "cogvideox-5b",
        "CogVideoXPipeline",
        "THUDM/CogVideoX-5b",
        _call(49, 480, 720, 50, 6.0),
        "CogVideoX 5B: 6 seconds at 8 frames a second",
        licence=COGVIDEOX_LICENCE,
        twin="tiny-cogvideox",
    ),
    _model(
        "cogvideox-1.5-5b",
        "CogVideoXPipeline",
        "THUDM/CogVideoX1.5-5B",
        _call(81, 768, 1360, 50, 6.0),
        "CogVideoX 1.5 5B: 5 seconds at 16 frames a second",
        licence=COGVIDEOX_LICENCE,
        twin="tiny-cogvideox",
    ),
    _model(
        "cogvideox-5b-i2v",
        "CogVideoXImageToVideoPipeline",
        "THUDM/CogVideoX-5b-I2V",
        _call(49, 480, 720, 50, 6.0),
        "CogVideoX 5B from an image",
        task=I2V,
        licence=COGVIDEOX_LICENCE,
        twin="tiny-cogvideox-i2v",
    ),
    _model(
        "wan2.1-t2v-1.3b",
        "WanPipeline",
        "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        _call(81, 480, 832, 50, 5.0),
        "Wan 2.1 1.3B: 5 seconds at 16 frames a second",
        licence="apache-2.0",
        twin="tiny-wan",
    ),
    _model(
        "wan2.1-t2v-14b",
        "WanPipeline",
        "Wan-AI/Wan2.1-T2V-14B-Diffusers",
        _call(81, 720, 1280, 50, 5.0),
        "Wan 2.1 14B at 720p",
        options={"flow_shift": 5.0},
        licence="apache-2.0",
        twin="tiny-wan",
    ),
    _model(
        "wan2.1-i2v-14b-480p",
        "WanImageToVideoPipeline",
        "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers",
        _call(81, 480, 832, 50, 5.0),
        "Wan 2.1 14B from an image, at 480p",
        task=I2V,
        licence="apache-2.0",
        twin="tiny-wan-i2v",
    ),
    _model(
        "wan2.1-i2v-14b-720p",
        "WanImageToVideoPipeline",
        "Wan-AI/Wan2.1-I2V-14B-720P-Diffusers",
        _call(81, 720, 1280, 50, 5.0),
        "Wan 2.1 14B from an image, at 720p",
        task=I2V,
        licence="apache-2.0",
        twin="tiny-wan-i2v",
    ),
    _model(
        "wan2.2-t2v-a14b",
        "WanPipeline",
        "Wan-AI/Wan2.2-T2V-A14B-Diffusers",
        _call(81, 720, 1280, 40, 4.0, guidance_scale_2=3.0),
        "Wan 2.2, two experts of 14B: one for noise, one for detail",
        licence="apache-2.0",
        twin="tiny-wan2.2",
    ),
    _model(
        "wan2.2-i2v-a14b",
        "WanImageToVideoPipeline",
        "Wan-AI/Wan2.2-I2V-A14B-Diffusers",
        _call(81, 480, 832, 40, 3.5),
        "Wan 2.2, two experts of 14B, from an image",
        task=I2V,
        licence="apache-2.0",
        twin="tiny-wan-i2v",
    ),
    _model(
        "wan2.2-ti2v-5b",
        "WanPipeline",
        "Wan-AI/Wan2.2-TI2V-5B-Diffusers",
        _call(121, 704, 1280, 50, 5.0),
        "Wan 2.2 5B: 5 seconds at 24 frames a second, run from text",
        licence="apache-2.0",
        twin="tiny-wan2.2-ti2v",
    ),
    _model(
        "hunyuanvideo",
        "HunyuanVideoPipeline",
        "hunyuanvideo-community/HunyuanVideo",
        _call(129, 720, 1280, 50, 6.0),
        "HunyuanVideo 13B",
        options=TILED,
        memory=60 * GiB,
        licence="tencent-hunyuan-community",
        twin="tiny-hunyuan",
    ),
    _model(
        "hunyuanvideo-1.5",
        "HunyuanVideo15Pipeline",
        "hunyuanvideo-community/HunyuanVideo-1.5-Diffusers-480p_t2v",
        {"num_frames": 121, "num_inference_steps": 50},  # size and guidance come with the weights
        "HunyuanVideo 1.5 8.3B at 480p",
        options=TILED,
        twin="tiny-hunyuan1.5",
    ),
    _model(
        "ltx-video",
        "LTXPipeline",
        "Lightricks/LTX-Video",
        _call(161, 480, 704, 50, 3.0, frame_rate=25),
        "LTX-Video",
        twin="tiny-ltx",
    ),
    _model(
        "ltx-2",
        "LTX2Pipeline",
        "Lightricks/LTX-2",
        _call(121, 512, 768, 30, 3.0, frame_rate=24.0),
        "LTX-2 19B: video and sound",
        audio=True,
        licence="LTX-2 Community License",
        twin="tiny-ltx2",
    ),
    _model(
        "mochi",
        "MochiPipeline",
        "genmo/mochi-1-preview",
        _call(85, 480, 848, 64, 4.5),
        "Mochi 1 preview, 10B",
        options={"variant": "bf16", **TILED},
        licence="apache-2.0",
        twin="tiny-mochi",
    ),
    _model(
        "allegro",
        "AllegroPipeline",
        "rhymes-ai/Allegro",
        _call(88, 720, 1280, 100, 7.5, max_sequence_length=512),
        "Allegro 2.8B: 6 seconds at 15 frames a second",
        options=TILED,
        memory=int(27.5 * GiB),
        licence="apache-2.0",
        twin="tiny-allegro",
    ),
    _model(
        "latte",
        "LattePipeline",
        "maxin-cn/Latte-1",
        _call(16, 512, 512, 50, 7.5, count="video_length"),
        "Latte-1",
        dtype="float16",
        twin="tiny-latte",
    ),
    _model(
        "svd",
        "StableVideoDiffusionPipeline",
        "stabilityai/stable-video-diffusion-img2vid-xt",
        {
            "num_frames": 25,
            "height": 576,
            "width": 1024,
            "num_inference_steps": 25,
            "fps": 7,
            "decode_chunk_size": 8,
        },
        "Stable Video Diffusion XT: from an image alone, it reads no prompt",
        task=I2V,
        dtype="float16",
        options={"variant": "fp16"},
        licence="stable-video-diffusion-community",
        twin="tiny-svd",
    ),
    _model(
        "animatediff",
        "AnimateDiffPipeline",
        "SG161222/Realistic_Vision_V5.1_noVAE",
        _call(16, 512, 512, 25, 7.5),
        "AnimateDiff 1.5-2: a motion adapter in a Stable Diffusion 1.5 model",
        dtype="float16",
        options={
            "motion_adapter": "guoyww/animatediff-motion-adapter-v1-5-2",
            "scheduler": "DDIMScheduler",
        },
        twin="tiny-animatediff",
    ),
    _model(
        "modelscope",
        "TextToVideoSDPipeline",
        "ali-vilab/text-to-video-ms-1.7b",
        _call(16, 256, 256, 50, 9.0),
        "ModelScope text-to-video 1.7B",
        revision="8227dddca75a8561bf858d604cc5dae52b954d01",
        dtype="float16",
        options={"variant": "fp16"},
        licence="cc-by-nc-4.0",
        twin="tiny-modelscope",
    ),
    _model(
        "zeroscope",
        "TextToVideoSDPipeline",
        "cerspense/zeroscope_v2_576w",
        {"num_frames": 24, "height": 320, "width": 576},
        "Zeroscope v2 576w",
        dtype="float16",
        licence="cc-by-nc-4.0",
        twin="tiny-modelscope",
    ),
    _model(
        "text2video-zero",
        "TextToVideoZeroPipeline",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        _call(8, 512, 512, 50, 7.5, count="video_length"),
        "Text2Video-Zero: Stable Diffusion 1.5 moved from frame to frame, no training",
        dtype="float16",
        output="images",
        twin="tiny-text2video-zero",
    ),
    _model(
        "cosmos-1.0-7b",
        "CosmosTextToWorldPipeline",
        "nvidia/Cosmos-1.0-Diffusion-7B-Text2World",
        _call(121, 704, 1280, 36, 7.0, fps=30),
        "Cosmos 1.0 7B; its guardrail needs the package cosmos_guardrail",
        licence="nvidia-open-model-license",
    ),
    _model(
        "cosmos-predict2-2b",
        "Cosmos2VideoToWorldPipeline",
        "nvidia/Cosmos-Predict2-2B-Video2World",
        _call(93, 704, 1280, 35, 7.0, fps=16),
        "Cosmos Predict2 2B from an image; its guardrail needs cosmos_guardrail",
        task=I2V,
    ),
    _model(
        "cosmos-predict2.5-2b",
        "Cosmos2_5_PredictBasePipeline",
        "nvidia/Cosmos-Predict2.5-2B",
        _call(93, 704, 1280, 36, 7.0),
        "Cosmos Predict2.5 2B from text; its guardrail needs cosmos_guardrail",
        revision="diffusers/base/post-trained",
    ),
    _model(
        "cosmos3-nano",
        "Cosmos3OmniPipeline",
        "nvidia/Cosmos3-Nano",
        _call(189, 720, 1280, 35, 6.0, fps=24.0),
        "Cosmos 3 Nano: 8 seconds at 24 frames a second, best from prompts in its own JSON form",
        options={"flow_shift": 10.0},
        output="video",
        twin="tiny-cosmos",
    ),
    _model(
        "skyreels-v2",
        "SkyReelsV2Pipeline",
        "Skywork/SkyReels-V2-T2V-14B-540P-Diffusers",
        _call(97, 544, 960, 50, 6.0),
        "SkyReels-V2 14B at 540p: 4 seconds at 24 frames a second",
        options={"flow_shift": 8.0},
        twin="tiny-skyreels",
    ),
    _model(
        "kandinsky5",
        "Kandinsky5T2VPipeline",
        "kandinskylab/Kandinsky-5.0-T2V-Lite-sft-5s-Diffusers",
        _call(121, 512, 768, 50, 5.0),
        "Kandinsky 5.0 Lite 2B: 5 seconds at 24 frames a second",
        twin="tiny-kandinsky5",
    ),
    _model(
        "sana-video",
        "SanaVideoPipeline",
        "Efficient-Large-Model/SANA-Video_2B_480p_diffusers",
        _call(81, 480, 832, 50, 6.0, count="frames"),
        "SANA-Video 2B at 480p: 5 seconds at 16 frames a second",
        twin="tiny-sana-video",
    ),
    _model(
        "easyanimate",
        "EasyAnimatePipeline",
        "alibaba-pai/EasyAnimateV5.1-12b-zh-diffusers",
        _call(49, 512, 512, 50, 6.0),
        "EasyAnimate 5.1 12B: 6 seconds at 8 frames a second",
        dtype="float16",
        licence="apache-2.0",
        twin="tiny-easyanimate",
    ),
    _model(
        "consisid",
        "ConsisIDPipeline",
        "BestWishYsh/ConsisID-preview",
        _call(49, 480, 720, 50, 6.0, use_dynamic_cfg=False),
        "ConsisID from a face; its pretrained weights need face embeddings as well",
        task=I2V,
        memory=44 * GiB,
        licence="apache-2.0",
        twin="tiny-consisid",
    ),
    _model(
        "framepack",
        "HunyuanVideoFramepackPipeline",
        "hunyuanvideo-community/HunyuanVideo",
        _call(91, 832, 480, 30, 9.0, sampling_type="inverted_anti_drifting"),
        "FramePack from an image: its transformer in HunyuanVideo's pipeline",
        task=I2V,
        options={
            "transformer": "lllyasviel/FramePackI2V_HY",
            "image_encoder": "lllyasviel/flux_redux_bfl",
            **TILED,
        },
        twin="tiny-framepack",
    ),
)
