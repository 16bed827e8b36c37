"""--vdb-latex: what the tables say, and that no text is a command, as a real TeX reads them."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_vdb.records import Kind
from pytest_vdb.report import latex, tex
from pytest_vdb.report.ranked import rows_of
from pytest_vdb.report.writers import WRITERS, Context
from pytest_vdb.sweeps.table import sweeps

TEX = os.environ.get("VDB_TEX") or shutil.which("pdflatex")
HOSTILE = [
    r"\input{/etc/passwd}",
    "^^5cinput",
    "a & b \\\\",
    "%",
    "$x$",
    "}{",
    "[x]",
    "*",
    "é\u2028",
    "--",
]
texts = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=20))


def series(entry, *values, name="p"):
    """``entry`` with these values, each of a prompt of its own."""
    mean = sum(values) / len(values)
    samples = [{"prompt": f"{name}{i}", "seed": 0, "value": v} for i, v in enumerate(values)]
    return entry | {"samples": samples, "statistics": {"mean": mean}}


def line(written, name):
    """The cells of the row of a measurement."""
    (found,) = [line for line in written.splitlines() if line.startswith(name)]
    return [cell.strip() for cell in found.removesuffix(r"\\").split(" & ")]


WORSE = {"effect": -0.1, "interval": (-0.13, -0.07), "baseline": 0.55, "p": 1e-5}


def test_the_change_stands_beside_the_value(ran, tested, measured):
    row = series(measured("clip", "REGRESSION", **WORSE), 0.5)
    written = latex.text(ran(1, tested("b.py::test_a[wan]", "failed", row)))
    assert line(written, "clip") == [
        r"clip $\uparrow$",
        r"0.5000$^{\dagger}$",
        r"$-$10.0\,\% [$-$13.0, $-$7.0]",
    ]
    assert r"$^{\dagger}$~worse than its baseline by more than the tolerance" in written
    assert written.count(r"\begin{tabular}") == 1
    assert "wan" in written


@pytest.mark.parametrize(
    ("state", "verdict", "mark"),
    [
        ("REGRESSION", WORSE, latex.WORSE),
        ("REGRESSION", WORSE | {"reason": "slower (unconfirmed)"}, latex.LIKELY),
        ("REGRESSION", WORSE | {"p": None}, latex.THESE),
        ("IMPROVEMENT", WORSE | {"effect": 0.1}, latex.BETTER),
        ("INCONCLUSIVE", WORSE, latex.UNDECIDED),
        ("ACCEPTED", WORSE, latex.ACCEPTED),
        ("PASS", WORSE, None),
        ("NEW", {}, None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_marks_are_the_gates_own(tested, measured, state, verdict, mark):
    (row,) = rows_of(tested("a.py::t", "passed", measured("clip", state, **verdict)))
    assert latex.mark_of(row) == mark


def test_memory_that_rose_is_no_matter_of_chance(tested, measured):
    entry = measured("memory.peak", "REGRESSION", effect=0.3) | {"kind": "memory"}
    (row,) = rows_of(tested("a.py::t", "failed", entry))
    assert latex.mark_of(row) == latex.WORSE


def test_the_best_model_of_a_row_is_bold(ran, tested, measured):
    tests = []
    for model, clip, latency in (("a", 0.3, 2.0), ("b", 0.5, 1.0), ("c", 0.5, 3.0)):
        speed = series(measured("latency", "NEW"), latency) | {"direction": "lower", "unit": "s"}
        distance = series(measured("ssim", "NEW"), clip) | {"kind": Kind.DISTANCE.value}
        rows = series(measured("clip", "NEW"), clip), speed, distance
        tests.append(tested(f"x.py::test_a[{model}]", "passed", *rows))
    written = latex.text(ran(0, *tests))
    assert line(written, "clip")[1:] == ["0.3000", r"\textbf{0.5000}", r"\textbf{0.5000}"]
    assert line(written, "latency (s)")[1:] == ["2.000", r"\textbf{1.000}", "3.000"]
    assert line(written, "ssim")[1:] == ["0.3000", "0.5000", "0.5000"]  # each to its own baseline
    assert "change" not in written  # there is nothing to compare with

    assert r"\textbf" not in latex.text(ran(0, *tests[1:])).partition("latency")[0]  # equal
    tests[1]["workload"]["prompts"] = [{"id": "p1", "text": "another prompt"}]
    assert r"\textbf" not in latex.text(ran(0, *tests))


def test_many_models_are_several_tables(ran, tested, measured):
    tests = [
        tested(f"x.py::t[{model}]", "passed", measured("clip", "PASS", effect=0.01))
        for model in "abcde"
    ]
    written = latex.text(ran(0, *tests))
    assert written.count(r"\begin{tabular}") == written.count(r"\end{tabular}") == 3


def test_what_two_tests_take_of_the_same_videos_is_one_row(ran, tested, measured):
    first = tested("x.py::test_a[m]", "passed", measured("clip", "NEW"))
    again = tested("x.py::test_b[m]", "passed", measured("clip", "NEW"), measured("fvd", "NEW"))
    again["workload"] = first["workload"]
    written = latex.text(ran(0, first, again))
    assert len(line(written, "clip")) == 2
    assert r"\emph{test\_a}" in written
    assert r"\emph{test\_b}" in written


def test_lost_is_a_dash_and_what_cannot_be_has_no_row(ran, tested, measured):
    gone = {"samples": [], "statistics": {}}
    lost, never = measured("fvd", "UNMEASURED") | gone, measured("energy", "NOT_APPLICABLE") | gone
    written = latex.text(ran(1, tested("x.py::t[m]", "failed", lost, never)))
    assert line(written, "fvd")[1] == "--"
    assert "energy" not in written


def test_nothing_measured_is_a_comment(ran):
    written = latex.text(ran(0))
    assert all(line.startswith("%") for line in written.splitlines())


def test_an_interval_is_of_prompts_and_not_of_seeds(tested, measured):
    entry = series(measured("clip", "NEW"), *range(8))
    twice = entry | {"samples": [{**one, "seed": s} for one in entry["samples"] for s in (0, 1)]}
    halves = [
        latex.spread(rows_of(tested("a.py::t", "passed", one))[0].measurement)
        for one in (entry, twice, series(entry, 1, 2, 3))
    ]
    # t(7) at 97.5 % is 2.36462 (tables of Student's t); the sd of 0..7 is sqrt(6)
    assert halves[:2] == [pytest.approx(2.36462 * math.sqrt(6 / 8), rel=1e-5)] * 2
    assert halves[2] is None  # three prompts speak for themselves alone


@pytest.mark.parametrize(
    ("values", "cell"),
    [
        ([0.1 + 0.2] * 4 + [0.3] * 4, "0.3000"),  # equal but for the last bit
        ([0.25] * 8, "0.2500"),
        ([0.5, 0.6] * 4, r"0.5500 $\pm$ 0.0447"),
        ([1e-9, 3e-9] * 4, r"2.00$\times$10$^{-9}$ $\pm$ 8.94$\times$10$^{-10}$"),
    ],
    ids=["float noise", "equal", "spread", "tiny"],
)
def test_an_interval_that_changes_no_decimal_is_left_out(ran, tested, measured, values, cell):
    row = series(measured("clip", "NEW"), *values)
    written = latex.text(ran(0, tested("x.py::t[m]", "passed", row)))
    assert line(written, "clip")[1] == cell
    assert (r"$\pm$: 95" in written) == ("pm" in cell)


@pytest.mark.parametrize(
    ("value", "unit", "cells"),
    [
        (0.0421, "s", ["clip (ms)", "42.10"]),
        (3 * 2**30, "B", ["clip (GiB)", "3.000"]),
        (12.345, "dB", ["clip (dB)", "12.35"]),
        (73.85, "levels^2", ["clip (levels$^{2}$)", "73.85"]),
        (0.0, "1", ["clip", "0"]),
        (-0.25, "1", ["clip", "$-$0.2500"]),
        (1.5e-9, "1", ["clip", r"1.50$\times$10$^{-9}$"]),
    ],
)
def test_numbers_as_people_read_them(ran, tested, measured, value, unit, cells):
    entry = series(measured("clip", "NEW"), value) | {"unit": unit}
    found = line(latex.text(ran(0, tested("x.py::t[m]", "passed", entry))), "clip")
    assert [found[0].removesuffix(r" $\uparrow$"), found[1]] == cells


# One token of what `tex.text` may write: letters, digits and spaces, a character that stands for
# itself behind a backslash or in braces, or a command without arguments.
INERT = re.compile(r"(?:[A-Za-z0-9 ]|\\[%$#&_{}]|\{[-!\"'()*+,./:;=?@\[\]]\}|\\text[a-z]+\{\})*")


@settings(max_examples=60, deadline=None)
@given(texts)
def test_no_text_is_a_command(foreign):
    assert INERT.fullmatch(tex.text(foreign))


def swept(tested, measured, factor, place):
    """A test at one point of a sweep: of 8 prompts, both the score and the time rise."""
    kind = {"unit": "s", "direction": "lower", "kind": "latency", "headline": "median"}
    score = series(measured("clip", "NOT_APPLICABLE"), *(place + 0.01 * i for i in range(8)))
    time = series(measured("latency", "NOT_APPLICABLE"), *[2.0**place] * 8) | kind
    point = f"{factor}={place}"
    said = {"id": point, "setting": {factor: place}, "factors": [factor], "place": place}
    said |= {"mode": "grid", "explores": True, "alike": "same"}
    test = tested(f"b.py::test[{point}]", "passed", score, time)
    return test | {"sweep": said}


def sweep_of(ran, tested, measured, factor="steps"):
    tests = [swept(tested, measured, factor, place) for place in range(3)]
    return ran(0, *tests, sweeps=sweeps(tests, "clip>=0.5,latency<=3s"))


def test_a_sweep_is_a_table_of_its_points(ran, tested, measured):
    written = latex.text(sweep_of(ran, tested, measured))
    assert written.count(r"\begin{tabular}") == 1
    head, *_ = (line for line in written.splitlines() if line.startswith("tiny"))
    assert head == r"tiny & clip $\uparrow$ & latency (s) $\downarrow$ \\"
    first = line(written, "steps{=}0")
    assert first[0] == r"steps{=}0$^{\star}$"
    assert first[1].startswith("0.035 [0.015, 0.055]$^{-}$")
    assert first[2].startswith(r"\textbf{1.000} [")
    chosen = line(written, r"$\triangleright$ steps{=}1")
    assert chosen[2].endswith("$^{-}$")
    assert line(written, "steps{=}2")[1].startswith(r"\textbf{2.035}")
    assert "beaten by none in clip, latency" in written
    assert "recommended for clip\\textgreater{}{=}0{.}5" in written


def test_values_that_read_alike_have_no_best(ran, tested, measured):
    run = sweep_of(ran, tested, measured)
    for place, point in enumerate(run["sweeps"][0]["points"]):
        point["levels"]["clip"] |= {"value": 0.5 + 1e-9 * place, "interval": None}
    assert line(latex.text(run), "steps{=}2")[1].startswith("0.5000")


@settings(max_examples=15, deadline=None)
@given(nodeid=texts, name=texts, unit=texts, reason=texts)
def test_every_row_keeps_its_cells(ran, tested, measured, nodeid, name, unit, reason):
    entry = measured(name, "REGRESSION", reason=reason, effect=0.1) | {"unit": unit}
    written = latex.text(ran(1, tested(nodeid, "failed", entry, measured("clip", "PASS"))))
    rows = [row for row in written.splitlines() if row.endswith(r"\\") and " & " in row]
    assert {row.count(" & ") for row in rows if "multicolumn" not in row} == {2}
    assert not any(line.startswith("%") for line in written.splitlines()[2:])


PAGE = r"""\documentclass{article}
\usepackage[margin=1cm]{geometry}
\usepackage{booktabs}
\begin{document}
\raggedright\input{run}
\end{document}
"""


@pytest.mark.skipif(TEX is None, reason="no TeX: apt-get install texlive-latex-recommended")
def test_a_tex_compiles_every_table(ran, tested, measured, tmp_path):
    states = ("REGRESSION", "IMPROVEMENT", "INCONCLUSIVE", "ACCEPTED", "PASS")
    tests = []
    for model in ("wan", "ltx-2_large", *HOSTILE):
        rows = [
            series(measured(f"{state}_{name}", state, **WORSE), *range(8))
            for state, name in zip(states, HOSTILE, strict=False)
        ]
        lost = measured("*fvd*", "UNMEASURED") | {"samples": [], "statistics": {}}
        tests += [tested(f"x.py::test[{model}]", "passed", *rows, lost)]
        tests += [tested(f"{model}.py::other[{model}]", "passed", *rows)]
    swept = [latex.text(sweep_of(ran, tested, measured, factor)) for factor in ("a_b", *HOSTILE)]
    page = "\n".join([latex.text(ran(0, *tests)), *swept])
    (tmp_path / "run.tex").write_text(page, encoding="utf-8")
    (tmp_path / "page.tex").write_text(PAGE)
    command = [TEX, "-halt-on-error", "-interaction=nonstopmode", "-no-shell-escape", "page"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "page.pdf").stat().st_size > 10_000


def test_a_file_of_it_is_known_again(ran, tmp_path):
    latex.write(ran(0), tmp_path / "a.tex", Context(Path("/repo")))
    assert (tmp_path / "a.tex").read_text().startswith(WRITERS["latex"].begins)
