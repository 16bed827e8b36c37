"""Scores of the same prompts and seeds, new against base: non-inferiority on prompt means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import ndtri

from pytest_vdb.gate.policy import Tolerance
from pytest_vdb.gate.rules.common import (
    ALPHA,
    GUARD_ALPHA,
    guarded,
    out_of_reach,
    p_value,
    t_quantile,
)
from pytest_vdb.records import State, Verdict

PROMPTS_TO_GATE = 8
"""Fewest prompts for which the paired rule is statistical; below, it judges these prompts only."""


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
    (p < .01/m), PASS where a fall beyond the tolerance is excluded (p < .05). Where every prompt
    has one value and it is 0 or 1, "a fall at all" is McNemar's exact test.
    """
    keys = sorted(base)
    if sorted(new) != keys:
        lost = sorted(set(keys) ^ set(new))
        return Verdict(State.UNMEASURED, f"samples without a partner: {', '.join(lost[:4])}")
    change = {key: new[key] - base[key] for key in keys}
    level = abs(float(np.mean([base[key] for key in keys])))
    seen = _seen(list(base.values()), change, tolerance, level)
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
    share = _resolves(gains) / (level if tolerance.relative else 1.0)
    seen["resolves"] = out_of_reach(tolerance, share, 1.0)
    is_change = _mcnemar if _is_pass_fail(new, base, gains) else _t_against_0
    worse = p_value(gains, -limit, "less")
    if worse < ALPHA and is_change(gains, "less", guard_m):
        return Verdict(State.REGRESSION, "worse by more than the tolerance", p=worse, **seen)
    better = p_value(gains, limit, "greater")
    if better < ALPHA and is_change(gains, "greater", guard_m):
        return Verdict(State.IMPROVEMENT, "better by more than the tolerance", p=better, **seen)
    harmless = p_value(gains, -limit, "greater")
    if harmless < ALPHA:
        return Verdict(State.PASS, "not worse than the tolerance allows", p=harmless, **seen)
    reason = f"{len(gains)} prompts cannot tell; {_settled_by(gains, limit, guard_m)}"
    return Verdict(State.INCONCLUSIVE, reason, p=worse, **seen)


def _is_pass_fail(new: Mapping[str, float], base: Mapping[str, float], gains: Any) -> bool:
    """Whether every prompt passed or failed, once on each side."""
    return len(gains) == len(new) and {*new.values(), *base.values()} <= {0.0, 1.0}


def _t_against_0(gains: Any, side: str, guard_m: int) -> bool:
    return guarded(p_value(gains, 0.0, side), guard_m)


def _mcnemar(gains: Any, side: str, guard_m: int) -> bool:
    """McNemar's exact test, one-sided: of those that changed, how many fell (or rose).

    So few prompts that not even all of them could satisfy the guard are held to p < .05.
    """
    from scipy.stats import binomtest  # slow to import, and seldom needed

    fell, rose = int(np.sum(gains < 0)), int(np.sum(gains > 0))
    this = fell if side == "less" else rose
    p = float(binomtest(this, fell + rose, alternative="greater").pvalue)
    return guarded(p, guard_m) or (not guarded(0.5 ** len(gains), guard_m) and p < ALPHA)


def _settled_by(gains: Any, limit: float, guard_m: int) -> str:
    """How many prompts would settle it, were the change as it looks (95 % power, normal theory)."""
    mean, sd = float(np.mean(gains)), float(np.std(gains, ddof=1))
    power = -float(ndtri(ALPHA))
    if mean < -limit:  # to convict: clear of the tolerance, and of 0 by the guard's measure
        guard = -float(ndtri(GUARD_ALPHA / guard_m)) + power
        root = max(2 * power * sd / (-limit - mean), guard * sd / -mean)
    elif limit:  # to clear a change of nothing
        root = 2 * power * sd / limit
    else:
        return "the tolerance is 0"
    return f"about {math.ceil(root**2) + 4} prompts would settle it"


def prompts_resolve(new: Mapping[str, float], base: Mapping[str, float]) -> float | None:
    """The tolerance, in the score's unit, that prompts which differ like these tell apart.

    None where the prompts are too few to gate, or nothing differs.
    """
    change = {key: new[key] - base[key] for key in base}
    if not any(change.values()):
        return None
    means = _prompt_means(change)
    return _resolves(means) if len(means) >= PROMPTS_TO_GATE else None


def _resolves(gains: Any) -> float:
    """The tolerance that such prompts clear 95 times in 100 where the mean has not changed."""
    error = float(np.std(gains, ddof=1)) / len(gains) ** 0.5
    return 2 * t_quantile(1 - ALPHA, len(gains) - 1) * error


def _prompt_means(change: Mapping[str, float]) -> Any:
    """One value a prompt: the mean over its seeds."""
    clusters: dict[str, list[float]] = {}
    for key, value in change.items():
        clusters.setdefault(key.rpartition("/")[0], []).append(value)
    return np.array([sum(values) / len(values) for values in clusters.values()])


def _seen(
    base: Sequence[float], change: Mapping[str, float], tolerance: Tolerance, level: float
) -> dict[str, Any]:
    """The effect with its 95 % interval, as every verdict of this rule reports it."""
    scale = level if tolerance.relative and level else 1.0
    means = _prompt_means(change) / scale
    interval = None
    if len(means) > 1:
        half = t_quantile(0.975, len(means) - 1) * float(np.std(means, ddof=1)) / len(means) ** 0.5
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
