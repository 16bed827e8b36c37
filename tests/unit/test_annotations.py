"""Annotations of a GitHub job: which, where, and that foreign text adds no command of its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pytest_vdb.report.annotations import LONGEST, MOST, Annotation, annotate
from pytest_vdb.report.github import run_url

ROOT = Path("/repo")
FAILS = {"consequence": "fail", "effect": -0.1}
COMMAND = re.compile(r"::(error|warning) ([^:]*)::(.*)")


def test_at_the_line_that_took_the_measurement(tested, measured):
    (one,) = annotate([tested("b/a.py::t", "failed", measured("m", "REGRESSION", **FAILS))], ROOT)
    assert (one.level, one.file, one.line, one.title) == ("error", "b/a.py", 7, "m got worse")
    assert str(one).startswith("::error file=b/a.py,line=7,title=m got worse::REGRESSION m: mean ")


def test_at_the_failed_assertion_or_else_the_test(tested):
    failure = {"text": "assert 1 < 0", "file": "b/helper.py", "line": 12}
    tests = [
        tested("b/a.py::t", "failed", failure=failure),
        tested("b/a.py::u", "error", failure={"text": "worker died", "file": None, "line": None}),
    ]
    assert [(one.file, one.line, one.message) for one in annotate(tests, ROOT)] == [
        ("b/helper.py", 12, "assert 1 < 0"),
        ("b/a.py", 3, "worker died"),
    ]


def test_one_cause_is_annotated_once(lost):
    (one,) = annotate([lost], ROOT)
    assert one.line == 7  # where the measurement was taken
    lost["measurements"][0]["verdict"]["consequence"] = "warn"
    assert [one.line for one in annotate([lost], ROOT)] == [20, 7]


def test_measured_and_not_judged(tested, measured):
    entry = measured("m", "UNMEASURED", consequence="fail")
    (one,) = annotate([tested("a.py::t", "failed", entry)], ROOT)
    assert one.title == "m could not be judged"


def test_files_are_named_as_the_repository_has_them(tested, measured):
    tests = [tested("a.py::t", "failed", measured("m", "REGRESSION", **FAILS))]
    (inside,) = annotate(tests, ROOT / "python", str(ROOT))
    assert inside.file == "python/a.py"
    (outside,) = annotate(tests, Path("/elsewhere"), str(ROOT))
    assert (outside.file, outside.line) == ("", None)
    assert str(outside).startswith("::error title=m got worse::")


def test_what_passes_is_no_annotation(tested, measured):
    tests = [
        tested("a.py::t", "passed", measured("m", "PASS"), measured("n", "NEW")),
        tested("a.py::expected", "skipped", measured("m", "REGRESSION", **FAILS)),
    ]
    assert annotate(tests, ROOT) == []


def test_ten_errors_and_ten_warnings_worst_first(tested, measured):
    tests = [
        *(
            tested(f"a.py::w{i}", "passed", measured("w", "NO_BASELINE", consequence="warn"))
            for i in range(12)
        ),
        *(
            tested(
                f"a.py::t{i}",
                "failed",
                measured(f"m{i}", "REGRESSION", **FAILS | {"effect": -0.1 * i}),
            )
            for i in range(1, 13)
        ),
    ]
    found = annotate(tests, ROOT)
    assert [one.level for one in found] == ["error"] * MOST + ["warning"] * MOST
    assert [one.title for one in found[:2]] == ["m12 got worse", "m11 got worse"]
    assert found[-1].title == "w has no baseline"


def test_trouble_of_the_run_has_no_place():
    (one,) = annotate([], ROOT, trouble=("a % b",))
    assert str(one) == "::error title=vdb::a %25 b"


HOSTILE = st.lists(
    st.sampled_from(["::", "::error::", "\n", "\r\n", "%", "%0A", ",", ":", "=", "\x1b]", "\u2028"])
    | st.text(max_size=5)
).map("".join)


@settings(max_examples=100, deadline=None, database=None)
@given(title=HOSTILE, message=HOSTILE, file=HOSTILE)
@example("a,b:c", "100%\nnext", "x,line=9::y")
def test_foreign_text_stays_in_its_field(title, message, file):
    line = str(Annotation("error", title, message, f"x{file}", 7))
    assert line.splitlines() == [line]  # of any kind of line break
    found = COMMAND.fullmatch(line)
    assert found is not None
    fields = [one.partition("=") for one in found[2].split(",")]
    assert [name for name, _, _ in fields] == ["file", "line", "title"]
    assert fields[1][2] == "7"
    assert all(re.fullmatch("[^%]*(%(25|0A|0D|3A|2C)[^%]*)*", value) for _, _, value in fields)


def test_a_long_message_is_cut():
    assert len(str(Annotation("error", "t", "x" * 10**6))) < LONGEST + 100


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        (
            {"GITHUB_SERVER_URL": "https://g.h", "GITHUB_REPOSITORY": "o/r", "GITHUB_RUN_ID": "7"},
            "https://g.h/o/r/actions/runs/7",
        ),
        ({"CI_JOB_URL": "https://gitlab/1"}, "https://gitlab/1"),
        ({"BUILD_URL": "https://jenkins/1"}, "https://jenkins/1"),
        ({}, ""),
    ],
)
def test_the_page_of_the_job(environment, url):
    assert run_url(environment) == url
