"""The models that need no download: what ``--vdb-model`` knows by name."""

from __future__ import annotations

from pytest_vdb.records import ModelSpec

CATALOG: tuple[ModelSpec, ...] = (
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
    ),
)
