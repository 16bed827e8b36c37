"""What ``vdb metrics`` prints: the metrics, and which of them this machine can compute."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pytest_vdb.metrics.catalog.routing import ROUTING
from pytest_vdb.metrics.registry import MetricSpec
from pytest_vdb.metrics.weights import how_to_get, is_here
from pytest_vdb.records import Json
from pytest_vdb.units import columns, plain

PLACES = {"frames": "", "reference": "baseline's video", "latent": "baseline's latent"}
PLACES |= {"audio_reference": "baseline's audio", "set": "baseline's videos", "own_set": "a set"}


def available(spec: MetricSpec, folder: Path | None = None) -> tuple[str, str]:
    """``"available"``, ``"needs weights"`` or ``"needs package"``, and what to do.

    ``folder`` is ``--vdb-metric-weights``. Nothing is downloaded.
    """
    if spec.package and not _installed(spec.package):
        return "needs package", f"pip install {spec.package}"
    lacking = [network for network in spec.networks if not is_here(network, folder)]
    if lacking:
        return "needs weights", "; ".join(f"{n.name}: {how_to_get(n)}" for n in lacking)
    return "available", ""


def table(specs: Sequence[MetricSpec], folder: Path | None = None, width: int = 0) -> str:
    """One line a metric, cut after ``width`` characters unless that is 0."""
    head = ("name", "better", "needs", "here", "what it is")
    lines = columns([head, *(_row(spec, folder) for spec in specs)])
    if width:
        lines = [line if len(line) <= width else f"{line[: width - 1]}…" for line in lines]
    routers = ", ".join(metric.name for metric in ROUTING)
    told = (
        f"of a model's routers, by pytest_vdb.metrics.routing.watch(): {routers}",
        "vdb metrics NAME says what a metric is and how to get it",
    )
    return "\n".join([*lines, "", *told])


def _row(spec: MetricSpec, folder: Path | None) -> tuple[str, ...]:
    needs = PLACES.get(spec.needs, spec.needs)
    return spec.name, spec.direction, needs, available(spec, folder)[0], plain(spec.summary)


def details(spec: MetricSpec, folder: Path | None = None) -> str:
    """One metric in full, a line a fact."""
    facts = as_json([spec], folder)[0]
    width = max(map(len, facts))
    return "\n".join(f"{name:{width}}  {_shown(value)}" for name, value in facts.items() if value)


def as_json(specs: Sequence[MetricSpec], folder: Path | None = None) -> list[dict[str, Json]]:
    """The same as plain data."""
    return [
        {
            "name": spec.name,
            "what it is": spec.summary,
            "how": spec.how,
            "unit": spec.unit,
            "range": [str(bound) for bound in spec.range],
            "better": spec.direction,
            "kind": str(spec.kind),
            "needs": PLACES.get(spec.needs) or spec.needs,
            "videos": spec.minimum if spec.of_set else None,
            "sees": list(spec.sees),
            "version": spec.version,
            "networks": [f"{n.name} ({n.licence}, {n.url})" for n in spec.networks],
            "package": spec.package,
            "here": available(spec, folder)[0],
            "to do": available(spec, folder)[1],
        }
        for spec in specs
    ]


def _shown(value: Json) -> str:
    return plain(", ".join(map(str, value)) if isinstance(value, list) else str(value))


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
