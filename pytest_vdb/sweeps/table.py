"""What the points of a sweep say together: a table with intervals, fronts, a recommendation.

Made of the tests of docs/json.md, so that shards and kept runs give the same; docs/sweeps.md has
the rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_vdb.records import Json, Kind, Measurement
from pytest_vdb.sweeps.front import Candidate, front, recommend
from pytest_vdb.sweeps.levels import Level, compare, level
from pytest_vdb.sweeps.limits import parse
from pytest_vdb.sweeps.points import CENTRE

Test = Mapping[str, Json]
TIMES = ("latency", "latency.cpu", "throughput")
PEAKS = ("memory.peak", "memory.cpu_peak")


def sweeps(tests: Sequence[Test], limits: str | None = None) -> list[dict[str, Json]]:
    """One entry for each model and workload that was swept, in the order in which they ran.

    ``limits`` are those of ``--vdb-recommend``, which must be sound.
    """
    groups: dict[tuple[str, str], list[Test]] = {}
    for test in tests:
        if swept := test.get("sweep"):
            groups.setdefault((test["model"]["name"], swept["alike"]), []).append(test)
    return [_sweep(model, of, limits) for (model, _), of in groups.items()]


def _sweep(model: str, tests: Sequence[Test], limits: str | None) -> dict[str, Json]:
    first = tests[0]["sweep"]
    points = _points(tests)
    found = [_measured(of) for of in points]
    names = {name: m for one in found for name, m in one.items()}
    levels = [{name: level(m) for name, m in one.items()} for one in found]
    known = [{name: one for name, one in of.items() if one is not None} for of in levels]
    passed = [all(test["outcome"] in ("passed", "skipped") for test in of) for of in points]
    ids = [of[0]["sweep"]["id"] for of in points]
    centre = ids.index(CENTRE) if CENTRE in ids else None
    references = {name: _reference(name, names[name], known, centre) for name in names}
    advice: dict[str, Any] = {}
    kept = parse(limits) if limits is not None else ()
    if kept:
        candidates = [Candidate(*pair) for pair in zip(known, passed, strict=True)]
        advised = recommend(candidates, kept)
        advice = {
            "limits": limits,
            "recommended": {"point": advised.point, "cost": advised.cost, "why": advised.why},
        }
    return {
        "model": model,
        "mode": first["mode"],
        "explores": first["explores"],
        "factors": first["factors"],
        "centre": centre,
        "measurements": [
            {"name": name, "unit": m.unit, "direction": m.direction, "kind": m.kind.value}
            for name, m in names.items()
        ],
        "points": [
            {
                "id": ids[i],
                "setting": of[0]["sweep"]["setting"],
                "workload": of[0]["workload"]["hash"],
                "tests": [test["nodeid"] for test in of],
                "passed": passed[i],
                "levels": {
                    name: _level_json(known[i].get(name))
                    | {"differs": _differs(name, i, found, references[name], centre)}
                    for name in names
                },
            }
            for i, of in enumerate(points)
        ],
        "fronts": sorted(
            _fronts(known, names), key=lambda one: one["axes"][0] not in {of.name for of in kept}
        ),
        **advice,
    }


def _points(tests: Sequence[Test]) -> list[list[Test]]:
    """The tests of each point, in the sweep's order."""
    of: dict[str, list[Test]] = {}
    for test in tests:
        of.setdefault(test["workload"]["hash"], []).append(test)
    return sorted(of.values(), key=lambda tests: int(tests[0]["sweep"]["place"]))


def _measured(tests: Sequence[Test]) -> dict[str, Measurement]:
    """What the tests of a point measured; of several, the first that has values.

    A distance is left out: to whom it is one is not the same at every point.
    """
    found: dict[str, Measurement] = {}
    for test in tests:
        for entry in test["measurements"]:
            if entry["kind"] == Kind.DISTANCE:
                continue
            if not (entry["name"] in found and found[entry["name"]].values):
                found[entry["name"]] = Measurement.from_run(entry)
    return found


def _reference(
    name: str, m: Measurement, levels: Sequence[Mapping[str, Level]], centre: int | None
) -> int | None:
    """Whom the points are held against: the centre, or in a grid the best; None where none has
    it."""
    if centre is not None:
        return centre if name in levels[centre] else None
    sign = 1 if m.direction == "lower" else -1
    having = [i for i, of in enumerate(levels) if name in of]
    return min(having, key=lambda i: sign * levels[i][name].value, default=None)


def _differs(
    name: str,
    place: int,
    found: Sequence[Mapping[str, Measurement]],
    reference: int | None,
    centre: int | None,
) -> str | None:
    """How a point differs from the reference, corrected for all comparisons of this measurement.

    Who is the best is itself chosen from the values: that takes the correction for every pair.
    """
    if reference is None or name not in found[place]:
        return None
    if place == reference:
        return "reference"
    others = sum(name in of for of in found) - 1
    pairs = others if centre is not None else others * (others + 1) // 2
    return compare(found[place][name], found[reference][name], pairs)


def _level_json(level: Level | None) -> dict[str, Json]:
    if level is None:
        return {"value": None, "interval": None, "n": 0}
    return {"value": level.value, "interval": level.interval, "n": level.n}


def _fronts(
    levels: Sequence[Mapping[str, Level]], names: Mapping[str, Measurement]
) -> list[dict[str, Json]]:
    """For each score, the points that none beats in it, in time and in memory at once."""
    from pytest_vdb.gate.rules import slack_of

    costs = [
        next((one for one in those if any(one in of for of in levels)), None)
        for those in (TIMES, PEAKS)
    ]
    values = [{name: one.value for name, one in of.items()} for of in levels]
    fronts = []
    for name, m in names.items():
        chosen = [name, *(one for one in costs if one is not None)]
        if m.kind is not Kind.SCORE or len(chosen) < 2 or not any(name in of for of in levels):
            continue
        axes = {one: names[one].direction for one in chosen}
        slack = {one: slack_of(names[one]) for one in chosen if names[one].kind is Kind.MEMORY}
        fronts.append(
            {
                "axes": chosen,
                "points": front(values, axes, slack),
                "unmeasured": [i for i, of in enumerate(values) if not axes.keys() <= of.keys()],
            }
        )
    return fronts
