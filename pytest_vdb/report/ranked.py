"""The measurements of a run, worst first, each with how sure its verdict is in plain words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_vdb.records import Json, Kind, Measurement, State, Verdict
from pytest_vdb.report import rows

WORST = (
    State.REGRESSION,
    State.UNMEASURED,
    State.INFRA_ERROR,
    State.NO_BASELINE,
    State.INCONCLUSIVE,
    State.NOT_APPLICABLE,
    State.ACCEPTED,
    State.NEW,
    State.IMPROVEMENT,
    State.PASS,
    State.IDENTICAL,
)

UNJUDGED = "UNJUDGED"
"""Beside the states, for words: UNMEASURED although there are values, which nothing can judge."""


@dataclass(frozen=True)
class Ranked:
    """A measurement, its verdict, and the tests that touched it with the same outcome."""

    test: Mapping[str, Json]
    measurement: Measurement
    verdict: Verdict
    consequence: str
    line: int | None = None
    others: tuple[str, ...] = ()
    """Node ids of further tests that say the same of the same videos."""

    @property
    def fails(self) -> bool:
        """Whether it fails its test, as far as the test is not expected to fail."""
        return self.consequence in ("fail", "error") and self.test["outcome"] != "skipped"

    @property
    def bare(self) -> bool:
        """Whether there is nothing to say: within its tolerance, or nothing to measure."""
        return not self.fails and self.verdict.state in (
            State.PASS,
            State.IDENTICAL,
            State.NOT_APPLICABLE,
        )

    @property
    def ended(self) -> str:
        """The state, but `UNJUDGED` for what was measured and could not be judged."""
        unjudged = self.verdict.state is State.UNMEASURED and self.measurement.values
        return UNJUDGED if unjudged else self.verdict.state

    @property
    def order(self) -> tuple[bool, int, float]:
        """Sorts the worst first."""
        verdict = self.verdict
        return (not self.fails, WORST.index(verdict.state), -abs(_share(verdict)))

    @property
    def worse(self) -> tuple[float, float] | None:
        """The interval of the effect as (least, most) for the worse, if there is one."""
        if self.verdict.interval is None:
            return None
        low, high = self.verdict.interval
        return (low, high) if self.measurement.direction == "lower" else (-high, -low)


def ranked(tests: Sequence[Mapping[str, Json]]) -> list[Ranked]:
    """Every measurement of ``tests`` once, the worst first."""
    groups: dict[tuple[Json, ...], list[Ranked]] = {}
    for test in tests:
        videos = (test["model"] or {}).get("name"), (test["workload"] or {}).get("hash")
        for row in rows_of(test):
            m, verdict = row.measurement, row.verdict
            # What a test could not reach is its own affair.
            own = test["nodeid"] if not m.values else ""
            key = (*videos, m.name, verdict.state, verdict.tolerance, row.fails, own)
            groups.setdefault(key, []).append(row)
    found = (
        replace(first, others=tuple(row.test["nodeid"] for row in others))
        for first, *others in groups.values()
    )
    return sorted(found, key=lambda row: row.order)


def own_failure(test: Mapping[str, Json]) -> Json:
    """How the test failed by itself, or None: also where a failing measurement says the same."""
    failure = test.get("failure")
    if not failure or test["outcome"] not in ("failed", "error"):
        return None
    told = (row for row in rows_of(test) if row.fails)
    text = failure["text"]
    return (
        None if any(rows.repeats(text, row.measurement, row.verdict) for row in told) else failure
    )


def rows_of(test: Mapping[str, Json]) -> list[Ranked]:
    """The measurements of one test (docs/json.md), in its order."""
    return [_row(test, entry) for entry in test["measurements"]]


def _row(test: Mapping[str, Json], entry: Mapping[str, Json]) -> Ranked:
    measurement, verdict = rows.parsed(entry)
    return Ranked(test, measurement, verdict, entry["verdict"]["consequence"], entry.get("line"))


def limit(verdict: Verdict) -> float | None:
    """The tolerance in the effect's own terms, or None where it is given in others."""
    match = re.match(r"(?:auto )?([\d.]+(?:e[-+]\d+)?)(%|abs)", verdict.tolerance or "")
    if match is None or (match[2] == "%") is not verdict.relative:
        return None
    return float(match[1]) / (100 if match[2] == "%" else 1)


def _share(verdict: Verdict) -> float:
    """The effect in tolerances, where that can be told."""
    if verdict.effect is None:
        return 0.0
    return verdict.effect / (limit(verdict) or 1.0)


def sure(row: Ranked) -> str:
    """How sure the verdict is, for somebody who reads no p values."""
    verdict, n = row.verdict, row.verdict.n
    match verdict.state:
        case State.REGRESSION if "unconfirmed" in verdict.reason:
            return "likely, but the machine may have changed: nothing ran side by side"
        case State.REGRESSION | State.IMPROVEMENT if verdict.p is None:
            if row.measurement.kind is Kind.MEMORY:
                return "certain: memory peaks repeat"
            return f"exact for these {n:d} prompts; too few to speak for others"
        case State.REGRESSION:
            return _conviction(row)
        case State.IMPROVEMENT:
            return "sure: better, beyond chance"
        case State.INCONCLUSIVE:
            return f"not sure: {n:d} values do not tell it from chance"
        case State.ACCEPTED:
            return "worse, and accepted in a review"
        case State.NEW:
            return "nothing to compare with; reviewed as new"
        case State.NO_BASELINE:
            return "nothing to compare with"
        case State.UNMEASURED:
            return "measured, but not judged" if row.ended == UNJUDGED else "not measured"
        case State.INFRA_ERROR:
            return "says nothing of the change: the machine failed"
    return "sure: not worse than tolerated"


def _conviction(row: Ranked) -> str:
    allowed, worse = limit(row.verdict), row.worse
    if worse is not None and allowed is not None and worse[0] > allowed:
        return "sure: all of the interval is beyond the tolerance"
    if worse is not None and worse[0] > 0:
        return "sure that it is worse, and nearly sure that by more than tolerated"
    return "nearly sure (19 in 20)"
