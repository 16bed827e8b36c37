"""What an assert compares: series of measured values and the numbers drawn from them.

Light on purpose (standard library only): pytest asks it to explain comparisons.
"""

from __future__ import annotations

import math
import operator
import statistics
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from pytest_vdb.comparison import Comparison, Trace, caller
from pytest_vdb.errors import NotApplicable, TooFewSamples, Unmeasured
from pytest_vdb.records import Measurement, Missing
from pytest_vdb.units import show

SAMPLES_FOR_P95 = 20

STATISTICS: dict[str, Callable[[list[float]], float]] = {
    "mean": statistics.fmean,
    "median": statistics.median,
    "min": min,
    "max": max,
    "std": statistics.stdev,
}


def headline_of(unit: str) -> str:
    """What stands for numbers: of seconds the median, of bytes the most, else the mean."""
    return {"s": "median", "B": "max"}.get(unit, "mean")


def summarize(measurement: Measurement) -> dict[str, float]:
    """Every statistic that the number of samples supports."""
    if not measurement.values:
        return {}
    numbers = measurement.numbers
    fit = (name for name in STATISTICS if name != "std" or len(numbers) > 1)
    summary = {name: STATISTICS[name](numbers) for name in fit}
    if len(measurement.values) >= SAMPLES_FOR_P95:
        summary["p95"] = percentile(measurement.numbers, 95)
    return summary


def percentile(values: list[float], q: float) -> float:
    """Linear interpolation between order statistics (numpy's default, Hyndman and Fan type 7)."""
    ordered = sorted(values)
    position = (len(ordered) - 1) * q / 100
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


class _Comparable:
    """Compares like a number; refuses to where there is none.

    A measurement that the source cannot make, or a distance without a reference, lets the
    comparison hold: the gate lists it, and what it does to the test is the policy's decision.
    Arithmetic gives a plain float.
    """

    name: str
    measurement: Measurement
    trace: Trace | None = None

    def _number(self) -> float:
        raise NotImplementedError  # pragma: no cover - both subclasses have it

    @property
    def label(self) -> str:
        """Measurement and statistic: ``latency.median``."""
        raise NotImplementedError  # pragma: no cover - both subclasses have it

    def over(self, others: Mapping[str, Measurement]) -> _Comparable:
        """The same of the measurement of that name in ``others``, untraced."""
        raise NotImplementedError  # pragma: no cover - both subclasses have it

    def _plain(self) -> float:
        """The number, for whatever is done with it from here on."""
        if self.trace is not None:
            self.trace.untraced.append(caller(__file__))
        return self._number()

    def _traced(self, other: Any, compare: Callable[[Any, Any], bool]) -> Any:
        result = self._compare(other, compare)
        if self.trace is not None and result is not NotImplemented:
            made = Comparison(caller(__file__), self, compare, other, bool(result))
            self.trace.comparisons.append(made)
        return result

    def _vacuous(self) -> bool:
        return self.measurement.missing in (Missing.NOT_APPLICABLE, Missing.NO_REFERENCE)

    def _compare(self, other: Any, compare: Callable[[Any, Any], bool]) -> Any:
        if isinstance(other, _Comparable):
            if self._vacuous() or other._vacuous():
                return True
            other = other._number()
        elif isinstance(other, bool) or not isinstance(other, int | float):
            if compare not in (operator.eq, operator.ne):
                return NotImplemented
            return self._vacuous() or compare(self._number(), other)  # such as pytest.approx
        if self._vacuous():
            return True
        if isinstance(other, float) and math.isnan(other):
            raise Unmeasured(f"{self.name} is compared with NaN, which decides nothing")
        return compare(self._number(), other)

    def __lt__(self, other: Any) -> Any:
        return self._traced(other, operator.lt)

    def __le__(self, other: Any) -> Any:
        return self._traced(other, operator.le)

    def __gt__(self, other: Any) -> Any:
        return self._traced(other, operator.gt)

    def __ge__(self, other: Any) -> Any:
        return self._traced(other, operator.ge)

    def __eq__(self, other: object) -> Any:
        return self._traced(other, operator.eq)

    def __ne__(self, other: object) -> Any:
        return self._traced(other, operator.ne)

    def __hash__(self) -> int:
        return hash((self.name, self.measurement))

    def __float__(self) -> float:
        return float(self._plain())  # bytes are whole numbers

    def __bool__(self) -> bool:
        return bool(self._plain())

    def __add__(self, other: Any) -> float:
        return float(self) + float(other)

    def __sub__(self, other: Any) -> float:
        return float(self) - float(other)

    def __rsub__(self, other: Any) -> float:
        return float(other) - float(self)

    def __mul__(self, other: Any) -> float:
        return float(self) * float(other)

    def __truediv__(self, other: Any) -> float:
        return float(self) / float(other)

    def __rtruediv__(self, other: Any) -> float:
        return float(other) / float(self)

    def __abs__(self) -> float:
        return abs(float(self))

    def __neg__(self) -> float:
        return -float(self)

    def __round__(self, digits: int | None = None) -> float:
        return round(float(self), digits)

    __radd__ = __add__
    __rmul__ = __mul__

    def __format__(self, spec: str) -> str:
        return format(self._number(), spec)


class Statistic(_Comparable):
    """One number of a series, such as its median, in the series' unit."""

    def __init__(self, series: Series, label: str, compute: Callable[[list[float]], float]) -> None:
        self.series = series
        self.measurement = series.measurement
        self.name = f"{series.name}.{label}"
        self.trace = series.trace
        self._statistic = label
        self._compute = compute

    @property
    def label(self) -> str:
        return self.name

    def over(self, others: Mapping[str, Measurement]) -> Statistic:
        return Statistic(self.series.over(others), self._statistic, self._compute)

    def _number(self) -> float:
        return self._compute(self.series._numbers)

    def __repr__(self) -> str:
        if self.measurement.missing:
            return f"<{self.name}: {self.measurement.missing}>"
        return f"<{self.name}: {show(self._number(), self.measurement.unit)}>"


class Series(_Comparable):
    """A measurement as a benchmark file sees it.

    Compared with a number it stands for its headline statistic: the median of a latency, the
    largest peak of memory, the mean of a score. ``baseline`` describes the stored values for the
    explanation of a failure.
    """

    prompts: Mapping[str, str] = {}  # texts by id, for the explanation

    def __init__(
        self,
        measurement: Measurement,
        baseline: str = "",
        prompts: Mapping[str, str] | None = None,
        trace: Trace | None = None,
    ) -> None:
        self.measurement = measurement
        self.prompts = prompts or {}
        self.name = measurement.name
        self.baseline = baseline
        self.trace = trace

    @property
    def label(self) -> str:
        return f"{self.name}.{self.measurement.headline}"

    def over(self, others: Mapping[str, Measurement]) -> Series:
        return Series(others.get(self.name, self.measurement))

    @property
    def applicable(self) -> bool:
        """Whether the source can make this measurement at all."""
        return self.measurement.missing is not Missing.NOT_APPLICABLE

    @property
    def values(self) -> list[float]:
        """One number a sample. Raises Unmeasured, or skips the test where not applicable."""
        numbers = self._numbers
        if self.trace is not None:
            self.trace.untraced.append(caller(__file__))
        return numbers

    @property
    def _numbers(self) -> list[float]:
        match self.measurement.missing:
            case None:
                return self.measurement.numbers
            case Missing.NOT_APPLICABLE:
                raise NotApplicable(f"{self.name} is not applicable: {self.measurement.reason}")
            case Missing.NO_REFERENCE:
                raise Unmeasured(
                    f"{self.name} has no number yet: {self.measurement.reason}. Compare it "
                    f"directly (assert vdb.score(...).min > 0.9): that holds until there is one"
                )
            case _:
                raise Unmeasured(f"{self.name} is UNMEASURED: {self.measurement.reason}")

    @property
    def n(self) -> int:
        """Number of samples measured."""
        return len(self.measurement.values)

    def _statistic(self, label: str) -> Statistic:
        return Statistic(self, label, STATISTICS[label])

    @property
    def mean(self) -> Statistic:
        return self._statistic("mean")

    @property
    def median(self) -> Statistic:
        return self._statistic("median")

    @property
    def min(self) -> Statistic:
        return self._statistic("min")

    @property
    def max(self) -> Statistic:
        return self._statistic("max")

    @property
    def std(self) -> Statistic:
        """Sample standard deviation (n - 1); TooFewSamples for a single one."""
        if not self.measurement.missing and self.n < 2:
            raise TooFewSamples(f"{self.name}.std needs at least 2 samples and has {self.n}")
        return self._statistic("std")

    @property
    def p95(self) -> Statistic:
        """The 95th percentile; TooFewSamples below 20 samples, where it would be the maximum."""
        if not self.measurement.missing and self.n < SAMPLES_FOR_P95:
            raise TooFewSamples(
                f"{self.name}.p95 needs at least {SAMPLES_FOR_P95} samples and has {self.n}: "
                f"compare .max or .median, or raise num_seeds"
            )
        return Statistic(self, "p95", lambda values: percentile(values, 95))

    @property
    def headline(self) -> Statistic:
        return self._statistic(self.measurement.headline)

    def _number(self) -> float:
        return self.headline._number()

    def __repr__(self) -> str:
        if self.measurement.missing:
            return f"<{self.name}: {self.measurement.missing}, {self.measurement.reason}>"
        value = show(self._number(), self.measurement.unit)
        return f"<{self.name}: {self.measurement.headline} {value}, n {self.n}>"


def explain(op: str, left: object, right: object) -> list[str] | None:
    """Lines for a failed comparison: what was measured, how, and what the baseline holds."""
    mine = next((side for side in (left, right) if isinstance(side, _Comparable)), None)
    if mine is None or mine.measurement.missing:
        return None
    series = mine.series if isinstance(mine, Statistic) else mine
    assert isinstance(series, Series)
    m = series.measurement
    head = mine.name if isinstance(mine, Statistic) else series.headline.name
    sides = [
        show(float(side), m.unit) if isinstance(side, int | float | _Comparable) else repr(side)
        for side in (left, right)
    ]
    named = [
        head if side is mine else text for side, text in zip((left, right), sides, strict=True)
    ]
    number = {name: show(value, m.unit) for name, value in summarize(m).items()}
    bad = (
        min(m.values, key=lambda v: v.value)
        if m.direction == "higher"
        else max(m.values, key=lambda v: v.value)
    )
    lines = [
        f"{named[0]} {op} {named[1]}",
        f"measured  {head} = {show(float(mine), m.unit)}"
        f"   (n {series.n}, mean {number['mean']}, sd {number.get('std', '–')}, {number['min']} to "
        f"{number['max']}; {m.direction} is better; unit {m.unit})",
    ]
    if bad.seed is not None and series.n > 1:
        text = textwrap.shorten(series.prompts.get(bad.prompt, bad.prompt), 60)
        lines.append(f"worst     {show(bad.value, m.unit)} for {text!r}, seed {bad.seed}")
    lines.append(f"baseline  {series.baseline or 'none'}")
    lines.append(f"how       {m.provenance.how} ({m.provenance.device})")
    return lines
