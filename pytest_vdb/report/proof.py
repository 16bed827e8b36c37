"""The section of ``--vdb-prove``: who notices which fault, test by test, and what nobody does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from pytest_vdb.records import Json
from pytest_vdb.units import plain, show

WIDTH = 56
SUGGESTED = 4


def write(
    reporter: Any, tests: Iterable[Mapping[str, Json]], models: Mapping[str, Mapping[str, Json]]
) -> None:
    """``tests`` and ``models`` as ``--vdb-json`` has them (``tests`` and ``prove``)."""
    reporter.section("vdb prove")
    for test in tests:
        for line, style in _test(test):
            reporter.line(plain(line), **style)
    for model, proof in models.items():
        for line, style in _model(model, proof):
            reporter.line(plain(line), **style)


Lines = Iterator[tuple[str, dict[str, bool]]]


def _test(test: Mapping[str, Json]) -> Lines:
    proof = test.get("prove")
    if proof is None:
        return
    if "skipped" in proof:
        yield f"{test['nodeid']}: {proof['skipped']}", {"yellow": True}
        return
    faults = proof["faults"]
    noticed = sum(fault["noticed"] for fault in faults)
    count = f"{noticed} of {len(faults)} faults noticed" if faults else "no fault could be tried"
    yield f"{test['nodeid']}: {count}", {"bold": True}
    for row in proof["assertions"]:
        yield _row(f":{row['line']} {_name(row, proof)}", row), _style(row)
    for row in proof["rules"]:
        gate = row["name"] if " " in row["name"] else f"gate: {row['name']}"
        yield _row(gate, row), {}
    for row in proof["untraced"]:
        place = f"{PurePosixPath(row['file']).name}:{row['line']}"
        yield f"  untraced {place} {row['text']}: {row['why']}", {"yellow": True}
    if unseen := [fault["name"] for fault in faults if not fault["noticed"]]:
        yield f"  not noticed here: {', '.join(unseen)}", {}
    for name, why in proof["not_tried"].items():
        yield f"  not tried: {name}: {why}", {"yellow": True}


def _name(row: Mapping[str, Json], proof: Mapping[str, Json]) -> str:
    """The assert's own words where they are of one comparison, else that comparison."""
    same = [other for other in proof["assertions"] if other["text"] == row["text"]]
    return str(row["text"] if len(same) == 1 else row["comparison"])


def _row(what: str, row: Mapping[str, Json]) -> str:
    kills = ", ".join(row["kills"])
    if row["note"] and not kills:
        kills = row["note"].partition(";")[0]
    return f"  {what:<{WIDTH}} {kills or 'no fault fails it' + _furthest(row)}"


def _furthest(row: Mapping[str, Json]) -> str:
    """How far a fault moves the value of an assert that holds all the same."""
    before = row.get("value")
    moved = {name: value for name, value in row.get("values", {}).items() if value is not None}
    if before is None or not moved:
        return ""
    name = max(moved, key=lambda name: abs(moved[name] - before))
    return f" ({name}: {show(before, row['unit'])} to {show(moved[name], row['unit'])})"


def _style(row: Mapping[str, Json]) -> dict[str, bool]:
    return {} if row["kills"] or row["note"] else {"yellow": True}


def _hint(fault: Mapping[str, Json]) -> str:
    names = fault["seen_by"][:SUGGESTED]
    return f"; metrics that see it: {', '.join(names)}" if names else ""


def _model(model: str, proof: Mapping[str, Json]) -> Lines:
    if proof["score"] is None:
        yield f"{model}: no fault could be tried", {"yellow": True}
        return
    line = f"{model}: {proof['noticed']} of {proof['faults']} faults noticed ({proof['score']:.0%})"
    yield line, {"yellow": True} if proof["survivors"] else {"green": True}
    for fault in proof["survivors"]:
        yield f"  nothing notices: {fault['name']} ({fault['detail']}){_hint(fault)}", {"red": True}
    for where in proof["never_fail"]:
        yield f"  no fault fails: {where}", {"yellow": True}
