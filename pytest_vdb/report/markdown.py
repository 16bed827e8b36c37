"""``--vdb-markdown``: a run as a pull request shows it, in GitHub-flavoured Markdown.

The verdict in a sentence, then what changed, the worst first, then everything else behind lines to
click on. What does not fit into a comment is left out, the least important first.
"""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vdb.baseline.store import write_atomically
from pytest_vdb.records import Json, Kind, State
from pytest_vdb.report import again, attribution, beside, edits, reused, rows, sweeps
from pytest_vdb.report.gfm import Section, block, code, details, fitted, row
from pytest_vdb.report.ranked import UNJUDGED, Ranked, own_failure, ranked, rows_of, sure
from pytest_vdb.units import show

if TYPE_CHECKING:
    from pytest_vdb.report.writers import Context

LIMIT = 64_000
"""Bytes of UTF-8. GitHub takes comments of 65,536 characters; whoever posts one adds to it."""

MARK = "<!-- pytest-vdb 1 -->"
HEAD = ("", "measurement", "baseline → now", "change [95 %]", "tolerance", "how sure", "test")
RULE = ("---", "---", "---", "---", "---", "---", "---")
WORDS = {
    State.REGRESSION: "❌ worse",
    State.UNMEASURED: "❌ not measured",
    UNJUDGED: "❌ not judged",
    State.INFRA_ERROR: "⚠️ machine failed",
    State.NO_BASELINE: "no baseline",
    State.INCONCLUSIVE: "cannot tell",
    State.ACCEPTED: "accepted",
    State.NEW: "new",
    State.IMPROVEMENT: "✅ better",
    State.NOT_APPLICABLE: "not gated",
    State.PASS: "same",
    State.IDENTICAL: "identical",
}
FAILED = ("failed", "error")
CLAIMED = (
    "> [!WARNING]\n> The change's own code measured this and could have written any number: "
    "a claim for its reviewer, and no proof."
)
ENDS = {
    2: "was interrupted",
    3: "ended with an internal error",
    4: "was called wrongly",
    5: "ran no test",
}
"""What pytest's exit codes say of a run that judged nothing as a whole."""


def write(run: dict[str, Json], target: Path, context: Context) -> None:
    """Raises BaselineWriteError where ``target`` cannot be written."""
    write_atomically(target, markdown(run, context) + "\n")


def markdown(run: dict[str, Json], context: Context, limit: int = LIMIT) -> str:
    """The page of a run (docs/json.md), of at most ``limit`` bytes."""
    found = ranked(run["tests"])
    changed = [one for one in found if not one.bare]
    worst = {one.test["nodeid"]: -place for place, one in enumerate(reversed(found))}
    failed = [test for test in run["tests"] if test["outcome"] in FAILED]
    failed.sort(key=lambda test: worst.get(test["nodeid"], 1))
    sections = [
        Section(0, "", [f"{MARK}\n### {headline(run, found, context)}"]),
        Section(1, "links", [_about(run, context)]),
        *([Section(1, "warnings", [CLAIMED])] if context.claimed else []),
        *_blocks(
            1,
            "lines about the gate's own files",
            _edits(run),
            "**This change edits its own "
            "gate.** Baselines and policy are those of the base; an owner should look:",
        ),
        *_blocks(1, "lines of trouble", list(context.trouble), "**Trouble of the run itself:**"),
        _table(changed),
        *sweeps.sections(run.get("sweeps", []), 3),
        Section(
            5, "failed tests", [_failure(test, again.of(run, test["nodeid"])) for test in failed]
        ),
        *_blocks(7, "reviewed measurements", _reviewed(found), "Passed by a person's word:"),
        *_blocks(
            6,
            "changes that fail nothing",
            attribution.lines(run["tests"]),
            "Changed, and failing nothing:",
        ),
        _all(run["tests"]),
        *_folded(8, "what ran side by side", beside.lines(run["tests"])),
        *_folded(10, "machine, time and notes", _machine(run, context)),
    ]
    return fitted([section for section in sections if section.parts], limit)


# ------------------------------------------------------------------------- the verdict


def headline(run: Mapping[str, Json], found: Sequence[Ranked], context: Context) -> str:
    """The verdict of the run in one sentence."""
    code_, tests = run["exit"], run["tests"]
    if code_ == 0 and not found:
        return "⚠️ Nothing was gated: no test measured anything"
    held = sum(
        one.verdict.state in (State.PASS, State.IDENTICAL, State.IMPROVEMENT) for one in found
    )
    if code_ == 0 and not context.trouble:
        return f"✅ The video gate passes: {_listed(_passing(found, held))}"
    if code_ == 10:
        return (
            "⚠️ No verdict: the machine failed and not the change "
            f"({_count(_infra(tests), 'test')}); run it again"
        )
    reasons = _reasons(tests, found, context)
    if code_ in ENDS:
        also = f"; until then {_listed(reasons)}" if reasons else ""
        return f"❌ No verdict: pytest {ENDS[code_]}{also}"
    told = _listed(reasons) or "something beside the measurements failed; its log says why"
    return f"❌ The video gate fails: {told}{_worst(found)}"


def _passing(found: Sequence[Ranked], held: int) -> list[str]:
    states = Counter(one.verdict.state for one in found if not one.fails)
    said = [f"{_count(held, 'measurement')} held against the baseline"] if held else []
    for state, words in (
        (State.IMPROVEMENT, "better"),
        (State.REGRESSION, "worse, which fails nothing here"),
        (State.INCONCLUSIVE, "undecided"),
        (State.NO_BASELINE, "without a baseline"),
        (State.ACCEPTED, "accepted"),
        (State.NEW, "new"),
    ):
        if states[state]:
            said.append(f"{states[state]:d} {words}")
    return said or ["nothing was compared with a baseline"]


def _reasons(
    tests: Sequence[Mapping[str, Json]], found: Sequence[Ranked], context: Context
) -> list[str]:
    states = Counter(one.ended for one in found if one.fails)
    said = [
        f"{_count(states[state], 'measurement')} {words[states[state] > 1]}"
        for state, words in (
            (State.REGRESSION, ("got worse",) * 2),
            (State.UNMEASURED, ("could not be taken",) * 2),
            (UNJUDGED, ("could not be judged",) * 2),
            (State.NO_BASELINE, ("has no baseline", "have no baseline")),
            (State.INCONCLUSIVE, ("is undecided", "are undecided")),
            (
                State.NOT_APPLICABLE,
                ("is not gated although required", "are not gated although required"),
            ),
            (State.INFRA_ERROR, ("was lost with the machine", "were lost with the machine")),
        )
        if states[state]
    ]
    own = [failure["text"] for failure in map(own_failure, tests) if failure]
    asserted = sum(re.match(r"AssertionError\b|assert ", text) is not None for text in own)
    if asserted:
        said.append(
            f"{_count(asserted, 'test')} failed {'its' if asserted == 1 else 'their'} own assertion"
        )
    if len(own) > asserted:
        said.append(f"{_count(len(own) - asserted, 'test')} broke")
    return said + (["not everything could be written"] if context.trouble else [])


def _worst(found: Sequence[Ranked]) -> str:
    one = next((one for one in found if one.fails and one.verdict.effect is not None), None)
    if one is None or one.verdict.state is not State.REGRESSION:
        return ""
    change = rows.change(one.verdict).partition(" ")[0]
    return f" (worst: {code(one.measurement.name, 60)} {change})"


def _infra(tests: Sequence[Mapping[str, Json]]) -> int:
    return sum(test["outcome"] == "error" for test in tests)


def _count(number: int, noun: str) -> str:
    return f"{number:d} {noun}{'s' * (number != 1)}"


def _listed(parts: Sequence[str]) -> str:
    return ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else "".join(parts)


def _about(run: Mapping[str, Json], context: Context) -> str:
    """One line: what was judged, and where its files are."""
    models = dict.fromkeys(test["model"]["name"] for test in run["tests"] if test["model"])
    shown = ", ".join(code(name, 80) for name in list(models)[:8])
    said = [shown] if shown else []
    if run.get("commit"):
        said.append(f"commit {code(run['commit'], 60)}")
    if run["tests"]:
        said.append(_count(len(run["tests"]), "test"))
    if re.fullmatch(r"https?://[\w.~:/?#@!$&*+,;=%-]+", context.url, re.ASCII):
        said.append(f"[videos, plots and raw results](<{context.url}>)")
    return " · ".join(said)


# ------------------------------------------------------------------------- what changed


def _table(changed: Sequence[Ranked]) -> Section:
    head = f"{row(HEAD)}\n{row(RULE)}\n"
    return Section(2, "changed measurements", [_row(one) for one in changed], head, between="\n")


def _row(one: Ranked) -> str:
    word = _word(one)
    if one.fails and not word.startswith(("❌", "⚠️")):
        word = f"❌ {word}"
    more = f" +{len(one.others):d}" if one.others else ""
    why = sure(one)
    if one.verdict.effect is None and one.verdict.reason:
        why = f"{why}: {code(one.verdict.reason, 120)}"
    word = f"**{word}**" if one.fails else word
    return row((word, *_numbers(one), why, code(_name(one), 80) + more))


def _word(one: Ranked) -> str:
    changed = one.verdict.state is State.PASS and one.measurement.kind is Kind.DISTANCE
    return "changed" if changed else WORDS[one.ended]


def _numbers(one: Ranked) -> tuple[str, str, str, str]:
    """Name, values, change and tolerance, as cells."""
    m, verdict = one.measurement, one.verdict
    return (
        code(m.name, 60),
        f"{rows.baseline(m, verdict)} → {rows.value(m)}",
        rows.change(verdict),
        code(verdict.tolerance or "", 30),
    )


def _name(one: Ranked) -> str:
    nodeid = str(one.test["nodeid"])
    return nodeid.partition("::")[2] or nodeid


def _failure(test: Mapping[str, Json], command: str) -> str:
    """Why a test failed, with every word of its verdicts, and the command that runs it alone."""
    lines: list[str] = []
    failure = test.get("failure") or {"text": ""}
    if failure["text"]:
        where = f"{failure['file']}:{failure['line']:d}: " if failure["file"] else ""
        told = (where + failure["text"]).splitlines()
        lines += told[:40] + [f"… {len(told) - 40} more lines"] * (len(told) > 40)
    for one in rows_of(test):
        said = rows.repeats(failure["text"], one.measurement, one.verdict)
        if one.consequence in ("fail", "error") and not said:
            lines += ["", *textwrap.wrap(rows.sentence(one.measurement, one.verdict), 100)]
            if one.verdict.state is State.REGRESSION:
                lines += _worst_sample(one, test)
    if found := test.get("attribution"):
        lines += ["", *textwrap.wrap(found["text"], 100)]
    told = block(lines[not lines[:1] or not lines[0] :])
    alone = f"\n\nIt alone:\n\n{block([command])}" if command else ""
    return details("❌ why", test["nodeid"], told + alone)


def _worst_sample(one: Ranked, test: Mapping[str, Json]) -> list[str]:
    m = one.measurement
    if m.kind is not Kind.SCORE or len(m.values) < 2:
        return []
    pick = min if m.direction == "higher" else max
    worst = pick(m.values, key=lambda value: value.value)
    texts = {prompt["id"]: prompt["text"] for prompt in (test["workload"] or {})["prompts"]}
    said = f"worst sample: {worst.key}, {show(worst.value, m.unit)}: {texts.get(worst.prompt, '')}"
    return textwrap.wrap(said, 100)[:4]


def _reviewed(found: Sequence[Ranked]) -> list[str]:
    return [
        f"{rows.sentence(one.measurement, one.verdict)} [{one.verdict.accepted}]"
        for one in found
        if one.verdict.state in (State.ACCEPTED, State.NEW)
    ]


def _edits(run: Mapping[str, Json]) -> list[str]:
    told = edits.told(run.get("gate_edits"))
    return [*told[1:], *edits.overruled(run["tests"])]


# ------------------------------------------------------------------------- the rest


def _all(tests: Sequence[Mapping[str, Json]]) -> Section:
    """Every measurement of every test, in a table behind a line."""
    lines = [
        row((_word(one), *_numbers(one), code(_name(one), 80)))
        for test in tests
        for one in rows_of(test)
    ]
    columns = (*HEAD[:5], HEAD[6])
    opening = f"<details><summary>all {_count(len(lines), 'measurement')}</summary>\n\n"
    head = f"{opening}{row(columns)}\n{row(['---'] * len(columns))}\n"
    return Section(9, "lines of all measurements", lines, head, "\n\n</details>", "\n")


def _machine(run: Mapping[str, Json], context: Context) -> list[str]:
    facts = run["environment"].get("facts", {})
    spent = [f"{phase} {seconds:.1f} s" for phase, seconds in run["timing"].items() if seconds]
    return [
        *(f"{name}: {value}" for name, value in facts.items()),
        *(["time: " + ", ".join(spent)] if spent else []),
        *reused.lines(run["tests"]),
        *context.notes,
    ]


def _blocks(weight: int, name: str, lines: Sequence[str], title: str) -> list[Section]:
    """Foreign lines below a title of ours, ten a block, so that some can be left out."""
    if not lines:
        return []
    parts = [block(lines[start : start + 10]) for start in range(0, len(lines), 10)]
    return [Section(weight, f"blocks of {name}", parts, f"{title}\n\n")]


def _folded(weight: int, name: str, lines: Sequence[str]) -> list[Section]:
    return [Section(weight, name, [details(name, "", block(lines))])] if lines else []
