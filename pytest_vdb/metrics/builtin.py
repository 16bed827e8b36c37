"""The package's own metrics, as data. Definitions and sources are in docs/metrics.md."""

from __future__ import annotations

from typing import Any

from pytest_vdb.metrics.catalog import (
    audio,
    consistency,
    cuts,
    define,
    flow,
    imaging,
    overall,
    reference,
    sets,
    text,
)
from pytest_vdb.metrics.catalog.reference import FAULTS as FRAME_FAULTS
from pytest_vdb.metrics.features import Feature
from pytest_vdb.metrics.registry import MetricSpec, lazy


def _alone(name: str, summary: str, how: str, rows: Feature, of: str, **fields: Any) -> MetricSpec:
    """A metric of the frames alone, from rows that need no network."""
    fields |= {"summary": summary, "how": how, "package": "numpy"}
    return define(name, f"no_reference:{of}", rows, **fields)


def _rows(name: str, **fields: Any) -> Feature:
    return Feature(name, lazy(f"pytest_vdb.metrics.no_reference:{name}_rows"), **fields)


def _shapes(name: str, summary: str, how: str, sees: tuple[str, ...]) -> MetricSpec:
    fields: dict[str, Any] = {"summary": summary, "how": how, "sees": sees}
    return define(name, f"shapes:{name}", needs="prompt", package="scipy", **fields)


WITHOUT_NETWORKS: tuple[MetricSpec, ...] = (
    _alone(
        "temporal_flickering",
        "how little adjacent frames differ (VBench); a frozen video scores 1",
        "(255 - mean absolute difference of adjacent RGB frames) / 255, as VBench defines it",
        _rows("difference", window=2),
        "flickering_of",
        sees=("noise", "shuffled"),
    ),
    _alone(
        "motion_energy",
        "how much adjacent frames differ: the floor beside any consistency metric",
        "mean absolute difference of the BT.601 luma of adjacent frames, in parts of 255",
        _rows("luma_difference", window=2),
        "motion_energy_of",
        unit="fraction",
        sees=("black", "frozen", "blur", "half_resolution", "dropped_frames"),
    ),
    _alone(
        "sharpness",
        "variance of the Laplacian of the luma",
        "variance of the 4-neighbour Laplacian of the BT.601 luma (0-255) over a frame's interior, "
        "mean over frames",
        _rows("sharpness"),
        "mean_of",
        unit="grey levels^2",
        range=(0.0, 1020.0**2),
        sees=("black", "blur", "half_resolution"),
    ),
    _shapes(
        "shapes_color",
        "how much of the shape has the prompt's color",
        "share of the pixels that stand out from the background, without the shape's edge, that "
        "have the prompt's color (nearest of six, within 60 in sRGB), mean over frames",
        sees=("black", "spliced", "wrong_prompt"),
    ),
    _shapes(
        "shapes_background",
        "how much of what surrounds the shape has the prompt's background",
        "share of the pixels more than 2 px off the shape that have the prompt's background "
        "(nearest of four, within 60 in sRGB), mean over frames",
        sees=("wrong_prompt",),  # not black: some prompts ask for a black background
    ),
    _shapes(
        "shapes_shape",
        "how many frames show the prompt's shape, and nothing beside it",
        "share of the frames whose one region overlaps most with the prompt's ideal shape, by an "
        "intersection over union of at least 0.85, and keeps its size",
        sees=("black", "wrong_prompt"),
    ),
    _shapes(
        "shapes_direction",
        "whether the shape moves where the prompt says",
        "1 if the shape's centroid moves that way by 0.15 of the shorter side or more, twice as "
        "far as across, and by 0.8 of its path or more; else 0",
        sees=("black", "frozen", "shuffled", "wrong_prompt"),
    ),
    _shapes(
        "shapes_adherence",
        "mean of shapes_color, shapes_background, shapes_shape and shapes_direction",
        "mean of shapes_color, shapes_background, shapes_shape and shapes_direction",
        sees=("black", "frozen", "shuffled", "spliced", "wrong_prompt"),
    ),
    define(
        "latent_cosine",
        "latent:latent_cosine",
        summary="cosine distance of the pre-VAE latent from the baseline's",
        how="1 - cos of the pre-VAE latents in float64, both rounded to fp16 first",
        unit="distance",
        range=(0.0, 2.0),
        direction="lower",
        needs="latent",
        sees=FRAME_FAULTS,
        package="numpy",
    ),
)

FAMILIES = (reference, consistency, flow, imaging, text, overall, cuts, audio, sets)
BUILTIN: tuple[MetricSpec, ...] = (
    *WITHOUT_NETWORKS,
    *(spec for family in FAMILIES for spec in family.METRICS),
)
