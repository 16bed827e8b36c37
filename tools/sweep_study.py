"""How honest a sweep's marks, intervals and recommendations are: the table of docs/sweeps.md.

Every sweep is a grid of 5 points that are equal in truth. Run: python tools/sweep_study.py
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
from collections.abc import Callable, Sequence

from pytest_vdb.gate.rules import fastest_half
from pytest_vdb.records import Kind, Measurement, Value
from pytest_vdb.sweeps.front import Candidate, recommend
from pytest_vdb.sweeps.levels import Level, compare, level
from pytest_vdb.sweeps.limits import parse

POINTS = 5
SESSION_SD = 0.02
NUMBERS = (2, 3, 5, 8, 20)
"""Prompts of a score; videos of a time."""

Draw = Callable[[random.Random, int], list[float]]


def normal(noise: random.Random, n: int) -> list[float]:
    return [noise.gauss(0, 1) for _ in range(n)]


def near_one(noise: random.Random, n: int) -> list[float]:
    """Scores that crowd below 1, a mean of 8/9."""
    return [noise.betavariate(8, 1) for _ in range(n)]


def pass_fail(noise: random.Random, n: int) -> list[float]:
    """Nine in ten pass."""
    return [float(noise.random() < 0.9) for _ in range(n)]


def times(spread: float) -> Draw:
    def draw(noise: random.Random, n: int) -> list[float]:
        session = noise.gauss(0, SESSION_SD)
        return [math.exp(session + noise.gauss(0, spread)) for _ in range(n)]

    return draw


SERIES: Sequence[tuple[str, Kind, Draw, float | None]] = (
    ("score, normal", Kind.SCORE, normal, 0.0),
    ("score, crowded below 1", Kind.SCORE, near_one, 8 / 9),
    ("score, nine in ten pass", Kind.SCORE, pass_fail, 0.9),
    ("time, spread 3 %", Kind.LATENCY, times(0.03), None),
    ("time, spread 20 %", Kind.LATENCY, times(0.2), None),
)


def measured(values: Sequence[float], kind: Kind) -> Measurement:
    found = tuple(Value(f"p{i}", 0, value) for i, value in enumerate(values))
    better = "lower" if kind is Kind.LATENCY else "higher"
    return Measurement("m", "1", better, kind, "mean", found)


def settled(draw: Draw, n: int, noise: random.Random) -> float:
    """What sessions of ``n`` videos show in the long run."""
    return math.exp(statistics.fmean(fastest_half(draw(noise, n)) for _ in range(20_000)))


def study(kind: Kind, draw: Draw, mean: float | None, n: int, trials: int, seed: int) -> list[str]:
    """Shares of the sweeps with a mark, of the intervals without the truth, and of the sweeps with
    a recommendation although no point is better than the limit."""
    noise = random.Random(f"{seed} {n}")
    truth = settled(draw, n, noise) if mean is None else mean
    limit = parse(f"m{'<=' if kind is Kind.LATENCY else '>='}{truth!r}")
    marks = missed = told = advised = 0
    for _ in range(trials):
        points = [measured(draw(noise, n), kind) for _ in range(POINTS)]
        levels = [found for one in points if (found := level(one))]
        pick = min if kind is Kind.LATENCY else max
        best = points[levels.index(pick(levels, key=lambda one: one.value))]
        pairs = POINTS * (POINTS - 1) // 2
        marks += any(compare(one, best, pairs) == "worse" for one in points if one is not best)
        ends = [one.interval for one in levels if one.interval]
        told += len(ends)
        missed += sum(not low <= truth <= high for low, high in ends)
        cost = {"latency": Level(1.0, None, n)}
        found = recommend([Candidate({"m": one, **cost}) for one in levels], limit)
        advised += found.point is not None
    return [f"{100 * share:.1f} %" for share in (marks / trials, missed / told, advised / trials)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print("| series | n | any mark | interval without the truth | recommended at the limit |")
    print("|---|---|---|---|---|")
    for name, kind, draw, mean in SERIES:
        for n in NUMBERS:
            shares = study(kind, draw, mean, n, options.trials, options.seed)
            print(f"| {name} | {n} | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main()
