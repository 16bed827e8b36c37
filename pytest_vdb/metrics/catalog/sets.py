"""Metrics of sets of videos, and the networks that they come from. Only data.

Definitions and sources are in docs/metrics/sets.md.
"""

from __future__ import annotations

import math
from typing import Any

from pytest_vdb.metrics.catalog import define
from pytest_vdb.metrics.catalog.consistency import EFFICIENTNET
from pytest_vdb.metrics.catalog.cuts import TRANSNET
from pytest_vdb.metrics.features import Feature
from pytest_vdb.metrics.registry import MetricSpec, lazy
from pytest_vdb.metrics.weights import Network

MINIMUM = 64  # videos: with fewer, no difference that matters stands out from chance
CLIP, FRAMES = 16, 16  # frames in a clip; frames of a video, evenly spaced, that count

I3D_KINETICS400 = Network(
    name="i3d_kinetics400",
    files=("i3d_pretrained_400.pt",),
    load=lazy("pytest_vdb.metrics.networks.i3d:load"),
    url="https://github.com/songweige/TATS/raw/main/tats/fvd/i3d_pretrained_400.pt",
    licence="Apache-2.0",
)
INCEPTION_FID = Network(
    name="inception_fid",
    files=("pt_inception-2015-12-05-6726825d.pth",),
    load=lazy("pytest_vdb.metrics.networks.inception:load"),
    url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth",
    licence="Apache-2.0",
    sha256="6726825d",
)
CLIP_VITL14_336 = Network(
    name="clip_vitl14_336",
    files=("pytorch_model.bin", "config.json"),  # the repository has no safetensors
    load=lazy("pytest_vdb.metrics.networks.clip:load_vision"),
    url="https://huggingface.co/openai/clip-vit-large-patch14-336",
    licence="MIT",
    sha256="c6032c2e0caae3dc2d4fba35535fa6307dbb49df59c7e182b1bc4b3329b81801",
    hub="openai/clip-vit-large-patch14-336",
)
VIDEOMAE_SSV2 = Network(
    name="videomae_v2_ssv2",
    files=("vit_g_hybrid_pt_1200e_ssv2_ft.pth",),
    load=lazy("pytest_vdb.metrics.networks.video_encoders:load"),
    url="https://huggingface.co/OpenGVLab/VideoMAE2/resolve/main/mae-g/"
    "vit_g_hybrid_pt_1200e_ssv2_ft.pth",
    licence="Apache-2.0",
    sha256="5a210a92f035dff30c53b46157b612e7a1a5d3c99700e1b2d71da5c399ca7e70",
)
VJEPA_VITH16 = Network(
    name="vjepa_vith16",
    files=("vith16.pth.tar", "ssv2-probe.pth.tar"),
    load=lazy("pytest_vdb.metrics.networks.vjepa:load"),
    url="https://dl.fbaipublicfiles.com/jepa/vith16/vith16.pth.tar and "
    "https://dl.fbaipublicfiles.com/jepa/vith16/ssv2-probe.pth.tar",
    licence="CC-BY-NC-4.0",
)

NETWORKS: tuple[Network, ...] = (
    I3D_KINETICS400,
    INCEPTION_FID,
    CLIP_VITL14_336,
    VIDEOMAE_SSV2,
    VJEPA_VITH16,
)


def _rows(function: str) -> Any:
    return lazy(f"pytest_vdb.metrics.sets:{function}")


def _clips(name: str, rows: str, network: Network) -> Feature:
    return Feature(name=name, rows=_rows(rows), window=CLIP, stride=CLIP, network=network)


I3D = _clips("i3d_kinetics400", "i3d_rows", I3D_KINETICS400)
VIDEOMAE = _clips("videomae_v2_ssv2", "videomae_rows", VIDEOMAE_SSV2)
VJEPA = _clips("vjepa_vith16", "vjepa_rows", VJEPA_VITH16)
TRANSNET_CLIPS = _clips("transnetv2_clips", "transnet_rows", TRANSNET)
INCEPTION = Feature(
    name="inception_fid", rows=_rows("inception_rows"), samples=FRAMES, network=INCEPTION_FID
)
CLIP_L14 = Feature(
    name="clip_vitl14_336", rows=_rows("clip_rows"), samples=FRAMES, network=CLIP_VITL14_336
)

_OF_CLIPS = "items are clips of 16 frames that follow each other"
_OF_SOME = "items are 16 frames of each video, evenly spaced"
_OF_ALL = "items are all frames"
_FRECHET = "|m1 - m2|^2 + tr(S1 + S2 - 2 sqrt(S1 S2)) of"
_KERNEL = "unbiased squared MMD, kernel (<x, y>/D + 1)^3, over all pairs of"
_JEDI = "100 x squared MMD, kernel (<x, y>/D)^2, pairs of a row with itself included, of"
_LITE = "EfficientNet-Lite0's 1280 pooled features"
_TRANSNET = "TransNet V2's 448 mean channels"


def _metric(name: str, compute: str, feature: Feature, what: str, how: str, **fields: Any) -> Any:
    usual: dict[str, Any] = {"unit": "distance", "range": (0.0, math.inf), "direction": "lower"}
    usual |= {"needs": "set", "minimum": MINIMUM}
    usual["summary"] = f"how far the set is from the reference set{what}"
    return define(name, f"sets:{compute}", feature, how=how, **usual | fields)


_ANY: dict[str, Any] = {"range": (-math.inf, math.inf)}
_SEEN = ("black", "frozen", "noise", "blur", "colour_shift", "half_resolution")

METRICS: tuple[MetricSpec, ...] = (
    _metric(
        *("fvd", "frechet_distance", I3D, " to I3D, in picture and motion"),
        f"{_FRECHET} 400 logits of I3D RGB (i3d_pretrained_400), covariances over N - 1; "
        f"224x224 px bilinear, whole frame, [-1, 1]; {_OF_CLIPS}",
    ),
    _metric(
        *("kvd", "kernel_distance", I3D, " to I3D, by a kernel"),
        f"{_KERNEL} 400 logits of I3D RGB (i3d_pretrained_400); {_OF_CLIPS}",
        **_ANY,
    ),
    _metric(
        *("cd_fvd", "cd_fvd", VIDEOMAE, " to VideoMAE v2, which sees motion better than I3D"),
        f"{_FRECHET} 1408 features of VideoMAE v2 ViT-g tuned on SSv2, covariances over N; "
        f"224x224 px bilinear, [0, 1]; {_OF_CLIPS}",
    ),
    _metric(
        *("jedi", "jedi", VJEPA, " to V-JEPA, by a kernel (JEDi)"),
        f"{_JEDI} 1280 features of V-JEPA ViT-H/16, pooled by its SSv2 probe; 224x224 px bilinear, "
        f"whole frame; {_OF_CLIPS}",
    ),
    _metric(
        *("fid", "fid", INCEPTION, " to Inception v3, frame by frame"),
        f"{_FRECHET} 2048 pooled features of FID's Inception v3; {_OF_SOME}",
    ),
    _metric(
        *("kid", "kid", INCEPTION, " to Inception v3, frame by frame, by a kernel"),
        f"{_KERNEL} 2048 pooled features of FID's Inception v3; {_OF_SOME}",
        **_ANY,
    ),
    _metric(
        *("inception_score", "inception_score_of_rows", INCEPTION, ""),
        f"exp(mean KL(p(y|x) || p(y))) of the 1008 classes of FID's Inception v3, logits without "
        f"bias, one split; {_OF_SOME}",
        summary="how clear and how various the set's frames are to Inception; no reference",
        needs="own_set",
        unit="score",
        range=(1.0, 1008.0),
        direction="higher",
    ),
    _metric(
        *("cmmd", "cmmd", CLIP_L14, " to CLIP ViT-L/14 at 336 px, frame by frame"),
        "1000 x squared MMD, Gaussian kernel of sigma 10, of unit CLIP ViT-L/14@336 embeddings of "
        f"each frame's middle square; {_OF_SOME}",
    ),
    _metric(
        *("fid[efficientnet_lite0]", "frechet_distance", EFFICIENTNET),
        *(" to EfficientNet-Lite0; not comparable with FID", f"{_FRECHET} {_LITE}; {_OF_ALL}"),
        sees=_SEEN,
    ),
    _metric(
        *("kid[efficientnet_lite0]", "kernel_distance", EFFICIENTNET),
        *(" to EfficientNet-Lite0; not comparable with KID", f"{_KERNEL} {_LITE}; {_OF_ALL}"),
        sees=_SEEN,
        **_ANY,
    ),
    _metric(
        *("fvd[transnetv2]", "frechet_distance", TRANSNET_CLIPS),
        *(" to TransNet V2; not comparable with FVD", f"{_FRECHET} {_TRANSNET}; {_OF_CLIPS}"),
        sees=("black", "frozen"),
    ),
    _metric(
        *("jedi[transnetv2]", "jedi", TRANSNET_CLIPS),
        *(" to TransNet V2; not comparable with JEDi", f"{_JEDI} {_TRANSNET}; {_OF_CLIPS}"),
        sees=("black", "frozen"),
    ),
)
