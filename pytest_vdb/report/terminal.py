"""The summary at the end of a run: one table, what is wrong in words, and what it cost."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_vdb.records import Json, Kind, Measurement, State, Verdict
from pytest_vdb.report import again, attribution, beside, edits, proof, ranked, reused, rows, sweeps
from pytest_vdb.report.ranked import Ranked
from pytest_vdb.units import plain, show

if TYPE_CHECKING:
    from pytest_vdb.results import Results

STYLES = {
    State.PASS: "green",
    State.IDENTICAL: "green",
    State.IMPROVEMENT: "bold green",
    State.REGRESSION: "bold red",
    State.UNMEASURED: "bold red",
    State.INFRA_ERROR: "bold magenta",
    State.NO_BASELINE: "yellow",
    State.INCONCLUSIVE: "yellow",
    State.NEW: "cyan",
    State.ACCEPTED: "cyan",
    State.NOT_APPLICABLE: "dim",
}


COLUMNS = ("test, measurement", "value", "baseline", "change [95%]", "verdict")
Measured = list[tuple[Mapping[str, Json], Measurement, Verdict]]

MOST = 5
"""Failing measurements that are told in words; all are in the table and in pytest's failures."""


def write(reporter: Any, results: Results) -> None:
    """Write the summary through pytest's own reporter, at its width and with its colours."""
    found, once = _worst_first(results.tests), ranked.ranked(results.tests)
    measured = [(row.test, row.measurement, row.verdict) for row in found]
    reporter.section("vdb")
    judged = [one for one in measured if not sweeps.told(one[0], one[2].state)]
    if judged:
        reporter.write(_table(judged, reporter._tw.fullwidth, reporter._tw.hasmarkup))
    asked = results.session.settings.recommend
    sweeps.write(reporter, results.sweeps, reporter._tw.fullwidth, asked)
    for line in _failing(once, results.flags):
        reporter.line(plain(line), red=True)
    for note in _notes(found):
        reporter.line(plain(note), yellow=True)
    for line in _out_of_reach(measured):
        reporter.line(plain(line), yellow=True)
    for line in (*edits.told(results.edits), *edits.overruled(results.tests)):
        reporter.line(plain(line), red=True, bold=True)
    for line in _reviewed(measured, honoured=results.session.settings.honour_accepted):
        reporter.line(plain(line), cyan=True)
    reporter.line(_counts(results, [row.verdict for row in once]))
    for line in beside.lines(results.tests):
        reporter.line(plain(line))
    for line in reused.lines(results.tests):
        reporter.line(plain(line))
    for line in attribution.lines(results.tests):
        reporter.line(plain(line))
    reporter.line(plain(_work(results)))
    reporter.line(_cost(results))
    for path in results.written:
        reporter.line(f"updated {results.session.settings.baselines}/{path}")
    for nodeid in results.not_updated:
        reporter.line(f"not updated from {nodeid}, which did not pass", yellow=True)
    for note in results.notes:
        reporter.line(plain(note), yellow=True)
    for trouble in results.trouble:
        reporter.line(plain(trouble), red=True)
    if any("prove" in test for test in results.tests):
        proof.write(reporter, results.tests, results.proof)


def _worst_first(tests: Sequence[Mapping[str, Json]]) -> list[Ranked]:
    """Every measurement, by its test: that of the worst one first, and in it the worst one.

    A test that failed by its own assertion comes after those of the gate, and before the others.
    """

    def order(found: Sequence[Ranked]) -> tuple[bool, bool, tuple[bool, int, float]]:
        worst = found[0]
        return (not worst.fails, worst.test["outcome"] not in ("failed", "error"), _order(worst))

    of = (sorted(ranked.rows_of(test), key=_order) for test in tests)
    return [row for found in sorted(filter(None, of), key=order) for row in found]


def _order(row: Ranked) -> tuple[bool, int, float]:
    """The worst first; what fails nothing stays in its own order."""
    fine, state, size = row.order
    return (fine, len(ranked.WORST) if row.bare else state, 0.0 if fine else size)


def _failing(once: Sequence[Ranked], flags: Sequence[str]) -> list[str]:
    """What failed by the gate: how sure, what is behind it, and how to run it alone."""
    failing = [row for row in once if row.fails]
    lines = []
    for row in failing[:MOST]:
        sure = ranked.sure(row)
        told = rows.sentence(row.measurement, row.verdict)
        more = f" In {_some(len(row.others), 'more test')} too." if row.others else ""
        lines.append(f"{told} {sure[:1].upper()}{sure[1:]}.{more}")
        if (behind := row.test.get("attribution")) and row.verdict.state is State.REGRESSION:
            lines.append(f"  {behind['text']}")
        lines.append(f"  {again.command(flags, row.test['nodeid'])}")
    if len(failing) > MOST:
        lines.append(f"and {len(failing) - MOST} more in the table")
    return lines


def _short(test: Mapping[str, Json]) -> str:
    return plain(test["nodeid"].partition("::")[2])


def _table(measured: Measured, width: int, colour: bool) -> str:
    """One line a measurement, under the name of its test; numbers and verdict are never cut.

    Names are, and where that is not enough the terminal wraps the line.
    """
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [
        (f"  {plain(m.name)}", rows.value(m), rows.baseline(m, v), rows.change(v), rows.label(m, v))
        for _, m, v in measured
    ]
    columns = zip(COLUMNS, *cells, strict=True)
    longest, *others = (max(map(cell_len, column)) for column in columns)
    around = sum(others) + len(COLUMNS)
    widths = (min(longest, max(len(COLUMNS[0]), width - around)), *others)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    for title, room in zip(COLUMNS, widths, strict=True):
        right = title in ("value", "baseline")
        table.add_column(title, justify="right" if right else "left", no_wrap=True, width=room)
    for (_, _, verdict), row in zip(measured, cells, strict=True):
        table.add_row(*map(Text, row[:-1]), Text(row[-1], style=STYLES[verdict.state]))
    out = io.StringIO()
    console = Console(
        file=out,
        width=around + widths[0],
        force_terminal=colour,
        color_system="standard" if colour else None,
        legacy_windows=False,
    )
    console.print(table)
    header, *lines = (line.rstrip() for line in out.getvalue().splitlines())
    text = [header]
    files = {test["nodeid"].partition("::")[0] for test, _, _ in measured}
    last = None
    for (test, _, _), line in zip(measured, lines, strict=True):
        if test["nodeid"] != last:
            last = test["nodeid"]
            name = _short(test) if len(files) == 1 else plain(last)
            text.append(name + _outcome(test, colour))
        text.append(line)
    return "\n".join(text) + "\n"


def _outcome(test: Mapping[str, Json], colour: bool) -> str:
    """How the test ended, where that is not what everybody hopes for."""
    outcome = "" if test["outcome"] in ("passed", "skipped") else f"  {test['outcome'].upper()}"
    return f"\x1b[31;1m{outcome}\x1b[0m" if outcome and colour else outcome


def _notes(found: Sequence[Ranked]) -> list[str]:
    """What passed without a comparison, and what no comparison could tell, once a reason."""
    notes: dict[str, list[str]] = {}
    for row in found:
        outcome, m, verdict = row.test["outcome"], row.measurement, row.verdict
        if outcome == "passed" and verdict.against:
            notes.setdefault(f"NEAR MACHINE: held to {verdict.against}", []).append(m.name)
        if outcome == "passed" and verdict.state is State.NO_BASELINE:
            notes.setdefault(f"{verdict.state}: {verdict.reason}", []).append(m.name)
        if verdict.state is State.INCONCLUSIVE and not row.fails and outcome != "skipped":
            notes[f"{_short(row.test)}: {rows.sentence(m, verdict)}"] = []
    return [
        f"{note} ({', '.join(dict.fromkeys(names))})" if names else note
        for note, names in notes.items()
    ]


def _out_of_reach(measured: Measured) -> list[str]:
    """Tolerances below what this run can tell apart, a line a measurement and tolerance."""
    lines: dict[tuple[str, str | None], str] = {}
    for test, m, verdict in measured:
        if verdict.resolves is not None:
            todo = "vdb calibrate measures this machine, --vdb-against asks the base beside it"
            if m.kind is Kind.SCORE:
                todo = "more prompts tell more"
            elif test.get("beside"):
                todo = "an idle machine tells more"
            lines[m.name, verdict.tolerance] = (
                f"{m.name}: tolerance {verdict.tolerance} is below what this run tells apart "
                f"({verdict.resolves}): {todo}; or widen it"
            )
    return list(lines.values())


def _reviewed(measured: Measured, *, honoured: bool) -> list[str]:
    """Whatever passed by a person's word, and what would by a flag's."""
    lines = []
    waiting: dict[str, list[str]] = {}
    for test, m, verdict in measured:
        if verdict.state in (State.ACCEPTED, State.NEW):
            by = f" [{verdict.accepted}]" if verdict.accepted else ""
            lines.append(f"{_short(test)}: {rows.sentence(m, verdict)}{by}")
        elif verdict.accepted and not honoured:
            waiting.setdefault(verdict.accepted, []).append(m.name)
    for file, names in waiting.items():
        listed = ", ".join(dict.fromkeys(names))
        lines.append(f"{file} accepts {listed}: --vdb-honour-accepted honours it")
    return lines


def _counts(results: Results, verdicts: list[Verdict]) -> str:
    states = Counter(verdict.state for verdict in verdicts)
    named = ", ".join(f"{count} {state}" for state, count in states.most_common())
    hidden = sum(
        test["outcome"] == "skipped"
        and any(e["verdict"]["consequence"] in ("fail", "error") for e in test["measurements"])
        for test in results.tests
    )
    expected = f"; {hidden} expected to fail (xfail)" if hidden else ""
    return f"{_some(len(verdicts), 'measurement')}: {named or 'none'}{expected}"


def _some(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _work(results: Results) -> str:
    """How much ran: ``2 models, 96 videos on cuda, 12.4 min of GPU time, 5230 J; overhead 0.1%``.

    Overhead is this plugin's own work, as a share of everything that `_cost` lists.
    """
    ran = {
        (test["model"]["name"], test["workload"]["hash"]): test["workload"]
        for test in results.tests
        if test["workload"] is not None and _ran(test)
    }
    videos = sum(len(one["prompts"]) * len(one["seeds"]) for one in ran.values())
    models = len({name for name, _ in ran})
    joules = {
        (test["model"]["name"], test["workload"]["hash"]): sum(v["value"] for v in m["samples"])
        for test in results.tests
        for m in test["measurements"]
        if m["name"] == "energy"
    }
    energy = f", {show(sum(joules.values()), 'J')}" if joules else ""
    where = results.session.settings.cluster or results.session.device
    gpu = f", {duration(results.gpu_seconds)} of GPU time" if results.gpu_seconds else ""
    overhead = results.seconds.get("plugin", 0.0) / (sum(results.seconds.values()) or 1.0)
    ran_here = f"{_some(models, 'model')}, {_some(videos, 'video')} on {where}"
    return f"{ran_here}{gpu}{energy}; overhead {overhead:.1%}"


def _ran(test: Mapping[str, Json]) -> bool:
    """Whether its videos were made: it has a value of them, or looked at them alone."""
    took = test["measurements"]
    return any(m["samples"] for m in took) or (not took and test["outcome"] != "skipped")


def duration(seconds: float) -> str:
    """As people say it: ``48.2 s``, ``12.4 min``, ``3.1 h``."""
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.1f} s"


def _cost(results: Results) -> str:
    total = sum(results.seconds.values()) or 1.0
    words = {"load": "loading", "generate": "generating", "beside": "side by side"}
    parts = [
        f"{words.get(phase, phase)} {seconds:.{0 if seconds >= 10 else 1}f} s "
        f"({seconds / total:.1%})"
        for phase, seconds in results.seconds.items()
        if seconds or phase != "beside"
    ]
    return "time: " + ", ".join(parts)
