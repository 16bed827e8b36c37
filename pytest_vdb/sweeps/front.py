"""Which points no other one beats, and which one to take under stated limits. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_vdb.sweeps.levels import Level
from pytest_vdb.sweeps.limits import Limit

COSTS = ("latency", "latency.cpu", "energy", "memory.peak", "memory.cpu_peak")
"""What the cheapest point has least of: the first of these that was measured."""


def front(
    points: Sequence[Mapping[str, float]],
    axes: Mapping[str, str],
    slack: Mapping[str, float] | None = None,
) -> list[int]:
    """Indices of the points that no other one dominates: as good on every axis, better on one.

    ``points`` hold values by name, ``axes`` the direction that is better (``higher`` or ``lower``)
    by name; values that differ by at most the ``slack`` of their axis are as good as each other.
    Points that tie on every axis are both on the front. One that lacks an axis is not on it, and
    keeps nobody off it.
    """
    whole = {i: _costs(one, axes) for i, one in enumerate(points) if axes.keys() <= one.keys()}
    free = [(slack or {}).get(name, 0.0) for name in axes]
    return [
        i
        for i, one in whole.items()
        if not any(_dominates(other, one, free) for j, other in whole.items() if j != i)
    ]


def _costs(point: Mapping[str, float], axes: Mapping[str, str]) -> list[float]:
    """The values, turned so that less is better."""
    return [
        point[name] if direction == "lower" else -point[name] for name, direction in axes.items()
    ]


def _dominates(one: Sequence[float], other: Sequence[float], slack: Sequence[float]) -> bool:
    axes = [*zip(one, other, slack, strict=True)]
    return all(a <= b + free for a, b, free in axes) and any(a < b - free for a, b, free in axes)


@dataclass(frozen=True)
class Candidate:
    """A point: its levels by measurement, and whether its tests passed."""

    levels: Mapping[str, Level]
    passed: bool = True


@dataclass(frozen=True)
class Advice:
    """``point`` is an index, None where none is certain to meet the limits; ``cost`` the
    measurement by which it is the cheapest, or empty; ``why`` says it in words."""

    point: int | None
    cost: str
    why: str


def recommend(points: Sequence[Candidate], limits: Sequence[Limit]) -> Advice:
    """The cheapest point whose 95 % intervals keep every limit and whose tests passed.

    Cheapest is least of the first time that ``limits`` name, else of the first of `COSTS` that any
    point has; among equals the first point.
    """
    cost = _cost(points, limits)
    if not cost:
        return Advice(
            None, "", f"nothing says what is cheapest: let the test touch {' or '.join(COSTS[:2])}"
        )
    fit = [i for i, point in enumerate(points) if point.passed and _keeps(point, limits)]
    priced = [i for i in fit if cost in points[i].levels]
    if priced:
        best = min(priced, key=lambda i: points[i].levels[cost].value)
        told = ", ".join(limit.text for limit in limits)
        return Advice(best, cost, f"the least {cost} of {len(fit)} that certainly keep {told}")
    return Advice(None, cost, _none(points, limits, fit))


def _keeps(point: Candidate, limits: Sequence[Limit]) -> bool:
    """Whether it keeps all for certain: without an interval nothing does."""
    found = [(limit, point.levels.get(limit.name)) for limit in limits]
    return all(level and level.interval and limit.met(*level.interval) for limit, level in found)


def _cost(points: Sequence[Candidate], limits: Sequence[Limit]) -> str:
    named = [limit.name for limit in limits if limit.name.partition(".")[0] == "latency"]
    return next(
        (name for name in (*named, *COSTS) if any(name in point.levels for point in points)), ""
    )


def _none(points: Sequence[Candidate], limits: Sequence[Limit], fit: Sequence[int]) -> str:
    """Why there is no recommendation: how many points keep each limit."""
    if fit:
        return "what keeps every limit lacks the cost"
    counts = []
    for limit in limits:
        kept = sum(_keeps(point, [limit]) for point in points)
        having = [level for point in points if (level := point.levels.get(limit.name))]
        sure = any(level.interval for level in having)
        why = "measured nowhere" if not having else "" if sure else "no interval says how surely"
        counts.append(f"{limit.text} by {kept}" + (f" ({why})" if why else ""))
    failed = sum(not point.passed for point in points)
    tests = f"; the tests of {failed} failed" if failed else ""
    return f"of {len(points)} points none certainly keeps all: {', '.join(counts)}{tests}"
