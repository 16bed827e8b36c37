"""What ``--vdb-model`` knows by name, without importing any of it.

First the models that need no download: `shapes`, whose trained weights come with this package, and
the tiny ones with seeded weights; then the families at full size.
"""

from __future__ import annotations

from pathlib import Path

from pytest_vdb.models.families import FAMILIES
from pytest_vdb.models.twins import TWINS
from pytest_vdb.records import ModelSpec

SHAPES = ModelSpec(
    name="shapes",
    source="diffusers",
    location=str(Path(__file__).with_name("shapes")),
    call={
        "num_frames": 9,
        "height": 64,
        "width": 64,
        "num_inference_steps": 8,
        "guidance_scale": 2.0,
        "max_sequence_length": 64,
    },
    options={"num_threads": 1},
    summary="WanPipeline of diffusers, 1.9 million weights trained on synthetic moving shapes",
    pipeline="WanPipeline",
    licence="apache-2.0",
    prompts="shapes",
    sha256="e9e70e87394097219bce13572574aa7843f4876ab526c82eb7d41f35667f3ac2",
)
"""The default of ``--vdb-model``. Who trains it anew writes its new digest here."""

EMBEDDED: tuple[ModelSpec, ...] = (
    SHAPES,
    ModelSpec(
        name="tiny-wan",
        source="factory",
        location="pytest_vdb.models.embedded:tiny_wan",
        call={
            "num_frames": 17,
            "height": 64,
            "width": 64,
            "num_inference_steps": 8,
            "guidance_scale": 5.0,
            "max_sequence_length": 64,
        },
        options={"num_threads": 1},
        summary="WanPipeline of diffusers, 1.4 million seeded random weights",
        pipeline="WanPipeline",
    ),
    ModelSpec(
        name="tiny-ltx",
        source="factory",
        location="pytest_vdb.models.embedded:tiny_ltx",
        call={
            "num_frames": 17,
            "height": 64,
            "width": 64,
            "frame_rate": 25,
            "num_inference_steps": 8,
            "guidance_scale": 6.0,
            "max_sequence_length": 64,
        },
        options={"num_threads": 1},
        summary="LTXPipeline of diffusers, 1.4 million seeded random weights",
        pipeline="LTXPipeline",
    ),
)

CATALOG: tuple[ModelSpec, ...] = (*EMBEDDED, *TWINS, *FAMILIES)

WHOLE_SECTIONS = frozenset({"HunyuanVideoFramepackPipeline"})
"""Classes that make sections of a fixed length, so that a video is longer than was asked for."""

_GUARDRAIL = "none: its class builds no pipeline without the package `cosmos_guardrail`"
NO_TWIN: dict[str, str] = {
    "cosmos-1.0-7b": _GUARDRAIL,
    "cosmos-predict2-2b": _GUARDRAIL,
    "cosmos-predict2.5-2b": _GUARDRAIL,
}
"""Why a family has no tiny twin."""
