"""Where a baseline lies, and why one does not apply."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest_vdb.names import slug
from pytest_vdb.records import Environment, Kind, Workload

PERFORMANCE = frozenset({Kind.LATENCY, Kind.MEMORY, Kind.ENERGY})


def benchmark_name(nodeid: str) -> str:
    """``test_speed`` of ``benchmarks/test_speed.py::test_x[m]``; deeper folders are kept.

    Only a leading ``benchmarks`` folder is left out, so ``benchmarks/test_x.py`` and a
    ``test_x.py`` at the root share one baseline: give one of them another name.
    """
    path = Path(nodeid.partition("::")[0])
    parts = path.parts[1:] if len(path.parts) > 1 and path.parts[0] == "benchmarks" else path.parts
    return "/".join(slug(part) for part in (*parts[:-1], path.stem))


def test_name(nodeid: str) -> str:
    """``TestA::test_x[m]``: the part of a node id that names the test within its file."""
    return nodeid.partition("::")[2]


def relative_path(model: str, environment: Environment, nodeid: str) -> str:
    """``<model>/<environment key>/<benchmark file>.json``, with ``/`` on every platform."""
    return f"{slug(model)}/{environment.key}/{benchmark_name(nodeid)}.json"


def difference(ours: Workload, stored: list[Workload]) -> str:
    """What separates ``ours`` from the nearest stored workload, or an empty string."""
    ours_flat = _flat(ours)
    changes = sorted((_changes(ours_flat, _flat(one)) for one in stored), key=len)
    return ", ".join(changes[0]) if changes else ""


def _flat(workload: Workload) -> dict[str, Any]:
    return {
        "prompts": [p.text for p in workload.prompts],
        "seeds": list(workload.seeds),
        "dtype": workload.dtype,
        **workload.options,
        **workload.call,
    }


def _changes(new: dict[str, Any], old: dict[str, Any]) -> list[str]:
    changed = []
    for key in sorted(new.keys() | old.keys()):
        a, b = old.get(key, "unset"), new.get(key, "unset")
        if a != b:
            long = isinstance(a, list) and isinstance(b, list)
            was = f"{len(a)} → {len(b)} of them" if long and len(a) != len(b) else f"{a} → {b}"
            changed.append(f"{key} {was if len(was) < 80 else 'changed'}")
    return changed
