"""From the calibrations of a machine to what the rules assume of it: estimators, pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from pytest_vdb.noise import SESSIONS_TO_TELL, Calibrated, Calibration, Noise

PAIR_FLOOR = 0.003
SESSION_FLOOR = 0.005
"""No calibration makes the rules surer than this: some noise comes seldom."""

CERTAINTY = 0.5
"""The rules take the limit that the true sd lies below so often: an sd of few values is more often
too small than too large. With .8 the simulated gate finds half as much after one calibration, and
raises no fewer false alarms (docs/calibration.md)."""

PAIRS_TO_TELL = 3

APART = timedelta(hours=1)
"""Calibrations that follow each other sooner are one session: what differs from day to day had no
time to."""

RUNS_FOR_AR1 = 8
"""Runs a process, on average, below which an autocorrelation is mostly its own bias."""


@dataclass(frozen=True)
class Spread:
    """An sd with the degrees of freedom that it was estimated with."""

    sd: float
    df: float

    @property
    def limit(self) -> float:
        """What the true sd lies below with `CERTAINTY`, for normal values."""
        from scipy.special import gammaincinv

        chi2 = 2 * float(gammaincinv(self.df / 2, 1 - CERTAINTY))
        return self.sd * math.sqrt(self.df / chi2)


def estimate(sessions: Sequence[Calibrated], name: str) -> Calibration | None:
    """What ``sessions`` (in any order) say of measurement ``name``; None where they say nothing."""
    seen = [one for one in sorted(sessions, key=lambda one: one.date) if name in one.noise]
    found = [one.noise[name] for one in seen]
    pairs = sum(len(noise.pairs) for noise in found)
    if pairs < PAIRS_TO_TELL:
        return None
    return Calibration(
        pair_sd=max(PAIR_FLOOR, pair_spread(found).limit),
        session_sd=_session_sd(seen, name),
        pairs=pairs,
        sessions=len(times(seen)),
        date=seen[-1].date[:10],
    )


def pair_spread(found: Sequence[Noise]) -> Spread:
    """The sd of a process pair's value. Its mean is known to be 0: both sides are one code."""
    values = [value for noise in found for value in noise.pairs]
    return Spread(math.sqrt(sum(value**2 for value in values) / len(values)), len(values))


def process_spread(found: Sequence[Noise]) -> Spread:
    """The sd of a process's summary around its session's mean, with whatever drifted meanwhile."""
    squares, df = 0.0, 0
    for noise in found:
        mean = sum(noise.levels) / len(noise.levels)
        squares += sum((level - mean) ** 2 for level in noise.levels)
        df += len(noise.levels) - 1
    return Spread(math.sqrt(squares / df), df)


def between_spread(sessions: Sequence[Calibrated], name: str) -> Spread | None:
    """The sd of the sessions' means, around that of their own workload; None for one session."""
    squares, df = 0.0, 0
    for workload in {one.workload for one in sessions}:
        mine = [one for one in sessions if one.workload == workload]
        means = [
            sum(levels) / len(levels)
            for group in times(mine)
            if (levels := [level for one in group for level in one.noise[name].levels])
        ]
        middle = sum(means) / len(means)
        squares += sum((mean - middle) ** 2 for mean in means)
        df += len(means) - 1
    return Spread(math.sqrt(squares / df), df) if df else None


def _session_sd(sessions: Sequence[Calibrated], name: str) -> float:
    """The sd of one session's summary, which is one process's on one day."""
    from pytest_vdb.gate.rules.latency import SESSION_SD

    within = process_spread([one.noise[name] for one in sessions])
    between = between_spread(sessions, name)
    if between is None or between.df + 1 < SESSIONS_TO_TELL:
        return max(SESSION_SD, within.limit)
    # A mean over several processes holds a share of their variance already.
    several = sum(len(one.noise[name].levels) for one in sessions) / len(times(sessions))
    rest = (1 - 1 / several) * within.sd**2
    total = between.sd**2 + rest
    if not total:
        return SESSION_FLOOR
    df = total**2 / (between.sd**4 / between.df + rest**2 / within.df)  # Satterthwaite
    return max(SESSION_FLOOR, Spread(math.sqrt(total), df).limit)


def times(sessions: Sequence[Calibrated]) -> list[list[Calibrated]]:
    """The sessions, oldest first, those together that did not lie `APART`."""
    groups: list[list[Calibrated]] = []
    for one in sorted(sessions, key=lambda one: one.date):
        if groups and _when(one) - _when(groups[-1][0]) < APART:
            groups[-1].append(one)
        else:
            groups.append([one])
    return groups


def _when(one: Calibrated) -> datetime:
    return datetime.fromisoformat(one.date)


def run_spread(processes: Sequence[Sequence[float]]) -> Spread:
    """The sd of runs (logs) within their process, pooled."""
    df = sum(len(runs) - 1 for runs in processes)
    return Spread(math.sqrt(sum(_squares(runs) for runs in processes) / df) if df else 0.0, df)


def autocorrelation(processes: Sequence[Sequence[float]]) -> float | None:
    """Lag-1 autocorrelation of runs (logs) within their process, pooled; None for too few runs.

    A process's own mean biases it by -(1 + 4 r)/n (Kendall 1954, Note on bias in the estimation of
    autocorrelation), which is undone.
    """
    n = sum(map(len, processes)) / len(processes)
    squares = sum(map(_squares, processes))
    if n < RUNS_FOR_AR1 or not squares:
        return None
    products = 0.0
    for runs in processes:
        mean = sum(runs) / len(runs)
        products += sum((a - mean) * (b - mean) for a, b in pairwise(runs))
    seen = products / squares
    return max(-1.0, min(1.0, (seen + 1 / n) / (1 - 4 / n)))


def _squares(runs: Sequence[float]) -> float:
    mean = sum(runs) / len(runs)
    return sum((run - mean) ** 2 for run in runs)
