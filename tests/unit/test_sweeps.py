"""Sweeps without pytest: points, limits, levels, fronts and advice."""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pytest_vdb.errors import BadSetting
from pytest_vdb.records import Kind, Measurement, Value
from pytest_vdb.sweeps.front import Candidate, front, recommend
from pytest_vdb.sweeps.levels import Level, compare, level
from pytest_vdb.sweeps.limits import parse
from pytest_vdb.sweeps.points import Sweep, by_marks

# ------------------------------------------------------------------------- points


def ids(sweep: Sweep) -> list[str]:
    return [point.id for point in sweep.points()]


def marked(**kwargs: Any) -> pytest.Mark:
    return getattr(pytest.mark.vdb_sweep(**kwargs), "mark")  # noqa: B009  mypy knows it as Any


def test_a_grid_has_every_combination():
    grid = Sweep({"num_inference_steps": (10, 25), "guidance_scale": (3, 6.5)})
    assert ids(grid) == [
        "num_inference_steps=10-guidance_scale=3",
        "num_inference_steps=10-guidance_scale=6.5",
        "num_inference_steps=25-guidance_scale=3",
        "num_inference_steps=25-guidance_scale=6.5",
    ]
    assert grid.points()[1].call == {"num_inference_steps": 10, "guidance_scale": 6.5}


def test_one_at_a_time_changes_one_factor_of_the_centre():
    sweep = Sweep({"a": (1, 2), "b": (True, None)}, "one-at-a-time")
    assert [dict(p.call) for p in sweep.points()] == [
        {},
        {"a": 1},
        {"a": 2},
        {"b": True},
        {"b": None},
    ]
    assert ids(sweep) == ["centre", "a=1", "a=2", "b=true", "b=none"]


def test_a_text_is_a_slug_in_an_id_and_a_list_its_place():
    sweep = Sweep({"negative_prompt": ("", "a/b [c]::d"), "sizes": ([1, 2], [3])})
    assert all("[" not in one and "::" not in one and "/" not in one for one in ids(sweep))
    assert len({*ids(sweep)}) == 4
    assert ids(sweep)[0].endswith("-sizes0")


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"num_inference_step": [1, 2]}, "num_inference_steps"),
        ({"num_inference_steps": 4}, "is a list of values"),
        ({"num_inference_steps": [4, 4]}, "names one value twice"),
        ({"num_inference_steps": [4, float("nan")]}, "plain finite JSON"),
        ({"num_inference_steps": [4, 2], "mode": "random"}, "grid or one-at-a-time"),
        ({"num_seeds": [1, 2]}, "@pytest.mark.vdb(num_seeds=...)"),
        ({"call": [1]}, "dict of lists"),
        ({}, "names nothing to vary"),
    ],
    ids=lambda one: next(iter(one), "empty") if isinstance(one, dict) else "",
)
def test_a_marker_that_cannot_mean_anything_is_refused(kwargs, said):
    with pytest.raises(BadSetting, match=said.replace("(", r"\(").replace(")", r"\)")):
        by_marks([marked(**kwargs)])


def test_the_nearest_marker_wins_factor_by_factor():
    far = marked(num_inference_steps=[8, 4], mode="one-at-a-time")
    near = marked(num_inference_steps=[2, 1], call={"shift": [3, 5]})
    sweep = by_marks([far, near])
    assert sweep == Sweep({"num_inference_steps": (2, 1), "shift": (3, 5)}, "one-at-a-time")
    assert by_marks([]) is None


def test_a_grid_of_one_point_is_none():
    with pytest.raises(BadSetting, match="two or more"):
        Sweep({"a": (1,)}).points()


# ------------------------------------------------------------------------- limits


def test_limits_have_the_units_that_flags_have():
    found = parse("clip_score>=0.30, latency<=150ms,latency.cpu<=2s,memory.peak<=20GiB")
    assert [(one.name, one.sign, one.value) for one in found] == [
        ("clip_score", ">=", 0.3),
        ("latency", "<=", 0.15),
        ("latency.cpu", "<=", 2.0),
        ("memory.peak", "<=", 20 * 2**30),
    ]


@pytest.mark.parametrize("text", ["", "latency", "latency<2", "latency<=fast", "a>=1,", "a>=nan"])
def test_what_is_no_limit_is_refused(text):
    with pytest.raises(BadSetting, match="is no limit; write NAME>=VALUE"):
        parse(text)


@pytest.mark.parametrize("text", ["latency<=2GiB", "memory.peak<=2s", "clip_score>=28s"])
def test_a_limit_in_another_unit_is_odd(text):
    (limit,) = parse(text)
    assert "write a number in its own unit" in limit.odd
    assert not parse("latency<=2s")[0].odd


# ------------------------------------------------------------------------- levels


def series(values: dict[str, list[float]], kind: Kind = Kind.SCORE, direction: str = "higher"):
    found = (
        Value(prompt, seed, value)
        for prompt, several in values.items()
        for seed, value in enumerate(several)
    )
    return Measurement("m", "1", direction, kind, "mean", tuple(found))


def prompts(numbers: list[float]) -> dict[str, list[float]]:
    return {f"p{i}": [number] for i, number in enumerate(numbers)}


def test_the_interval_of_a_score_is_that_of_its_prompts():
    values = {"a": [1.0, 3.0], "b": [4.0, 6.0], "c": [3.0, 3.0]}
    found = level(series(values))
    means = [2.0, 5.0, 3.0]
    expected = stats.t.interval(0.95, 2, statistics.fmean(means), stats.sem(means))
    assert found.n == 3
    assert found.interval == pytest.approx(expected)
    # more seeds of the same prompts are no more prompts
    more = level(series({key: several * 5 for key, several in values.items()}))
    assert more.interval == pytest.approx(found.interval)


def test_few_prompts_that_agree_are_no_certainty():
    assert level(series({f"p{i}": [1.0, 1.0] for i in range(8)})).interval is None
    assert level(series(prompts([0.4] * 20))).interval is None
    assert level(series(prompts([0.4]))).interval is None


@pytest.mark.parametrize("passed", [0, 1, 7, 8])
def test_the_interval_of_pass_and_fail_is_exact(passed):
    found = level(series(prompts([1.0] * passed + [0.0] * (8 - passed))))
    expected = stats.binomtest(passed, 8).proportion_ci(0.95, "exact")
    assert found.interval == pytest.approx((expected.low, expected.high))


def test_a_time_is_known_no_better_than_sessions_repeat():
    steady = level(series(prompts([2.0] * 50), Kind.LATENCY, "lower"))
    low, high = steady.interval
    reach = stats.t.ppf(0.975, 8) * 0.02
    assert steady.value == pytest.approx(2)
    assert (low, high) == pytest.approx((2 * 2.718281828**-reach, 2 * 2.718281828**reach))
    noisy = level(series(prompts([2.0, 3.0] * 25), Kind.LATENCY, "lower"))
    assert noisy.value == pytest.approx(2)  # the fastest half
    assert noisy.interval[1] - noisy.interval[0] > high - low
    rate = level(series(prompts([0.5] * 50), Kind.LATENCY, "higher"))
    assert rate.value == pytest.approx(0.5)


def test_a_peak_is_what_it_is():
    found = level(series(prompts([5.0, 7.0]), Kind.MEMORY, "lower"))
    assert (found.value, found.interval) == (7.0, (7.0, 7.0))
    whole = replace(series({}), values=(Value("", None, 3.0),))
    assert (level(whole).value, level(whole).interval) == (3.0, None)
    assert level(series({})) is None


def test_points_are_told_apart_by_pairs_of_prompts():
    base = [random.Random(1).random() * 100 for _ in range(10)]
    better = series(prompts([b + 1 + 0.01 * i for i, b in enumerate(base)]))
    assert compare(better, series(prompts(base)), 5) == "better"
    assert compare(series(prompts(base)), better, 5) == "worse"
    assert compare(series(prompts(base)), series(prompts(base)), 5) == "same"
    less = replace(better, direction="lower")
    assert compare(less, replace(series(prompts(base)), direction="lower"), 5) == "worse"
    assert compare(better, series(prompts(base[:5])), 5) is None  # not the same videos
    assert compare(series(prompts([1.0, 1.0])), series(prompts([0.0, 0.0])), 1) is None


def test_times_and_peaks_are_told_apart():
    noise = random.Random(2)
    slow, fast = (
        series(prompts([s * (1 + 0.01 * noise.random()) for _ in range(6)]), Kind.LATENCY, "lower")
        for s in (2.0, 1.0)
    )
    assert (compare(fast, slow, 5), compare(slow, fast, 5)) == ("better", "worse")
    near = replace(slow, values=tuple(replace(v, value=v.value * 1.02) for v in slow.values))
    assert compare(near, slow, 5) == "same"
    small, large, same = (
        series(prompts([peak * 2.0**20]), Kind.MEMORY, "lower") for peak in (100, 200, 101)
    )
    assert compare(small, large, 5) == "better"
    assert compare(small, same, 5) == "same"


def test_two_noisy_videos_tell_no_two_points_apart():
    """Of 100 sweeps of 5 equal points, one time in five where 10 degrees of freedom are pooled."""
    noise = random.Random(4)
    marked = 0
    for _ in range(100):
        points = [
            series(
                prompts([math.exp(noise.gauss(0, 0.2)) for _ in range(2)]), Kind.LATENCY, "lower"
            )
            for _ in range(5)
        ]
        best = min(points, key=lambda m: level(m).value)
        marked += any(compare(one, best, 10) == "worse" for one in points if one is not best)
    assert marked <= 12


def test_equal_points_are_seldom_marked_even_against_the_best():
    """Of 100 sweeps of 5 points that differ by chance; 5 are allowed for, 12 are 3 sd more."""
    noise = random.Random(3)
    marked = 0
    for _ in range(100):
        points = [series(prompts([noise.gauss(0, 1) for _ in range(10)])) for _ in range(5)]
        best = max(points, key=lambda m: level(m).value)
        marked += any(compare(one, best, 10) == "worse" for one in points if one is not best)
    assert marked <= 12


# ------------------------------------------------------------------------- fronts and advice

AXES = {"score": "higher", "latency": "lower", "memory": "lower"}
values = st.integers(0, 3).map(float)
points = st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(AXES, values)), max_size=8)


def beats(one: dict[str, float], other: dict[str, float]) -> bool:
    gains = [
        (one[name] - other[name]) * (1 if better == "higher" else -1)
        for name, better in AXES.items()
    ]
    return min(gains) >= 0 and max(gains) > 0


@settings(max_examples=60, deadline=None)
@given(points)
def test_a_front_is_what_no_other_beats(found):
    on = front(found, AXES)
    whole = [i for i, one in enumerate(found) if one.keys() == AXES.keys()]
    assert {*on} == {i for i in whole if not any(beats(found[j], found[i]) for j in whole)}
    assert all(any(beats(found[j], found[i]) for j in on) for i in {*whole} - {*on})


def test_memory_that_differs_by_the_slack_keeps_nobody_on_the_front():
    good = {"score": 2.0, "latency": 1.0, "memory": 10.0}
    found = [good, {"score": 1.0, "latency": 2.0, "memory": 9.0}]
    assert front(found, AXES) == [0, 1]
    assert front(found, AXES, {"memory": 1.0}) == [0]
    assert front([good, good], AXES, {"memory": 1.0}) == [0, 1]


def candidate(score: float, latency: float | None, half: float = 0.01, passed: bool = True):
    levels = {"score": Level(score, (score - half, score + half), 8)}
    if latency is not None:
        levels["latency"] = Level(latency, (0.95 * latency, 1.05 * latency), 8)
    return Candidate(levels, passed)


LIMITS = parse("score>=0.9,latency<=2s")


def test_the_cheapest_point_that_certainly_keeps_the_limits_is_recommended():
    found = [
        candidate(0.99, 1.8),
        candidate(0.95, 1.0),
        candidate(0.905, 0.5),  # its interval reaches below
        candidate(0.99, 0.4, passed=False),
        candidate(0.99, 1.95),  # its interval reaches above
        candidate(0.99, None),
    ]
    advice = recommend(found, LIMITS)
    assert (advice.point, advice.cost) == (1, "latency")
    assert advice.why == "the least latency of 2 that certainly keep score>=0.9, latency<=2s"


def test_where_none_keeps_them_it_says_which_are_kept():
    advice = recommend([candidate(0.5, 1.0), candidate(0.99, 3.0, passed=False)], LIMITS)
    assert advice.point is None
    assert advice.why == (
        "of 2 points none certainly keeps all: score>=0.9 by 1, latency<=2s by 1; "
        "the tests of 1 failed"
    )
    blind = Candidate({"score": Level(1.0, None, 3), "latency": Level(1.0, (0.9, 1.1), 3)})
    assert recommend([blind], LIMITS).point is None
    assert "let the test touch latency" in recommend([candidate(1.0, None)], LIMITS).why
