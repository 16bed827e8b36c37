"""What a page says of a run at first sight: every row with its verdict, the worst first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_vdb.records import Json, Verdict
from pytest_vdb.report import ranked, rows

RANK = {"error": 0, "fail": 0, "warn": 1, "pass": 2}
"""Of what a verdict did to its test; among equals the state decides."""
EXITS = {0: "Passed", 1: "Failed", 2: "Interrupted", 5: "No tests", 10: "Infrastructure error"}
NOT_GATED = "Nothing was gated"
"""What an exit code of 0 says where no test measured anything."""
FAILED = "failed"
"""Beside the states: a test that failed by its own assertion, or broke."""
# A test's own failure comes after what got worse, which may be why.
ORDER = (ranked.WORST[0].value, FAILED, *(state.value for state in ranked.WORST[1:]))
"""The states, the worst first."""
NOTHING = "the test failed before anything was measured; pytest's own report says why"
ROOM = 1.15
"""What a bar shows beyond its outermost mark."""


def verdict_of(run: Mapping[str, Json]) -> str:
    """The run's outcome in a word or two."""
    code = run["exit"]
    if code == 0 and not any(test["measurements"] for test in run["tests"]):
        return NOT_GATED
    return EXITS.get(code, f"Exit code {code}")


def entries(tests: list[dict[str, Json]]) -> list[dict[str, Json]]:
    """A row a measurement, the worst first; a test without any has one of its own."""
    measured = (_entry(i, row) for i, test in enumerate(tests) for row in ranked.rows_of(test))
    return sorted([*measured, *_own(tests)], key=_badness)


def worst(tests: list[dict[str, Json]]) -> list[dict[str, Json]]:
    """What fails, the worst first: a row a change, with how many ``others`` saw it too."""
    place = {test["nodeid"]: index for index, test in enumerate(tests)}
    measured = (
        {**_entry(place[row.test["nodeid"]], row), "others": len(row.others)}
        for row in ranked.ranked(tests)
        if row.fails
    )
    return sorted([*measured, *_own(tests)], key=_badness)


def _own(tests: list[dict[str, Json]]) -> Iterator[dict[str, Json]]:
    """A row each test that failed by itself, and for more than a measurement says of it."""
    for index, test in enumerate(tests):
        if test["outcome"] in ("passed", "skipped"):
            continue
        if (failure := ranked.own_failure(test)) or not test["measurements"]:
            yield _broken(index, (failure or {}).get("text") or NOTHING)


def _entry(test: int, row: ranked.Ranked) -> dict[str, Json]:
    m, verdict = row.measurement, row.verdict
    # What was expected to fail fails nothing, and is still no pass.
    expected = row.consequence in ("error", "fail") and not row.fails
    return {
        "test": test,
        "name": m.name,
        "kind": m.kind.value,
        "state": verdict.state.value,
        "label": rows.label(m, verdict),
        "consequence": "warn" if expected else row.consequence,
        "value": rows.value(m),
        "baseline": rows.baseline(m, verdict),
        "change": rows.change(verdict),
        "interval": interval(verdict),
        "tolerance": verdict.tolerance or "",
        "p": verdict.p,
        "n": verdict.n,
        "reason": verdict.reason,
        "bar": bar(verdict, m.direction),
    }


def _broken(test: int, why: str) -> dict[str, Json]:
    """The row of a test that failed by itself and not by a verdict."""
    blank = dict.fromkeys(("value", "baseline", "change"), "–")
    more: dict[str, Any] = {
        "interval": "",
        "tolerance": "",
        "p": None,
        "n": 0,
        "reason": why,
        "bar": None,
        "others": 0,
    }
    state = {"state": FAILED, "label": FAILED.upper(), "consequence": "fail"}
    return {
        "test": test,
        "name": "the test itself",
        "kind": "",
        **state,
        **blank,
        **more,
    }


def interval(verdict: Verdict) -> str:
    """The 95 % interval in words: ``-58.5% to -52.7%``; empty where there is none."""
    ends = (
        f"{100 * one:+.1f}%" if verdict.relative else f"{one:+.3g}"
        for one in verdict.interval or ()
    )
    return " to ".join(ends)


def _badness(row: Mapping[str, Json]) -> tuple[float, ...]:
    over = row["bar"]["over"] if row["bar"] else 0.0
    return (
        RANK[row["consequence"]],
        ORDER.index(row["state"]),
        -over,
        row["test"],
    )


def bar(verdict: Verdict, direction: str) -> dict[str, float | None] | None:
    """Where to draw an interval and its tolerance: percent of the bar's width, worse to the right.

    No change is at 50. ``over`` is the effect as a multiple of the tolerance, positive where worse.
    None without a comparison.
    """
    if verdict.effect is None or not math.isfinite(verdict.effect):
        return None
    sign = 1 if direction == "lower" else -1
    effect = sign * verdict.effect
    low, high = sorted(sign * bound for bound in verdict.interval or (verdict.effect,) * 2)
    limit = ranked.limit(verdict)
    reach = ROOM * max(abs(low), abs(high), abs(effect), 1.5 * (limit or 0.0)) or 1.0

    def at(value: float) -> float:
        return round(50 + 50 * max(-1.0, min(1.0, value / reach)), 2)

    return {
        "effect": at(effect),
        "low": at(low) if verdict.interval else None,
        "high": at(high) if verdict.interval else None,
        "tolerance": at(limit) if limit else None,
        "over": round(effect / limit, 3) if limit else 0.0,
    }
