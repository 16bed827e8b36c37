"""--vdb-csv: a row a measurement, and no cell that a spreadsheet computes."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_vdb.report.csv_table import COLUMNS, text, write
from pytest_vdb.report.writers import WRITERS, Context

FORMULAS = [
    "=1+1",
    "+1",
    "-1+2",
    "@SUM(A1)",
    "  =1",
    "\t=1",
    "\r=1",
    '";=1+1;"',
    "＝1",
    "=cmd|' /c'!A0",
]
texts = st.one_of(st.sampled_from(FORMULAS), st.text(max_size=20))


def rows(run):
    return list(csv.DictReader(io.StringIO(text(run), newline="")))


def test_a_row_has_values_and_verdict(ran, tested, measured):
    worse = measured(
        "clip", "REGRESSION", consequence="fail", effect=-0.1, interval=(-0.13, -0.07), p=1e-5
    )
    run = ran(1, tested("b.py::test_a[wan]", "failed", worse, measured("kept", "PASS")))
    first, second = rows(run)
    assert tuple(first) == COLUMNS
    assert (first["nodeid"], first["model"], first["outcome"]) == (
        *("b.py::test_a[wan]", "tiny", "failed"),
    )
    assert (first["measurement"], float(first["value"]), int(first["n"])) == ("clip", 0.5, 1)
    numbers = [float(first[name]) for name in ("effect", "effect_low", "effect_high", "p")]
    assert numbers == [-0.1, -0.13, -0.07, 1e-5]
    assert (first["state"], first["consequence"], first["relative"]) == (
        *("REGRESSION", "fail", "true"),
    )
    assert first["commit"] == "1a2b3c4"
    assert (second["effect"], second["relative"], second["std"]) == ("", "", "")


def test_what_was_not_measured_has_no_value(ran, tested, measured):
    lost = measured("clip", "UNMEASURED") | {"samples": [], "statistics": {}}
    broken = tested("b.py::t", "error", lost) | {"model": None, "workload": None}
    (row,) = rows(ran(1, broken))
    assert (row["value"], row["n"], row["model"], row["call"]) == ("", "0", "", "")


@settings(max_examples=25, deadline=None)
@given(nodeid=texts, name=texts, reason=texts)
def test_no_text_is_a_formula_or_ends_its_cell(ran, tested, measured, nodeid, name, reason):
    test = tested(nodeid, "passed", measured(name, "PASS", reason=reason))
    test["model"] = {"name": reason}
    run = ran(0, test)
    written = text(run)
    assert len(written.splitlines()) == 2
    (row,) = rows(run)
    assert None not in row
    assert set(row) == {*COLUMNS}
    for column in ("nodeid", "measurement", "model", "reason"):
        assert not row[column].lstrip().startswith(tuple("=+-@＝＋－＠"))
        assert row[column].isprintable()
        # in quotes, also where a locale's separator is another one
        assert f'"{row[column].replace(chr(34), 2 * chr(34))}"' in written


def test_a_file_of_it_is_known_again(ran, tmp_path):
    write(ran(0), tmp_path / "a.csv", Context(Path("/repo")))
    assert (tmp_path / "a.csv").read_text().startswith(WRITERS["csv"].begins)


def test_numbers_are_no_text(ran, tested, measured):
    run = ran(0, tested("a.py::t", "passed", measured("drop", "PASS", effect=-0.25)))
    assert ",-0.25," in text(run)
    assert float(rows(run)[0]["effect"]) == pytest.approx(-0.25)
