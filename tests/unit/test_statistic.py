import math

import numpy as np
import pytest

from pytest_vdb.errors import NotApplicable, TooFewSamples, Unmeasured
from pytest_vdb.records import Kind, Measurement, Missing, Provenance, Value
from pytest_vdb.statistic import Series, explain, percentile, summarize


def series(values=(1.0, 2.0, 4.0), headline="median", unit="s", **kwargs):
    data = tuple(Value(f"p{i}", 0, float(v)) for i, v in enumerate(values))
    made = Measurement(
        "latency", unit, "lower", Kind.LATENCY, headline, data, Provenance("a clock")
    )
    return Series(made, **kwargs)


def absent(missing):
    return Series(
        Measurement("m", "s", "lower", Kind.LATENCY, "mean", (), missing=missing, reason="why")
    )


COMPARISONS = [
    lambda s: s < 1,
    lambda s: s <= 1,
    lambda s: s > 1,
    lambda s: s >= 1,
    lambda s: s == 1,
    lambda s: s != 1,
    lambda s: 0 < s < 1,
    lambda s: s < s,
]


def test_statistics_against_numpy():
    values = [0.3, 0.1, 0.9, 0.4, 0.45]
    found = summarize(series(values).measurement)
    assert found == pytest.approx(
        {
            "mean": np.mean(values),
            "median": np.median(values),
            "min": 0.1,
            "max": 0.9,
            "std": np.std(values, ddof=1),
        }
    )
    for q in (0, 5, 50, 95, 100):
        assert percentile(values, q) == pytest.approx(np.percentile(values, q))


def test_a_series_compares_as_its_headline():
    assert series(headline="median") < 2.5
    assert series(headline="max") > 3.9
    assert not series(headline="mean") < 2.3


def test_whole_numbers_become_floats():
    data = (Value("p", 0, 2**30),)  # peaks are counted in bytes
    peak = Series(Measurement("memory.peak", "B", "lower", Kind.MEMORY, "max", data))
    assert isinstance(float(peak), float)
    assert peak.max / 2 == 2**29


def test_arithmetic_gives_plain_floats():
    s = series().median
    for value in (s + 1, 1 + s, s - 1, 1 - s, s * 2, 2 * s, s / 2, 2 / s, abs(s), -s, round(s, 1)):
        assert type(value) is float
    assert 6 / s == 3.0
    assert s == pytest.approx(2.0)
    assert f"{s:.1f}" == "2.0"


@pytest.mark.parametrize("compare", COMPARISONS)
def test_unmeasured_refuses_every_comparison(compare):
    for side in (absent(Missing.UNMEASURED), absent(Missing.UNMEASURED).mean):
        with pytest.raises(Unmeasured, match="why"):
            compare(side)
        with pytest.raises(Unmeasured):
            bool(side)
        with pytest.raises(Unmeasured):
            float(side)


@pytest.mark.parametrize("missing", [Missing.NOT_APPLICABLE, Missing.NO_REFERENCE])
@pytest.mark.parametrize("compare", COMPARISONS)
def test_what_cannot_be_measured_lets_comparisons_hold(compare, missing):
    assert compare(absent(missing))
    assert compare(absent(missing).max)


def test_not_applicable_as_a_number_skips_and_no_reference_raises():
    with pytest.raises(NotApplicable):
        float(absent(Missing.NOT_APPLICABLE).mean)
    with pytest.raises(Unmeasured):
        float(absent(Missing.NO_REFERENCE).mean)
    assert not absent(Missing.NOT_APPLICABLE).applicable


def test_nan_as_a_bound_decides_nothing():
    with pytest.raises(Unmeasured, match="NaN"):
        assert series() < math.nan


def test_a_text_is_no_bound():
    with pytest.raises(TypeError):
        assert series() < "3"


def test_p95_needs_twenty_samples():
    with pytest.raises(TooFewSamples, match="20 samples and has 19"):
        assert series(range(19)).p95 < 1
    assert series(range(20)).p95 == pytest.approx(np.percentile(range(20), 95))


def test_explanation_has_value_spread_baseline_and_provenance():
    s = series(baseline="median 1.5 s (latest of 1 stored)")
    text = "\n".join(explain("<", s.median, 1.0))
    for part in (
        "latency.median < 1 s",
        "n 3",
        "1.5 s (latest",
        "a clock",
        "worst     4 s for 'p2'",
    ):
        assert part in text


def test_nothing_to_explain_about_others():
    assert explain("<", 1, 2) is None
    assert explain("<", absent(Missing.UNMEASURED), 2) is None
