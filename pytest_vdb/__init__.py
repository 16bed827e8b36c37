"""Gate video-diffusion models in pytest. Every public name is imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_vdb.errors import VdbError as VdbError
    from pytest_vdb.metrics.features import Feature as Feature
    from pytest_vdb.metrics.registry import MetricSpec as MetricSpec
    from pytest_vdb.metrics.weights import Network as Network
    from pytest_vdb.models.sources import Output as Output
    from pytest_vdb.models.sources import Rank as Rank
    from pytest_vdb.records import Kind as Kind
    from pytest_vdb.records import ModelSpec as ModelSpec
    from pytest_vdb.units import GiB as GiB
    from pytest_vdb.units import MiB as MiB
    from pytest_vdb.units import ms as ms

_WHERE = {
    "GiB": "units",
    "MiB": "units",
    "ms": "units",
    "ModelSpec": "records",
    "Kind": "records",
    "Output": "models.sources",
    "Rank": "models.sources",
    "MetricSpec": "metrics.registry",
    "Feature": "metrics.features",
    "Network": "metrics.weights",
    "VdbError": "errors",
}

__all__ = [
    "Feature",
    "GiB",
    "Kind",
    "MetricSpec",
    "MiB",
    "ModelSpec",
    "Network",
    "Output",
    "Rank",
    "VdbError",
    "ms",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
