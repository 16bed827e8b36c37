"""The rules: pure functions from numbers to a verdict.

Each takes plain values and gives a ``Verdict``; nothing here knows files, models or pytest. The
figures behind the constants are in docs/verdicts.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import stats

from pytest_vdb.gate.policy import Tolerance
from pytest_vdb.records import State, Verdict

PROMPTS_TO_GATE = 8
"""Fewest prompts for which the paired rule is statistical; below, it judges these prompts only."""

ALPHA = 0.05
GUARD_ALPHA = 0.01
SESSION_SD = 0.02
"""Assumed session-to-session sd of log latency until enough sessions tell it themselves."""
SESSION_SD_WEIGHT = 8
REPORTED_SLACK = 256 * 2**20
"""Bytes that an engine's or a server's own figure may rise by: it holds caches and contexts."""

MEMORY_SLACK = 2 * 2**20
"""Bytes of peak memory that never matter: allocator rounding."""


def paired(
    new: Mapping[str, float],
    base: Mapping[str, float],
    *,
    higher_is_better: bool,
    tolerance: Tolerance,
    guard_m: int,
) -> Verdict:
    """Scores of the same prompts and seeds, new against base (keys ``<prompt>/<seed>``).

    Non-inferiority by one-sided t tests on prompt means (seeds of a prompt are a cluster, never
    replicates): REGRESSION where the fall exceeds the tolerance (p < .05) and is a fall at all
    (p < .01/m), PASS where a fall beyond the tolerance is excluded (p < .05).
    """
    keys = sorted(base)
    if sorted(new) != keys:
        lost = sorted(set(keys) ^ set(new))
        return Verdict(State.UNMEASURED, f"samples without a partner: {', '.join(lost[:4])}")
    change = {key: new[key] - base[key] for key in keys}
    level = abs(float(np.mean([base[key] for key in keys])))
    seen = _seen(list(new.values()), list(base.values()), change, tolerance, level)
    if not any(change.values()):
        return Verdict(State.IDENTICAL, "every value equals the baseline's", **seen)
    if tolerance.relative and level == 0:
        return Verdict(
            State.UNMEASURED,
            "the baseline's mean is 0: a tolerance in % of it says nothing; give one in 'abs'",
            **seen,
        )
    limit = tolerance.value * (level if tolerance.relative else 1.0)
    sign = 1.0 if higher_is_better else -1.0
    gains = sign * _prompt_means(change)
    seen["n"] = len(gains)
    if len(gains) < PROMPTS_TO_GATE:
        return _fixed_set(gains, limit, seen)
    worse = _p(gains, -limit, "less")
    guard = _p(gains, 0.0, "less")
    if worse < ALPHA and guard < GUARD_ALPHA / guard_m:
        return Verdict(State.REGRESSION, "worse by more than the tolerance", p=worse, **seen)
    better = _p(gains, limit, "greater")
    if better < ALPHA and _p(gains, 0.0, "greater") < GUARD_ALPHA / guard_m:
        return Verdict(State.IMPROVEMENT, "better by more than the tolerance", p=better, **seen)
    harmless = _p(gains, -limit, "greater")
    if harmless < ALPHA:
        return Verdict(State.PASS, "not worse than the tolerance allows", p=harmless, **seen)
    reason = f"{len(gains)} prompts cannot tell; {_settled_by(gains, limit, guard_m)}"
    return Verdict(State.INCONCLUSIVE, reason, p=worse, **seen)


def _settled_by(gains: Any, limit: float, guard_m: int) -> str:
    """How many prompts would settle it, were the change as it looks (95 % power, normal theory)."""
    mean, sd = float(np.mean(gains)), float(np.std(gains, ddof=1))
    power = float(stats.norm.isf(ALPHA))
    if mean < -limit:  # to convict: clear of the tolerance, and of 0 by the guard's measure
        guard = float(stats.norm.isf(GUARD_ALPHA / guard_m)) + power
        root = max(2 * power * sd / (-limit - mean), guard * sd / -mean)
    elif limit:  # to clear a change of nothing
        root = 2 * power * sd / limit
    else:
        return "the tolerance is 0"
    return f"about {math.ceil(root**2) + 4} prompts would settle it"


def _prompt_means(change: Mapping[str, float]) -> Any:
    """One value a prompt: the mean over its seeds."""
    clusters: dict[str, list[float]] = {}
    for key, value in change.items():
        clusters.setdefault(key.rpartition("/")[0], []).append(value)
    return np.array([np.mean(values) for values in clusters.values()])


def _p(values: Any, against: float, side: str) -> float:
    """p of a one-sided one-sample t test; without spread, 0 or 1 by the mean alone."""
    if np.ptp(values) <= 1e-12 * max(1.0, float(np.max(np.abs(values)))):
        mean = float(np.mean(values))
        return float(not (mean < against if side == "less" else mean > against))
    return float(stats.ttest_1samp(values, against, alternative=side).pvalue)


def _seen(
    new: Sequence[float],
    base: Sequence[float],
    change: Mapping[str, float],
    tolerance: Tolerance,
    level: float,
) -> dict[str, Any]:
    """The effect with its 95 % interval, as every verdict of this rule reports it."""
    scale = level if tolerance.relative and level else 1.0
    means = _prompt_means(change) / scale
    interval = None
    if len(means) > 1:
        half = float(stats.t.ppf(0.975, len(means) - 1) * np.std(means, ddof=1) / len(means) ** 0.5)
        interval = (float(np.mean(means)) - half, float(np.mean(means)) + half)
    return {
        "effect": float(np.mean(means)),
        "interval": interval,
        "relative": bool(tolerance.relative and level),
        "tolerance": str(tolerance),
        "n": len(means),
        "baseline": float(np.mean(base)),
    }


def _fixed_set(gains: Any, limit: float, seen: dict[str, Any]) -> Verdict:
    """Fewer than eight prompts: exact for these, silent about others."""
    mean = float(np.mean(gains))
    only = f"these {len(gains)} prompts only; {PROMPTS_TO_GATE} or more gate statistically"
    if mean < -limit:
        return Verdict(State.REGRESSION, f"worse by more than the tolerance ({only})", **seen)
    if mean > limit:
        return Verdict(State.IMPROVEMENT, f"better by more than the tolerance ({only})", **seen)
    return Verdict(State.PASS, f"within the tolerance ({only})", **seen)


def peak_memory(
    new: Sequence[float],
    base: Sequence[Sequence[float]],
    *,
    tolerance: Tolerance,
    floor: float = MEMORY_SLACK,
) -> Verdict:
    """Peak bytes against those of the stored sessions: exact, without a test.

    A regression is a smallest new peak above the largest stored one by more than the tolerance
    and ``floor`` bytes.
    """
    lowest = min(min(session) for session in base)
    highest = max(max(session) for session in base)
    if lowest <= 0:
        return Verdict(State.UNMEASURED, "the baseline holds a peak of 0 bytes: it never measured")
    margin = highest * tolerance.value if tolerance.relative else tolerance.value
    slack = max(margin, floor)
    effect = max(new) / highest - 1
    seen: dict[str, Any] = {
        "effect": effect,
        "tolerance": str(tolerance),
        "n": len(new),
        "baseline": float(highest),
    }
    note = "" if lowest == highest else "; the baseline itself varies"
    if min(new) > highest + slack:
        return Verdict(State.REGRESSION, "peak above the baseline's and the slack" + note, **seen)
    if max(new) < lowest - slack:
        return Verdict(State.IMPROVEMENT, "peak below the baseline's and the slack" + note, **seen)
    if min(new) == max(new) == lowest == highest:
        return Verdict(State.IDENTICAL, "the same peak to the byte", **seen)
    return Verdict(State.PASS, "changed by less than the slack" + note, **seen)


def fastest_half(values: Sequence[float]) -> float:
    """Session summary of run times: the log of the mean of the ``n // 2`` fastest."""
    ordered = sorted(values)
    return math.log(sum(ordered[: max(1, len(ordered) // 2)]) / max(1, len(ordered) // 2))


def latency_screen(
    new: Sequence[float],
    base: Sequence[Sequence[float]],
    *,
    tolerance: Tolerance,
    guard_m: int,
    rate: bool = False,
) -> Verdict:
    """Run times against those of k stored sessions: a screen that clears, and rarely convicts.

    ``rate``: the values are per second (videos a second), and are judged as seconds each.

    The session offset is the main noise, so its sd (pooled with an assumed 2 %) sets the interval.
    PASS where the slowdown is within the tolerance and certainly below twice it; a conviction
    needs five sessions and a tolerance of five times that sd, and is called unconfirmed: only
    base and candidate side by side on one machine can tell a slow change from a slow machine.
    """
    if rate:
        verdict = latency_screen(
            [1 / value for value in new],
            [[1 / value for value in session] for session in base],
            tolerance=tolerance,
            guard_m=guard_m,
        )
        return _as_rate(verdict)
    summaries = [fastest_half(session) for session in base]
    k = len(summaries)
    level = math.exp(sum(summaries) / k)
    between = float(np.var(summaries, ddof=1)) if k > 1 else 0.0
    df = SESSION_SD_WEIGHT + k - 1
    variance = (SESSION_SD_WEIGHT * SESSION_SD**2 + (k - 1) * between) / df
    error = math.sqrt(variance * (1 + 1 / k))
    change = fastest_half(new) - sum(summaries) / k
    relative = tolerance.value if tolerance.relative else tolerance.value / level
    limit, double = math.log1p(relative), math.log1p(2 * relative)
    reach = float(stats.t.ppf(0.99, df)) * error
    half = float(stats.t.ppf(0.975, df)) * error
    worse = float(stats.t.sf((change - limit) / error, df))
    seen: dict[str, Any] = {
        "effect": math.expm1(change),
        "interval": (math.expm1(change - half), math.expm1(change + half)),
        "tolerance": str(tolerance),
        "p": worse,
        "n": len(new),
        "baseline": level,
    }
    sessions = f"{k} stored session{'s' * (k > 1)}"
    if change <= limit and change + reach < double:
        if change < -limit and change + reach < 0:
            return Verdict(State.IMPROVEMENT, f"faster than {sessions}", **seen)
        return Verdict(State.PASS, f"cleared against {sessions}", **seen)
    slower = float(stats.t.sf(change / error, df))
    if (
        k >= 5
        and relative >= 5 * math.sqrt(variance)
        and worse < ALPHA
        and slower < GUARD_ALPHA / guard_m
    ):
        return Verdict(State.REGRESSION, f"slower than {sessions} (unconfirmed)", **seen)
    return Verdict(
        State.INCONCLUSIVE,
        f"slower than {sessions}, or too noisy to clear; the change or the machine: rerun on an "
        f"idle machine, or widen the tolerance beyond {math.expm1(change + reach) / 2:.0%}",
        **seen,
    )


def _as_rate(verdict: Verdict) -> Verdict:
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
