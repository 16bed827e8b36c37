"""Base and candidate side by side on one machine: the rule that convicts a slowdown.

A process pair is one process of each side, alive together, which take turns in short blocks
(``AB BA AB …``); its value is the median over the blocks of ln(candidate) - ln(base). What moves
both sides at once (clocks, temperature, neighbours) is gone from it. What is left are the
processes' own offsets, so process pairs are the replicates, and blocks never are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from pytest_vdb.gate.policy import Tolerance
from pytest_vdb.gate.rules.common import ALPHA, guarded, out_of_reach, t_quantile, t_tail
from pytest_vdb.gate.rules.latency import effect_of
from pytest_vdb.records import State, Verdict

LOOKS = (3, 4, 6, 8)
"""After how many process pairs a verdict may be given."""

SURE = 4
"""Pairs that convict where more can follow: three agree by chance too often where the processes of
one code differ, and the fourth is only asked for where something looks slower."""

BLOCKS = 5
"""Blocks a side and process."""

PAIR_SD = 0.01
"""Assumed sd of a process pair's value: processes of .5 %, and what blocks leave of 2 % a run."""
PAIR_SD_WEIGHT = 8

CONTRADICTED = 3.0
"""How many times the assumed sd the pairs' own must be for the assumption to be dropped. Simulated
for processes that vary by 15 %, this and `SURE` take the false alarms of a measurement from 5.8 %
to 0.1 %, and nothing from what a machine as assumed finds."""

BLOCK_SHARE = 0.5
"""How much of the variance that blocks leave, by their own scatter, takes the assumption's place
where it is more: simulated, it takes nine tenths of the false alarms from a machine whose runs vary
by 10 %, and nothing from what a machine as assumed finds."""

BEYOND_ALPHA = 0.01


def block_ratios(base: Sequence[float], candidate: Sequence[float]) -> list[float]:
    """ln(candidate / base) of the blocks of one process pair, in the order they were run."""
    return [math.log(b / a) for a, b in zip(base, candidate, strict=True)]


def interleaved(
    pairs: Sequence[Sequence[float]],
    *,
    level: float,
    tolerance: Tolerance,
    guard_m: int,
    pair_sd: float = PAIR_SD,
    last: bool = True,
) -> Verdict:
    """The `block_ratios` of process pairs (of seconds each) to a verdict.

    A pair's value is the median over its blocks, which sees neither a block that something
    disturbed nor a drift through all of them. ``level`` is the base's own value, in seconds;
    ``pair_sd`` is the sd of a pair's value that a calibration of this machine kind found, pooled
    with what the pairs show (with the weight of 8 pairs) unless they contradict it. ``last`` says
    that no more pairs can follow: before that, it takes 4 to convict.

    REGRESSION where the slowdown exceeds the tolerance (p < .01) and is one at all (p < .01/m),
    PASS where one beyond the tolerance is excluded (p < .05), IMPROVEMENT the mirror image of the
    first. INCONCLUSIVE says which tolerance as many pairs can resolve.
    """
    n = len(pairs)
    values = [median(blocks) for blocks in pairs]
    mean = sum(values) / n
    squares = sum((value - mean) ** 2 for value in values)
    assumed = max(pair_sd**2, BLOCK_SHARE * _left_by_blocks(pairs))
    contradicted = squares > (n - 1) * CONTRADICTED**2 * assumed
    weight = 0 if contradicted else PAIR_SD_WEIGHT
    df = weight + n - 1
    error = math.sqrt((weight * assumed + squares) / df / n)
    relative = tolerance.value if tolerance.relative else tolerance.value / level
    limit = math.log1p(relative)
    worse = t_tail((mean - limit) / error, df, "greater")
    better = t_tail((mean + limit) / error, df, "less")
    seen = effect_of(mean, error, df) | {
        "tolerance": str(tolerance),
        "p": worse,
        "n": n,
        "baseline": level,
        "resolves": out_of_reach(tolerance, math.expm1(resolvable(error, df)), level),
    }
    processes = f"{n} process pair{'s' * (n > 1)}"
    beside = f"the base side by side ({processes})"
    slower = worse < BEYOND_ALPHA and guarded(t_tail(mean / error, df, "greater"), guard_m)
    if slower and (last or n >= SURE):
        verdict = Verdict(State.REGRESSION, f"slower than {beside}", **seen)
    elif better < BEYOND_ALPHA and guarded(t_tail(mean / error, df, "less"), guard_m):
        verdict = Verdict(State.IMPROVEMENT, f"faster than {beside}", **(seen | {"p": better}))
    elif (within := t_tail((mean - limit) / error, df, "less")) < ALPHA:
        verdict = Verdict(State.PASS, f"cleared against {beside}", **(seen | {"p": within}))
    else:
        more = "allow more with --vdb-ab-processes" if n < LOOKS[-1] else "use a steadier machine"
        verdict = Verdict(
            State.INCONCLUSIVE,
            f"{processes} beside the base cannot tell, which resolves a tolerance of "
            f"{math.expm1(resolvable(error, df)):.1%}: {more}, or widen it",
            **seen,
        )
    return verdict


def _left_by_blocks(pairs: Sequence[Sequence[float]]) -> float:
    """The variance of the median of a pair's blocks, by all blocks' median absolute deviation."""
    away = [abs(value - median(blocks)) for blocks in pairs for value in blocks]
    blocks = len(away) / len(pairs)
    return math.pi / 2 * (1.4826 * median(away)) ** 2 / blocks


def resolvable(error: float, df: float) -> float:
    """The tolerance, in logs, that pairs of this standard error clear 95 times in 100 by A/A."""
    return 2 * t_quantile(1 - ALPHA, df) * error


def pairs_resolve(pairs: int, pair_sd: float = PAIR_SD) -> float:
    """The tolerance, as a share, that so many pairs of this sd tell apart: 95 times in 100 they
    clear what has not changed, and convict a slowdown of twice as much."""
    df = PAIR_SD_WEIGHT + pairs - 1
    error = pair_sd / math.sqrt(pairs)
    return math.expm1((t_quantile(1 - BEYOND_ALPHA, df) + t_quantile(1 - ALPHA, df)) * error)
