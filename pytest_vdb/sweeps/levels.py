"""The level of a measurement at one point with its interval, and how two points differ.

Both as the gate has them: prompts are the replicates of a score, and a time is known no better than
sessions repeat.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pytest_vdb.records import TIMED, WHOLE_RUN, Kind, Measurement

ALPHA = 0.05


@dataclass(frozen=True)
class Level:
    """``value`` in the measurement's unit; ``interval`` at 95 %, None where nothing tells it;
    ``n`` counts prompts of a score, else videos."""

    value: float
    interval: tuple[float, float] | None
    n: int


def level(m: Measurement) -> Level | None:
    """The level of ``m`` at its point; None without values."""
    if not m.values:
        return None
    if m.kind is Kind.MEMORY:  # allocators repeat: the peak is what it is
        peak = max(m.numbers)
        return Level(peak, (peak, peak), len(m.values))
    if m.by_key.keys() == {WHOLE_RUN}:  # one number of the whole run
        return Level(m.numbers[0], None, 1)
    if m.kind in TIMED and min(m.numbers) > 0:
        return _time(m)
    return _score(m)


def _score(m: Measurement) -> Level:
    from pytest_vdb.gate.rules.common import t_quantile

    means = [*_by_prompt(m.by_key).values()]
    mean, n = statistics.fmean(means), len(means)
    if n > 1 and _pass_fail(m):
        return Level(mean, _exact(round(sum(means)), n), n)
    spread = statistics.stdev(means) if n > 1 else 0.0
    if not spread:  # that prompts agree does not make it certain
        return Level(mean, None, n)
    half = t_quantile(0.975, n - 1) * spread / math.sqrt(n)
    return Level(mean, (mean - half, mean + half), n)


def _pass_fail(*series: Measurement) -> bool:
    """Whether every prompt passed or failed, once, as the gate has it."""
    return all(
        {*m.numbers} <= {0.0, 1.0} and len(_by_prompt(m.by_key)) == len(m.values) for m in series
    )


def _exact(passed: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share (Clopper and Pearson 1934)."""
    from scipy.special import betaincinv

    low = float(betaincinv(passed, n - passed + 1, 0.025)) if passed else 0.0
    high = float(betaincinv(passed + 1, n - passed, 0.975)) if passed < n else 1.0
    return low, high


def _time(m: Measurement) -> Level:
    """Of times (and energy): the gate's summary of a session, the mean of the fastest half."""
    from pytest_vdb.gate.rules import SESSION_SD, fastest_half
    from pytest_vdb.gate.rules.common import t_quantile

    rate = m.direction == "higher"
    seconds = [1 / value for value in m.numbers] if rate else m.numbers
    log, n = fastest_half(seconds), len(seconds)
    at = -log if rate else log
    if n < 2:
        return Level(math.exp(at), None, n)
    error, df = _error(statistics.stdev(map(math.log, seconds)), n, SESSION_SD**2)
    half = t_quantile(0.975, df) * error
    return Level(math.exp(at), (math.exp(at - half), math.exp(at + half)), n)


def _error(spread: float, n: int, session: float) -> tuple[float, int]:
    """Standard error of a log time, and its degrees of freedom: no more than either part has.

    The parts are the spread of ``n`` videos, of which half are averaged, and the variance between
    sessions, which is assumed with a weight. Pooled degrees of freedom (Satterthwaite) would be
    too many for two or three videos: tools/sweep_study.py.
    """
    from pytest_vdb.gate.rules.latency import SESSION_SD_WEIGHT

    return math.sqrt(spread**2 / (n // 2) + session), min(n - 1, SESSION_SD_WEIGHT)


# ------------------------------------------------------------------------- two points


def compare(one: Measurement, other: Measurement, comparisons: int) -> str | None:
    """``better``, ``worse`` or ``same``: ``one`` against ``other``, as far as they can be told
    apart (p < .05 over all ``comparisons``, by Bonferroni). None where nothing tells."""
    if not one.values or not other.values:
        return None
    if one.kind is Kind.MEMORY:
        from pytest_vdb.gate.rules import slack_of

        change = max(one.numbers) - max(other.numbers)
        return _word(one, change, certain=abs(change) > slack_of(one))
    if one.by_key.keys() != other.by_key.keys() or one.by_key.keys() == {WHOLE_RUN}:
        return None
    timed = one.kind in TIMED and min(*one.numbers, *other.numbers) > 0
    found = _times(one, other) if timed else _scores(one, other)
    return found and _word(one, found[0], certain=found[1] * max(1, comparisons) < ALPHA)


def _word(m: Measurement, change: float, *, certain: bool) -> str:
    if not certain:
        return "same"
    return "better" if (change > 0) is (m.direction == "higher") else "worse"


def _scores(one: Measurement, other: Measurement) -> tuple[float, float] | None:
    """The mean change over prompts, and p of a two-sided t test that there is none."""
    from pytest_vdb.gate.rules import PROMPTS_TO_GATE
    from pytest_vdb.gate.rules.common import p_value

    base = other.by_key
    changes = [*_by_prompt({key: value - base[key] for key, value in one.by_key.items()}).values()]
    few = len(changes) < PROMPTS_TO_GATE and len({*changes}) == 1
    if len(changes) < 2 or (few and changes[0] != 0):
        return None
    p = min(p_value(changes, 0.0, "less"), p_value(changes, 0.0, "greater"))
    return statistics.fmean(changes), min(1.0, 2 * p)


def _times(one: Measurement, other: Measurement) -> tuple[float, float] | None:
    from pytest_vdb.gate.rules import SESSION_SD, fastest_half
    from pytest_vdb.gate.rules.common import t_tail

    seconds: Callable[[float], float] = (
        (lambda value: 1 / value) if one.direction == "higher" else (lambda value: value)
    )
    base = other.by_key
    ratios = [math.log(seconds(v) / seconds(base[key])) for key, v in one.by_key.items()]
    if len(ratios) < 2:
        return None
    mine, theirs = (fastest_half([*map(seconds, m.numbers)]) for m in (one, other))
    error, df = _error(statistics.stdev(ratios), len(ratios), 2 * SESSION_SD**2)
    change = mine - theirs
    p = 2 * t_tail(abs(change) / error, df, "greater")
    return (-change if one.direction == "higher" else change), p


def _by_prompt(values: Mapping[str, float]) -> dict[str, float]:
    """The mean over a prompt's seeds: seeds are no replicates."""
    seeds: dict[str, list[float]] = {}
    for key, value in values.items():
        seeds.setdefault(key.rpartition("/")[0], []).append(value)
    return {prompt: statistics.fmean(several) for prompt, several in seeds.items()}
