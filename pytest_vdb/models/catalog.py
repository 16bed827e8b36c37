"""The models that ``--vdb-model`` knows by name."""

from __future__ import annotations

from pytest_vdb.records import ModelSpec

_TINY = {"num_frames": 17, "height": 64, "width": 64, "num_inference_steps": 8}

CATALOG = (
    ModelSpec(
        "tiny-wan",
        "factory",
        "pytest_vdb.models.embedded:tiny_wan",
        call={**_TINY, "guidance_scale": 5.0, "max_sequence_length": 64},
        options={"num_threads": 1},
        summary="embedded WanPipeline with seeded random weights",
    ),
    ModelSpec(
        "tiny-ltx",
        "factory",
        "pytest_vdb.models.embedded:tiny_ltx",
        call={**_TINY, "guidance_scale": 3.0, "max_sequence_length": 64},
        options={"num_threads": 1},
        summary="embedded LTXPipeline with seeded random weights",
    ),
)
