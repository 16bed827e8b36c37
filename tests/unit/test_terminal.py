"""The summary at the end of a run, of results that need no run."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_vdb.report import rows, terminal
from pytest_vdb.report.ranked import ranked, rows_of


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("worse by more than the tolerance", "Worse by more than the tolerance."),
        ("not reached: OSError: gone", "Not reached: OSError: gone."),
        ("not reached: X: did you mean 'y'?", "Not reached: X: did you mean 'y'?"),
        ("shapes_color: 'x' is no scene", "shapes_color: 'x' is no scene."),
        ("sharpness, of all", "sharpness, of all."),
        ("clip: no weights", "clip: no weights."),
        ("", "."),
    ],
    ids=["words", "not reached", "question", "name", "measurement", "plain name", "nothing"],
)
def test_a_sentence_begins_as_its_reason_does_where_that_is_a_name(
    measured: Any, reason: str, told: str
) -> None:
    said = rows.sentence(*rows.parsed(measured("sharpness", "UNMEASURED", reason=reason)))
    assert said.endswith(f", n 8. {told}")


@pytest.mark.parametrize("width", [20, 50, 60, 80])
def test_no_width_cuts_a_number_or_a_verdict(tested: Any, measured: Any, width: int) -> None:
    wide = {"effect": 1.052, "interval": (1.001, 1.102), "baseline": 2.0**31}
    entries = [
        measured("memory.peak", "REGRESSION", **wide) | {"unit": "B"},
        measured("a_metric_of_a_name_that_is_long", "NOT_APPLICABLE") | {"samples": []},
    ]
    found = [
        (one.test, one.measurement, one.verdict)
        for one in rows_of(tested("a::t", "failed", *entries))
    ]
    header, _, one, other = terminal._table(found, width, colour=False).splitlines()
    assert " ".join(one.split()).endswith("0 B 2 GiB +105.2% [+100.1, +110.2] REGRESSION")
    assert other.split()[-4:] == ["–", "–", "–", "NOT_APPLICABLE"]
    assert header.split()[2:] == ["value", "baseline", "change", "[95%]", "verdict"]
    assert len(other) <= max(width, 75)


def test_a_change_that_many_tests_saw_is_told_once(tested: Any, measured: Any) -> None:
    worse = {"consequence": "fail", "effect": -0.1}
    tests = [
        tested(f"a::t{i}", "failed", measured("m", "REGRESSION", **worse, interval=(-0.2, -0.1)))
        for i in range(6)
    ]
    for test in tests:
        test["workload"]["hash"] = "same"
    tests += [tested("a::n", "failed", measured("n", "REGRESSION", **worse | {"effect": -0.05}))]
    first, alone, second, *_ = terminal._failing(ranked(tests), [])
    assert first.startswith("REGRESSION m: ")
    assert first.endswith(". In 5 more tests too.")
    assert alone == "  pytest a::t0"
    assert second.startswith("REGRESSION n: ")
    assert "more test" not in second


@pytest.mark.parametrize(
    ("outcome", "consequence", "told"),
    [("passed", "warn", 1), ("failed", "warn", 1), ("failed", "fail", 0), ("skipped", "warn", 0)],
    ids=["passed", "failed by another", "failed by it", "expected to fail"],
)
def test_what_is_undecided_is_explained_once(
    tested: Any, measured: Any, outcome: str, consequence: str, told: int
) -> None:
    entry = measured("m", "INCONCLUSIVE", consequence=consequence, reason="8 prompts cannot tell")
    notes = terminal._notes(rows_of(tested("a::t", outcome, entry)))
    assert [note.endswith("8 prompts cannot tell.") for note in notes] == [True] * told


@pytest.mark.parametrize(
    ("outcome", "samples", "ran"),
    [
        ("passed", [1], True),
        ("skipped", [1], True),
        ("failed", [0], False),
        ("failed", [0, 1], True),
        ("passed", [], True),
        ("failed", [], True),
        ("skipped", [], False),
    ],
    ids=["value", "xfail", "lost", "one lost", "looked", "looked and failed", "skipped"],
)
def test_videos_are_counted_where_they_were_made(
    tested: Any, measured: Any, outcome: str, samples: list[int], ran: bool
) -> None:
    entry = measured("m", "NO_BASELINE")
    test = tested("a::t", outcome, *(entry | {"samples": entry["samples"][:n]} for n in samples))
    assert terminal._ran(test) is ran
