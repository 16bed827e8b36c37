"""``--vdb-latex``: the run as tables for a paper, by booktabs.

A row is a measurement, a column a model; the change against its baseline stands beside each value
with the gate's own 95 % interval, and its marks are the gate's own verdicts. The file is for
``\\input``: it has ``tabular`` environments alone, and needs the package booktabs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vdb.baseline.store import write_atomically
from pytest_vdb.records import Json, Kind, Measurement, State
from pytest_vdb.report import latex_sweeps, tex
from pytest_vdb.report.ranked import Ranked, rows_of
from pytest_vdb.statistic import summarize

if TYPE_CHECKING:
    from pytest_vdb.report.writers import Context

HEAD = """% pytest-vdb 1
% \\usepackage{booktabs} in the preamble, \\input of this file in a table.
"""
WIDTH = 2
"""Models side by side, where changes are shown; twice as many without."""

PROMPTS = 8
"""Fewest prompts that speak for others (`pytest_vdb.gate.rules.paired`)."""


@dataclass(frozen=True)
class Mark:
    """A sign behind a value, and what it says."""

    sign: str
    says: str


WORSE = Mark(r"\dagger", "worse than its baseline by more than the tolerance, beyond chance")
BETTER = Mark(r"\ast", "better than its baseline, beyond chance")
LIKELY = Mark(r"\ddagger", "likely worse than its baseline; not confirmed side by side")
THESE = Mark(r"\S", "beyond the tolerance for these prompts, which are too few to speak for others")
ACCEPTED = Mark(r"\diamond", "worse than its baseline, and accepted in a review")
UNDECIDED = Mark("?", "not told from chance")
MARKS = (WORSE, BETTER, LIKELY, THESE, ACCEPTED, UNDECIDED)


@dataclass(frozen=True)
class Row:
    """One measurement of one test, by the column (model and other parameters) it was taken in."""

    test: str
    name: str
    cells: Mapping[str, Ranked]

    @property
    def first(self) -> Measurement:
        return next(iter(self.cells.values())).measurement


def write(run: dict[str, Json], target: Path, context: Context) -> None:
    """Raises BaselineWriteError where ``target`` cannot be written."""
    write_atomically(target, text(run))


def text(run: Mapping[str, Json]) -> str:
    """The tables of a run (docs/json.md), as many as its models need in width, and its sweeps'."""
    alone = [test for test in run["tests"] if not _explores(test)]
    said = [of for of in (_tables(_rows(alone)), *latex_sweeps.tables(run)) if of]
    return HEAD + ("\n\\bigskip\n".join(said) or "% Nothing was measured.\n")


def _explores(test: Mapping[str, Json]) -> bool:
    """Whether it is a point of a sweep that is held to no baseline, which has its own table."""
    return bool((test.get("sweep") or {}).get("explores"))


def _tables(rows: Sequence[Row]) -> str:
    columns = [*dict.fromkeys(column for row in rows for column in row.cells)]
    changes = any(one.verdict.effect is not None for row in rows for one in row.cells.values())
    width = WIDTH if changes else 2 * WIDTH
    parts = [columns[start : start + width] for start in range(0, len(columns), width)]
    best = {(row.test, row.name): _best(row) for row in rows}
    tables = "\n\\bigskip\n".join(
        _table([row for row in rows if {*part} & {*row.cells}], part, best, changes=changes)
        for part in parts
    )
    return tables + _legend(rows, best, changes=changes, spreads=r"$\pm$" in tables)


def _rows(tests: Sequence[Mapping[str, Json]]) -> list[Row]:
    """Every measurement once: what a second test takes of the same videos is no second row."""
    cells: dict[tuple[str, str], dict[str, Ranked]] = {}
    shown: set[tuple[Json, ...]] = set()
    for test in tests:
        place, column = _apart(test)
        for one in rows_of(test):
            name = one.measurement.name
            videos = column, (test["workload"] or {}).get("hash"), name
            if videos not in shown:
                shown.add(videos)
                cells.setdefault((place, name), {})[column] = one
    rows = [Row(place, name, of) for (place, name), of in cells.items()]
    return [row for row in rows if any(map(_applies, row.cells.values()))]


def _applies(one: Ranked) -> bool:
    return bool(one.measurement.values) or one.verdict.state is not State.NOT_APPLICABLE


def _apart(test: Mapping[str, Json]) -> tuple[str, str]:
    """A test and its parameters, the model first: ``a.py::test`` and ``wan-3``."""
    nodeid = str(test["nodeid"])
    match = re.fullmatch(r"(.*?)\[(.*)\]", nodeid, re.DOTALL)
    if match:
        return match[1], match[2]
    return nodeid, str((test["model"] or {}).get("name", ""))


# ------------------------------------------------------------------------- one table


def _table(
    rows: Sequence[Row],
    columns: Sequence[str],
    best: Mapping[tuple[str, str], Iterable[str]],
    *,
    changes: bool,
) -> str:
    each = 2 if changes else 1
    count = 1 + each * len(columns)
    lines = [*_head(columns, each), r"\midrule"]
    tests = [*dict.fromkeys(row.test for row in rows)]
    for test in tests:
        if len(tests) > 1:
            lines += [r"\addlinespace"] * (test != tests[0])
            name = tex.text(_short(test, tests))
            lines.append(rf"\multicolumn{{{count}}}{{@{{}}l@{{}}}}{{\emph{{{name}}}}} \\")
        for row in rows:
            if row.test == test:
                lines.append(_line(row, columns, best[row.test, row.name], changes=changes))
    return tex.tabular(count, lines)


def _short(test: str, tests: Sequence[str]) -> str:
    """Without its file, where that is enough to tell it from the others."""
    name = test.partition("::")[2]
    alike = [other for other in tests if other.partition("::")[2] == name]
    return name if name and len(alike) == 1 else test


def _head(columns: Sequence[str], each: int) -> list[str]:
    names = [tex.text(column) for column in columns]
    if each == 1:
        return [tex.row(["", *names])]
    wide = [rf"\multicolumn{{{each}}}{{c}}{{{name}}}" for name in names]
    rules = [rf"\cmidrule(lr){{{2 + 2 * i}-{3 + 2 * i}}}" for i in range(len(names))]
    second = ["", *("value", r"change [95\,\%]") * len(names)]
    return [tex.row(["", *wide]), "".join(rules), tex.row(second)]


def _line(row: Row, columns: Sequence[str], best: Iterable[str], *, changes: bool) -> str:
    largest = _largest(row)
    scale, unit = tex.scale(largest, row.first.unit)
    decimals = tex.places(largest / scale, 4)
    cells = [tex.measurement(row.name, unit, row.first.direction)]
    for column in columns:
        one = row.cells.get(column)
        cells.append(_value(one, scale, decimals, bold=column in best))
        if changes:
            cells.append(_change(one, scale))
    return tex.row(cells)


def _value(one: Ranked | None, scale: float, decimals: int, *, bold: bool) -> str:
    if one is None or not one.measurement.values:
        return "--"
    value = _headline(one) / scale
    number = tex.number(value, decimals)
    number = rf"\textbf{{{number}}}" if bold else number
    half = (spread(one.measurement) or 0.0) / scale
    # What changes no decimal of the value is as good as none, and may be float noise.
    shown = half and (half >= 0.5 * 10**-decimals or abs(value) < 0.5 * 10**-decimals)
    around = rf" $\pm$ {tex.number(half, decimals)}" if shown else ""
    mark = mark_of(one)
    return number + around + (f"$^{{{mark.sign}}}$" if mark else "")


def _change(one: Ranked | None, scale: float) -> str:
    """The effect with its interval, as the verdict has them."""
    if one is None or one.verdict.effect is None:
        return "--"
    if one.verdict.state is State.IDENTICAL:
        return "identical"
    effect, percent = one.verdict.effect, one.verdict.relative
    factor = 100 if percent else 1 / scale
    ends = [effect, *(one.verdict.interval or ())]
    decimals = 1 if percent else tex.places(max(abs(end * factor) for end in ends), 3)
    told, *interval = (tex.number(end * factor, decimals, sign=True) for end in ends)
    told += r"\,\%" if percent else ""
    return f"{told} [{', '.join(interval)}]" if interval else told


def mark_of(one: Ranked) -> Mark | None:
    """The sign of what the gate decided, and none for what it did not."""
    state, verdict = one.verdict.state, one.verdict
    if state is State.REGRESSION and "unconfirmed" in verdict.reason:
        return LIKELY
    if state in (State.REGRESSION, State.IMPROVEMENT):
        if verdict.p is None and one.measurement.kind is not Kind.MEMORY:
            return THESE
        return WORSE if state is State.REGRESSION else BETTER
    return {State.ACCEPTED: ACCEPTED, State.INCONCLUSIVE: UNDECIDED}.get(state)


def spread(m: Measurement) -> float | None:
    """Half of the 95 % interval of a score's mean, by Student's t over the means of its prompts.

    As the gate has it: seeds of a prompt are no replicates, and fewer than eight prompts speak for
    themselves alone. None there, and for what is no mean of scores: how far times spread from run
    to run cannot be seen in one.
    """
    if m.kind is not Kind.SCORE or m.headline != "mean":
        return None
    prompts: dict[str, list[float]] = {}
    for value in m.values:
        prompts.setdefault(value.prompt, []).append(value.value)
    n = len(prompts)
    if n < PROMPTS:
        return None
    from scipy.special import stdtrit

    means = [sum(of) / len(of) for of in prompts.values()]
    middle = sum(means) / n
    variance = sum((mean - middle) ** 2 for mean in means) / (n - 1)
    return float(stdtrit(n - 1, 0.975)) * math.sqrt(variance / n)


# ------------------------------------------------------------------------- the best of a row


def _best(row: Row) -> set[str]:
    """Columns with the best value, where at least two were measured on the same prompts and seeds.

    A distance is one to a model's own baseline, which says nothing between models.
    """
    found = {column: one for column, one in row.cells.items() if one.measurement.values}
    alike = {_asked(one.test) for one in found.values()}
    if len(found) < 2 or len(alike) > 1 or row.first.kind is Kind.DISTANCE:
        return set()
    pick = max if row.first.direction == "higher" else min
    values = {column: _headline(one) for column, one in found.items()}
    best = pick(values.values())
    alone = {column for column, value in values.items() if value == best}
    return alone if len(alone) < len(found) else set()


def _asked(test: Mapping[str, Json]) -> tuple[Json, ...]:
    workload = test["workload"] or {}
    prompts = tuple((prompt["id"], prompt["text"]) for prompt in workload.get("prompts", ()))
    return prompts, tuple(workload.get("seeds", ()))


# ------------------------------------------------------------------------- numbers


def _headline(one: Ranked) -> float:
    return summarize(one.measurement)[one.measurement.headline]


def _largest(row: Row) -> float:
    measured = [one for one in row.cells.values() if one.measurement.values]
    return max((abs(_headline(one)) for one in measured), default=0.0)


def _legend(
    rows: Sequence[Row], best: Mapping[tuple[str, str], set[str]], *, changes: bool, spreads: bool
) -> str:
    """What the signs of these tables say."""
    cells = [one for row in rows for one in row.cells.values()]
    found = {mark_of(one) for one in cells}
    said = [f"$^{{{mark.sign}}}$~{mark.says}" for mark in MARKS if mark in found]
    if spreads:
        said.append(r"$\pm$: 95\,\% interval of the mean over prompts (Student's $t$)")
    if changes:
        said.append(r"change: against the stored baseline, with the gate's 95\,\% interval")
    if any(best.values()):
        said.append("bold: best of the row, whether or not that is beyond chance")
    return tex.below(said)
