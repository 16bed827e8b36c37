"""Metrics of a video and its prompt. Only data; their networks are in `catalog.consistency`."""

from __future__ import annotations

from typing import Any

from pytest_vdb.metrics.catalog import define
from pytest_vdb.metrics.catalog.consistency import CLIP, CLIP_VITB32
from pytest_vdb.metrics.features import Feature
from pytest_vdb.metrics.registry import MetricSpec, lazy
from pytest_vdb.metrics.weights import Network

PICK_SCORE_V1 = Network(
    name="pick_score_v1",
    files=(
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
        "merges.txt",
    ),
    load=lazy("pytest_vdb.metrics.networks.clip:load"),
    url="https://huggingface.co/yuvalkirstain/PickScore_v1",
    licence="see the repository",
    sha256="ef31ef6fc5ff4d9bb90dd232df4e145887ba62c5a03aa2841415f8c25f18d52e",
    hub="yuvalkirstain/PickScore_v1",
)
HPS_V2_1 = Network(
    name="hps_v2_1",
    files=("HPS_v2.1_compressed.pt", "bpe_simple_vocab_16e6.txt.gz"),
    load=lazy("pytest_vdb.metrics.networks.open_clip:load"),
    url="https://huggingface.co/xswu/HPSv2 and, the second file, https://github.com/openai/CLIP",
    licence="Apache-2.0",
    sha256="c57a38fb4a2f7e7c15bf00da2ea377cdf165448b4dd1052a484c215a998c9837",
)
NETWORKS: tuple[Network, ...] = (PICK_SCORE_V1, HPS_V2_1)


def _feature(name: str, rows: str, network: Network, **fields: Any) -> Feature:
    return Feature(name, lazy(f"pytest_vdb.metrics.{rows}"), network=network, **fields)


CLIP_TEXT = _feature("clip_vitb32_text", "text:clip_text", CLIP_VITB32, of="prompt")
PICK_IMAGE = _feature("pick_score_v1", "consistency:clip", PICK_SCORE_V1)
PICK_TEXT = _feature("pick_score_v1_text", "text:scaled_text", PICK_SCORE_V1, of="prompt")
HPS_IMAGE = _feature("hps_v2_1", "text:whole_frame", HPS_V2_1)
HPS_TEXT = _feature("hps_v2_1_text", "text:clip_text", HPS_V2_1, of="prompt")


METRICS: tuple[MetricSpec, ...] = (
    define(
        *("clip_score", "text:clip_score", CLIP, CLIP_TEXT),
        needs="prompt",
        range=(0.0, 100.0),
        summary="how well the frames show the prompt, to CLIP ViT-B/32; it gates sets of videos",
        how="mean over frames of 100 max(0, cos(image, text)) of CLIP ViT-B/32; a prompt over 77 "
        "tokens is cut and keeps its end token",
    ),
    define(
        *("pick_score", "text:pick_score", PICK_IMAGE, PICK_TEXT),
        needs="prompt",
        range=(-100.0, 100.0),
        summary="how much people would prefer the frames for the prompt, to PickScore v1",
        how="mean over frames of exp(logit scale) cos(image, text) of PickScore v1 (CLIP ViT-H/14) "
        "on each frame's middle 224 px",
    ),
    define(
        *("hps_v2_1", "text:hps", HPS_IMAGE, HPS_TEXT),
        needs="prompt",
        range=(-1.0, 1.0),
        summary="how much people would prefer the frames for the prompt, to HPS v2.1",
        how="mean over frames of cos(image, text) of HPS v2.1 (CLIP ViT-H/14) on each whole frame, "
        "longer side 224 px, black around it",
    ),
)
