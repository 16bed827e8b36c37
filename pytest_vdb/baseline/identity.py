"""Where a baseline lies, and why one does not apply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Step:
    """A step down the ladder of environments: what is alike, and how much a tolerance widens."""

    alike: str
    factor: int


SAME_MODEL = frozenset({"driver", "pool", "cores"})
SAME_ARCHITECTURE = SAME_MODEL | {"device", "cpu"}
"""What of an identity may differ on each step: hardware alone. Another torch, diffusers, CUDA or
attention package is another stack, which no tolerance stands for."""

_STEADY = frozenset({Kind.SCORE, Kind.DISTANCE, Kind.MEMORY})
"""What hardly depends on how fast a machine is."""


def step(
    ours: Environment, theirs: Mapping[str, str], facts: Mapping[str, str], kind: Kind
) -> Step | None:
    """How ``ours`` may be held to what ``theirs`` stored, or None where it may not.

    ``theirs`` is an identity and ``facts`` those of its newest session. The architecture is a fact:
    where a session has none, as those of older files, nothing is guessed from a name.
    """
    names = ours.identity.keys() | theirs.keys()
    differ = {name for name in names if ours.identity.get(name) != theirs.get(name)}
    if not differ or ours.identity.get("device") == "endpoint":
        return None  # behind a URL, another pool may be any other machine
    if differ <= SAME_MODEL:
        return Step(f"same {'CPU' if ours.identity['device'] == 'cpu' else 'GPU'} model", 2)
    known = ours.facts.get("architecture")
    if differ <= SAME_ARCHITECTURE and kind in _STEADY and known:
        return Step("same architecture", 4) if facts.get("architecture") == known else None
    return None


WORKLOAD_CHANGED = "the workload changed"
"""How the reason of a NO_BASELINE begins where only another workload is stored."""


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
