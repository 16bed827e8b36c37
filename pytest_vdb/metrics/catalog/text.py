"""Metrics of a video and its prompt. Only data; their networks are in `catalog.consistency`."""

from __future__ import annotations

from pytest_vdb.metrics.catalog.consistency import CLIP, CLIP_VITB32
from pytest_vdb.metrics.features import Feature
from pytest_vdb.metrics.registry import MetricSpec, lazy
from pytest_vdb.metrics.weights import Network
from pytest_vdb.records import Kind

NETWORKS: tuple[Network, ...] = ()

CLIP_TEXT = Feature(
    name="clip_vitb32_text",
    rows=lazy("pytest_vdb.metrics.text:clip_text"),
    of="prompt",
    network=CLIP_VITB32,
)

METRICS: tuple[MetricSpec, ...] = (
    MetricSpec(
        name="clip_score",
        unit="score",
        direction="higher",
        kind=Kind.SCORE,
        needs="prompt",
        version="1",
        range=(0.0, 100.0),
        summary="how well the frames show the prompt, to CLIP ViT-B/32; it gates sets of videos",
        how="mean over frames of 100 max(0, cos(image, text)) of CLIP ViT-B/32; a prompt over 77 "
        "tokens is cut and keeps its end token",
        compute=lazy("pytest_vdb.metrics.text:clip_score"),
        features=(CLIP, CLIP_TEXT),
    ),
)
