"""``vdb accept`` and ``vdb bridge``: a person lets a change, a model or a stack stand."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

from pytest_vdb.baseline import accepted
from pytest_vdb.baseline import run as runs
from pytest_vdb.baseline.identity import PERFORMANCE
from pytest_vdb.baseline.run import RunFile, RunRow
from pytest_vdb.baseline.validate import ACCEPTABLE, check_acceptance
from pytest_vdb.errors import BadRun, BadSetting
from pytest_vdb.gate import StoredSession, judge
from pytest_vdb.gate.policy import Tolerance, tolerance_for
from pytest_vdb.names import CONTROL, slug
from pytest_vdb.options import Settings
from pytest_vdb.records import Acceptance, Kind, State, Verdict, definition
from pytest_vdb.report import rows as words
from pytest_vdb.statistic import summarize
from pytest_vdb.units import plain, show

WHY_NOT = {
    State.INCONCLUSIVE: "it may be a regression or none; its reason says what would settle it",
    State.UNMEASURED: "there is no value to accept",
    State.INFRA_ERROR: "the machine was at fault, so nothing is known of the change",
    State.NOT_APPLICABLE: "nothing was compared",
    State.ACCEPTED: "it is accepted already",
    State.NEW: "it is accepted already",
}
PASSES = "it passes as it is"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_json", type=Path, metavar="RUN.json", help="a file of --vdb-json")
    parser.add_argument(
        "--only", metavar="GLOB", help="of these tests or measurements alone (* and ? are wild)"
    )
    _common(parser)


def bridge_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", type=Path, metavar="OLD_RUN.json", help="run on the old stack")
    parser.add_argument(
        "new", type=Path, metavar="NEW_RUN.json", help="run of the same commit on the new stack"
    )
    _common(parser)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why it may stand")
    parser.add_argument(
        "--to",
        type=Path,
        default=Path(Settings.accepted),
        metavar="DIR",
        help="folder of accepted entries, as --vdb-accepted (default: accepted)",
    )


def accept(options: argparse.Namespace) -> None:
    """Write the run's REGRESSION and NO_BASELINE entries. Raises BadSetting, BadRun."""
    run = runs.read(options.run_json)
    rows = [row for row in run.rows if options.only is None or _matches(row, options.only)]
    if not rows:
        known = sorted({row.measurement.name for row in run.rows})
        raise BadSetting(
            f"vdb accept: {options.run_json} has no test or measurement {options.only or ''!r}; "
            f"its measurements: {', '.join(known) or 'none'}"
        )
    taken = [row for row in rows if row.verdict.state in ACCEPTABLE]
    refused = [row for row in rows if row.verdict.state not in ACCEPTABLE]
    if not taken:
        told = "".join(f"\n  {_refusal(row)}" for row in refused)
        raise BadSetting(f"vdb accept: only REGRESSION and NO_BASELINE can be accepted:{told}")
    _write(options, run, [_entry(row, run, options.reason) for row in taken])
    for row in refused:
        if row.consequence in ("fail", "error"):
            print(f"not accepted: {_refusal(row)}")


def _matches(row: RunRow, pattern: str) -> bool:
    """Brackets are a node id's own, and no class of characters."""
    wild = pattern.replace("[", "[[]")
    return any(fnmatchcase(name, wild) for name in (row.nodeid, row.measurement.name))


def _refusal(row: RunRow) -> str:
    state = row.verdict.state
    why = WHY_NOT.get(state, PASSES)
    return plain(f"{row.measurement.name} of {row.nodeid} is {state}: {why}")


def _entry(row: RunRow, run: RunFile, reason: str, compared: str = "") -> Acceptance:
    m, verdict = row.measurement, row.verdict
    return Acceptance(
        nodeid=row.nodeid,
        model=row.model,
        workload=row.workload.hash,
        environment=row.environment,
        measurement=m.name,
        unit=m.unit,
        direction=m.direction,
        provenance=definition(m.provenance),
        state=verdict.state,
        reason=reason,
        date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        commit=run.commit,
        old=verdict.baseline,
        new=_level(row),
        effect=verdict.effect,
        interval=verdict.interval,
        relative=verdict.relative,
        tolerance=verdict.tolerance,
        compared=compared,
        values=m.by_key,
    )


def _level(row: RunRow) -> float | None:
    m = row.measurement
    return summarize(m)[m.headline] if m.values else None


def _write(options: argparse.Namespace, run: RunFile, entries: list[Acceptance]) -> None:
    if not options.reason.strip() or CONTROL.search(options.reason):
        raise BadSetting("--reason is what reviewers read: write one line of text")
    for entry in entries:
        _check(entry, run)
    path = options.to / f"{slug(run.path.stem)}-{run.sha256[:8]}.json"
    accepted.add(path, entries)
    for entry in entries:
        print(plain(_line(entry)))
    states = [entry.state for entry in entries]
    counts = ", ".join(f"{states.count(s)} {s}" for s in ACCEPTABLE if s in states)
    print(f"{path}: {counts}")
    print("commit it, and let it be reviewed; --vdb-honour-accepted honours it")


def _check(entry: Acceptance, run: RunFile) -> None:
    """What nobody could honour is refused before it is written. Raises BadRun, BadSetting."""
    try:
        check_acceptance(entry, entry.nodeid)
    except ValueError as error:
        raise BadRun(f"{run.path} is no file of --vdb-json ({error})") from None
    if entry.tolerance is not None:
        Tolerance.parse(entry.tolerance)


def _line(entry: Acceptance) -> str:
    new = "–" if entry.new is None else show(entry.new, entry.unit)
    old = "–" if entry.old is None else show(entry.old, entry.unit)
    change = words.change(Verdict(entry.state, "", entry.effect, entry.interval, entry.relative))
    told = f"; {entry.compared}" if entry.compared else ""
    return f"  {entry.state} {entry.measurement}: {old} → {new}, {change} ({entry.nodeid}){told}"


# ------------------------------------------------------------------------- a new stack


def bridge(options: argparse.Namespace) -> int:
    """Open all keys of a new stack by one acceptance; 1 where a score fell beyond its tolerance.

    The two runs are of the same code, which has baselines on the old stack and none on the new
    one. Scores are judged against the old run's by the ordinary rule; what regressed is left out.
    """
    old, new = runs.read(options.old), runs.read(options.new)
    _same_code(old, new)
    before = {_what(row): row for row in old.rows}
    entries, left = [], []
    for row in new.rows:
        partner = before.get(_what(row))
        if row.verdict.state is not State.NO_BASELINE or partner is None:
            continue
        if partner.environment == row.environment:
            left.append(f"{row.measurement.name}: both runs are of {row.environment}")
            continue
        verdict = _against(row, partner)
        compared = _compared(row, partner, verdict)
        if verdict is not None and verdict.state in (State.REGRESSION, State.UNMEASURED):
            left.append(f"{row.measurement.name} ({row.nodeid}): {compared}")
        else:
            entries.append(_entry(row, new, options.reason, compared))
    if not entries and not left:
        raise BadSetting(
            f"vdb bridge: nothing of {options.new} is NO_BASELINE and was also measured in "
            f"{options.old}: run the same commit and the same tests on both stacks"
        )
    if entries:
        _write(options, new, entries)
    for line in left:
        print(plain(f"left out: {line}"))
    if left:
        print(f"what is left out can be accepted on its own: vdb accept {options.new} --only NAME")
    return int(bool(left))


def _same_code(old: RunFile, new: RunFile) -> None:
    """A changed tree (``+``) is let pass: a new stack often shows in the lock file alone."""
    one, other = old.commit.rstrip("+"), new.commit.rstrip("+")
    if one and other and one != other:
        raise BadSetting(
            f"vdb bridge: {old.path} is of commit {one} and {new.path} of {other}; a bridge tells "
            "stacks apart, so run the same commit on both"
        )


def _what(row: RunRow) -> tuple[str, str, str]:
    return row.nodeid, row.workload.hash, row.measurement.name


def _against(row: RunRow, partner: RunRow) -> Verdict | None:
    """A score by the ordinary rule against the old stack's; None for what a stack may move."""
    m = row.measurement
    if m.kind is not Kind.SCORE or not partner.measurement.values:
        return None
    if definition(m.provenance) != definition(partner.measurement.provenance):
        return Verdict(State.UNMEASURED, "measured by another definition than on the old stack")
    said = partner.verdict.tolerance
    tolerance = Tolerance.read_back(said) if said else tolerance_for(m.name, m.kind, "cpu", {})
    stored = StoredSession(partner.measurement.by_key)
    return judge(m, [stored], tolerance=tolerance, guard_m=Settings.guard_m)


def _compared(row: RunRow, partner: RunRow, verdict: Verdict | None) -> str:
    stack = f"against {partner.environment}"
    if verdict is not None:
        told = f"{words.change(verdict)}, {verdict.reason}" if verdict.n else verdict.reason
        return f"{stack}: {verdict.state}, {told}"
    new, old = _level(row), _level(partner)
    if new is None or old is None:
        return f"{stack}: nothing to compare"
    change = f", {100 * (new / old - 1):+.1f}%" if old else ""
    judged = "; not judged" if row.measurement.kind in PERFORMANCE else ""
    unit = row.measurement.unit
    return f"{stack}: {show(old, unit)} → {show(new, unit)}{change}{judged}"
