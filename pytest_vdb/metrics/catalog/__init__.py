"""The package's metrics as data, one family a file: what is computed, from what, how it is read.

Light: code is named as ``module:function`` and imported when it is computed.
"""

from __future__ import annotations

from typing import Any

from pytest_vdb.metrics.features import Feature
from pytest_vdb.metrics.registry import COMPARES, MetricSpec, lazy
from pytest_vdb.records import Kind


def define(name: str, compute: str, *features: Feature, **fields: Any) -> MetricSpec:
    """A metric; ``compute`` is a ``module:function`` of `pytest_vdb.metrics`.

    Unless ``fields`` say otherwise it is of the frames alone, 0 to 1, the higher the better.
    """
    usual: dict[str, Any] = {"unit": "score", "range": (0.0, 1.0), "direction": "higher"}
    usual |= {"needs": "frames", "version": "1"} | fields
    return MetricSpec(
        name=name,
        compute=lazy(f"pytest_vdb.metrics.{compute}"),
        features=features,
        kind=Kind.DISTANCE if usual["needs"] in COMPARES else Kind.SCORE,
        **usual,
    )
