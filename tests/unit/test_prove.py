"""--vdb-prove: which comparisons decide a test, and who notices what in a suite"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_vdb.comparison import Trace
from pytest_vdb.records import Kind, Measurement, Missing, Value
from pytest_vdb.statistic import Series
from pytest_vdb.trial.asserted import NUMBER, OUTSIDE, UNDECIDED, asserted, shown
from pytest_vdb.trial.prove import _worse, by_model, shortfalls


def measured(*values: float, name: str = "sharpness", direction: str = "higher") -> Measurement:
    data = tuple(Value(f"p{i}", 0, value) for i, value in enumerate(values))
    return Measurement(name, "1", direction, Kind.SCORE, "mean", data)


def traced(tmp_path: Path, body: str) -> Trace:
    """Run ``body`` on the traced series ``s`` (1, 2, 3: mean 2) and ``t`` (5, 5, 5)."""
    trace = Trace()
    names: dict[str, Any] = {
        "s": Series(measured(1, 2, 3), trace=trace),
        "t": Series(measured(5, 5, 5, name="motion"), trace=trace),
        "limit": 1.5,
    }
    path = tmp_path / "body.py"
    path.write_text(body)
    exec(compile(body, str(path), "exec"), names)
    return trace


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        ("assert s > 1", ["sharpness.mean > 1"]),
        ("assert s.min < limit", ["sharpness.min < 1.5"]),
        ("assert 1 < s < 3", ["sharpness.mean > 1", "sharpness.mean < 3"]),
        ("assert s > 1 and t.max == 5", ["sharpness.mean > 1", "motion.max == 5"]),
        ("assert not s.max > 4", ["sharpness.max > 4"]),
        ("assert s < t.min", ["sharpness.mean < motion.min"]),
        ("for one in (s, t):\n    assert one > 1", ["sharpness.mean > 1", "motion.mean > 1"]),
        ("for _ in range(3):\n    assert s > 1", ["sharpness.mean > 1"]),
        ("assert all(x > 1 for x in (s, t))", ["sharpness.mean > 1", "motion.mean > 1"]),
        ("def at_least(x):\n    assert x > 1\nat_least(s)", ["sharpness.mean > 1"]),
        ("assert (\n    s.mean\n    > 1\n)", ["sharpness.mean > 1"]),
    ],
)
def test_an_assert_needs_its_comparisons(tmp_path: Path, body: str, rows: list[str]) -> None:
    found, loose = asserted(traced(tmp_path, body))
    assert [str(row.comparison) for row in found] == rows
    assert loose == []


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("assert s > 1 or t > 9", UNDECIDED),
        ("assert any(x > 4 for x in (s, t))", UNDECIDED),
        ("assert sum(x > 1 for x in (s, t)) >= 1", UNDECIDED),
        ("assert not 4 < s < 9", UNDECIDED),
        ("ok = s > 1\nassert ok", OUTSIDE),
        ("if s > 9:\n    raise ValueError", OUTSIDE),
        ("assert float(s) > 1", NUMBER),
        ("assert abs(s - 2) < 1", NUMBER),
        ("assert s.values[0] == 1", NUMBER),
        ("assert s.mean", NUMBER),
    ],
)
def test_what_cannot_be_traced_says_why(tmp_path: Path, body: str, why: str) -> None:
    found, loose = asserted(traced(tmp_path, body))
    assert found == []
    assert {reason for _, _, reason in loose} == {why}
    assert all(text and text in body for _, text, _ in loose)


def test_a_row_has_the_words_and_the_line_of_its_assert(tmp_path: Path) -> None:
    found, _ = asserted(traced(tmp_path, "\nassert (\n    s.mean >\n    limit\n)"))
    assert [(row.line, row.text) for row in found] == [(2, "s.mean > limit")]
    assert shown(found[0].comparison.place.file, tmp_path) == "body.py"
    assert shown("/elsewhere/body.py", tmp_path) == "/elsewhere/body.py"


def test_a_comparison_is_made_again_with_other_values(tmp_path: Path) -> None:
    trace = traced(tmp_path, "s > 1.5; s.min < t; s == 2")
    mean, sides, exact = trace.comparisons
    assert mean.held
    assert mean.holds({}) is True
    assert mean.holds({"sharpness": measured(1, 1, 1)}) is False
    assert mean.holds({"motion": measured(0, name="motion")}) is True
    assert sides.holds({"motion": measured(0, name="motion")}) is False
    assert exact.holds({"sharpness": measured(2.1)}) is False
    gone = replace(measured(), missing=Missing.UNMEASURED, reason="lost")
    assert mean.holds({"sharpness": gone}) is None
    assert mean.value({"sharpness": gone}) is None
    assert (mean.value({}), mean.value({"sharpness": measured(4)})) == (2, 4)
    assert len(trace.comparisons) == 3  # looking leaves no trace


def test_nothing_is_recorded_without_a_trace_or_by_printing(tmp_path: Path) -> None:
    plain = Series(measured(1.0))
    assert plain > 0
    assert plain.trace is None
    assert plain.median.trace is None
    trace = traced(tmp_path, "repr(s); f'{s:.1f} {s.max:.1f}'; repr(s.min)")
    assert trace.comparisons == trace.untraced == []


def test_worse_follows_the_direction() -> None:
    assert _worse(measured(4, direction="lower"), 2).numbers == [8]
    assert _worse(measured(4, direction="higher"), 2).numbers == [2]


def entry(model: str = "m", line: int = 1, kills: tuple[str, ...] = (), **noticed: bool) -> Any:
    faults = [
        {"name": name, "detail": "", "noticed": seen, "seen_by": []}
        for name, seen in noticed.items()
    ]
    row = {"file": "t.py", "line": line, "comparison": "s > 1", "kills": list(kills), "note": ""}
    return {"model": {"name": model}, "prove": {"faults": faults, "assertions": [row]}}


def test_the_tests_of_a_model_notice_together() -> None:
    tests = [
        entry(black=True, blur=False, noise=False),
        entry(line=1, kills=("blur",), blur=True),
        entry(line=2, noise=False),
        entry("other", black=False),
        {"model": None},
        {"model": {"name": "skipped"}, "prove": {"skipped": "the test did not pass"}},
    ]
    found = by_model(tests)
    mine = found["m"]
    assert (mine["noticed"], mine["faults"]) == (2, 3)
    assert [fault["name"] for fault in mine["survivors"]] == ["noise"]
    assert mine["never_fail"] == ["t.py:2 s > 1"]
    assert found["other"]["score"] == 0
    assert found["skipped"]["score"] is None


def test_too_few_noticed_is_said_with_the_survivors() -> None:
    models = by_model([entry(black=True, blur=False)])
    assert shortfalls(models, 0.5) == []
    (words,) = shortfalls(models, 0.9)
    assert "the tests of m notice 1 of 2 faults (0.50); nothing notices: blur" in words
    assert "no test was proven" in shortfalls({}, 0.5)[0]
    nothing = by_model([{"model": {"name": "m"}, "prove": {"skipped": "no"}}])
    assert "no fault could be tried on m" in shortfalls(nothing, 0.5)[0]
