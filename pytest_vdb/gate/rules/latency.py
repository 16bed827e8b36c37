"""Run times against stored sessions: a screen that clears, and hardly ever convicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pytest_vdb.gate.policy import Tolerance
from pytest_vdb.gate.rules.common import ALPHA, guarded, out_of_reach, t_quantile, t_tail
from pytest_vdb.records import State, Verdict

SESSION_SD = 0.02
"""Assumed session-to-session sd of log latency until enough sessions tell it themselves."""
SESSION_SD_WEIGHT = 8
SESSIONS_TO_CONVICT = 5


def fastest_half(values: Sequence[float]) -> float:
    """Session summary of run times: the log of the mean of the ``n // 2`` fastest."""
    fastest = sorted(values)[: max(1, len(values) // 2)]
    return math.log(sum(fastest) / len(fastest))


def latency_screen(
    new: Sequence[float],
    base: Sequence[Sequence[float]],
    *,
    tolerance: Tolerance,
    guard_m: int,
    rate: bool = False,
    session_sd: float = SESSION_SD,
) -> Verdict:
    """Run times against those of k stored sessions: a screen that clears, and rarely convicts.

    ``rate``: the values are per second (videos a second), and are judged as seconds each.
    ``session_sd`` is what a calibration of this machine kind found; 2 % is assumed without one.

    The session offset is the main noise, so its sd (pooled with the assumed one) sets the interval.
    PASS where the slowdown is within the tolerance and certainly below twice it; a conviction
    needs five sessions and a tolerance of five times that sd, and is called unconfirmed: only
    base and candidate side by side on one machine can tell a slow change from a slow machine.
    """
    if rate:
        if not tolerance.relative:  # of the rate itself: as a share of what was stored
            rates = [math.exp(-fastest_half([1 / v for v in session])) for session in base]
            tolerance = Tolerance(tolerance.value / (sum(rates) / len(rates)))
        verdict = latency_screen(
            [1 / value for value in new],
            [[1 / value for value in session] for session in base],
            tolerance=tolerance,
            guard_m=guard_m,
            session_sd=session_sd,
        )
        return as_rate(verdict)
    k = len(base)
    mean, error, df = _told_by(base, session_sd)
    level = math.exp(mean)
    change = fastest_half(new) - mean
    relative = tolerance.value if tolerance.relative else tolerance.value / level
    limit, double = math.log1p(relative), math.log1p(2 * relative)
    reach = t_quantile(0.99, df) * error
    worse = t_tail((change - limit) / error, df, "greater")
    seen = effect_of(change, error, df) | {
        "tolerance": str(tolerance),
        "p": worse,
        "n": len(new),
        "baseline": level,
        "resolves": out_of_reach(tolerance, screen_resolves(base, session_sd), level),
    }
    sessions = f"{k} stored session{'s' * (k > 1)}"
    if change <= limit and change + reach < double:
        if change < -limit and change + reach < 0:
            return Verdict(State.IMPROVEMENT, f"faster than {sessions}", **seen)
        return Verdict(State.PASS, f"cleared against {sessions}", **seen)
    slower = t_tail(change / error, df, "greater")
    sure = k >= SESSIONS_TO_CONVICT and relative >= 5 * error / math.sqrt(1 + 1 / k)
    if sure and worse < ALPHA and guarded(slower, guard_m):
        return Verdict(State.REGRESSION, f"slower than {sessions} (unconfirmed)", **seen)
    return Verdict(
        State.INCONCLUSIVE,
        f"slower than {sessions}, or too noisy to clear; the change or the machine: "
        "--vdb-against=REF runs both side by side, which tells; or rerun on an idle machine, or "
        f"widen the tolerance beyond {math.expm1(change + reach) / 2:.0%}",
        **seen,
    )


def screen_resolves(base: Sequence[Sequence[float]], session_sd: float = SESSION_SD) -> float:
    """The tolerance, as a share, that the screen clears 95 times in 100 where nothing changed."""
    _, error, df = _told_by(base, session_sd)
    return math.expm1((t_quantile(0.99, df) + t_quantile(1 - ALPHA, df)) * error) / 2


def _told_by(base: Sequence[Sequence[float]], session_sd: float) -> tuple[float, float, float]:
    """Mean of the stored summaries, standard error of a new one's distance from it, and its df."""
    summaries = [fastest_half(session) for session in base]
    k = len(summaries)
    mean = sum(summaries) / k
    between = sum((summary - mean) ** 2 for summary in summaries)
    df = SESSION_SD_WEIGHT + k - 1
    variance = (SESSION_SD_WEIGHT * session_sd**2 + between) / df
    return mean, math.sqrt(variance * (1 + 1 / k)), df


def effect_of(change: float, error: float, df: float) -> dict[str, Any]:
    """A change of log time as a share of the baseline, with its 95 % interval."""
    half = t_quantile(0.975, df) * error
    return {
        "effect": math.expm1(change),
        "interval": (math.expm1(change - half), math.expm1(change + half)),
    }


def as_rate(verdict: Verdict) -> Verdict:
    """A verdict on seconds each, told as a change of how many a second."""
    assert verdict.effect is not None
    assert verdict.interval is not None
    assert verdict.baseline is not None
    low, high = verdict.interval
    return replace(
        verdict,
        effect=1 / (1 + verdict.effect) - 1,
        interval=(1 / (1 + high) - 1, 1 / (1 + low) - 1),
        baseline=1 / verdict.baseline,
    )
