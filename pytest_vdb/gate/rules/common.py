"""What the rules share."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import stdtr, stdtrit

from pytest_vdb.gate.policy import Tolerance, percent

ALPHA = 0.05
GUARD_ALPHA = 0.01


def p_value(values: Any, against: float, side: str) -> float:
    """p of a one-sided one-sample t test; without spread, 0 or 1 by the mean alone.

    ``values`` is (n,); ``side`` is "less" or "greater".
    """
    mean, spread = float(np.mean(values)), float(np.ptp(values))
    if spread <= 1e-12 * max(1.0, float(np.max(np.abs(values)))):
        return float(not (mean < against if side == "less" else mean > against))
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    return t_tail((mean - against) / error, len(values) - 1, side)


def t_tail(t: float, df: float, side: str) -> float:
    """The share of Student's t distribution beyond ``t``, on its lower or upper side."""
    return float(stdtr(df, t if side == "less" else -t))


def t_quantile(p: float, df: float) -> float:
    """The value that Student's t stays below with probability ``p``."""
    return float(stdtrit(df, p))


def out_of_reach(tolerance: Tolerance, share: float, level: float) -> str | None:
    """``share`` of ``level`` in the tolerance's terms where that is less; else None."""
    reach = share if tolerance.relative else share * level
    if reach <= tolerance.value * 1.005:  # equal, but for rounding
        return None
    return percent(reach) if tolerance.relative else f"{reach:.2g}abs"


def guarded(p: float, guard_m: int) -> bool:
    """Whether a change is one at all, by the measure that ``guard_m`` metrics together ask for."""
    return p < GUARD_ALPHA / guard_m
