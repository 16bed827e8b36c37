"""``vdb accept`` and ``vdb bridge``: a person lets a change, a model or a stack stand."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vdb import under_pytest
from pytest_vdb.baseline import accepted
from pytest_vdb.baseline import run as runs
from pytest_vdb.baseline.identity import PERFORMANCE, benchmark_name
from pytest_vdb.baseline.run import RunFile, RunRow
from pytest_vdb.baseline.validate import ACCEPTABLE, check_acceptance
from pytest_vdb.errors import BadRun, BadSetting, VdbError
from pytest_vdb.gate import FINE, StoredSession, judge, stored_of
from pytest_vdb.gate.policy import Tolerance, tolerance_for
from pytest_vdb.names import CONTROL, DATE, slug
from pytest_vdb.records import (
    REPORTED,
    TIMED,
    Acceptance,
    Kind,
    Measurement,
    State,
    Verdict,
    definition,
)
from pytest_vdb.report import rows as words
from pytest_vdb.statistic import summarize
from pytest_vdb.units import plain, show

if TYPE_CHECKING:
    from pytest_vdb.options import Settings
    from pytest_vdb.session import VdbSession

WHY_NOT = {
    State.INCONCLUSIVE: "it may be a regression or none; its reason says what would settle it",
    State.UNMEASURED: "there is no value to accept",
    State.INFRA_ERROR: "the machine was at fault, so nothing is known of the change",
    State.NOT_APPLICABLE: "nothing was compared",
    State.ACCEPTED: "it is accepted already",
    State.NEW: "it is accepted already",
}
PASSES = "it passes as it is"
NOT_TAKEN = (
    "this run did not take it, so nothing can be let stand; on the base branch, --vdb-update "
    "--vdb-update-mode=all forgets what a test no longer takes"
)


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
        metavar="DIR",
        help="folder to write to (default: where --vdb-accepted reads, from pytest's root)",
    )
    parser.epilog = "Everything else goes to pytest: --vdb-baselines, --vdb-tolerance, --rootdir"


def accept(options: argparse.Namespace) -> int:
    """Write entries of what the run has that a person can let stand. Raises BadSetting, BadRun."""
    run = runs.read(options.run_json)
    return under_pytest.told(options.pytest, lambda session: _accept(options, run, session))


def _accept(options: argparse.Namespace, run: RunFile, session: VdbSession) -> int:
    rows = [row for row in run.rows if options.only is None or _matches(row, options.only)]
    if not rows:
        known = sorted({row.measurement.name for row in run.rows})
        raise BadSetting(
            f"vdb accept: {options.run_json} has no test or measurement {options.only or ''!r}; "
            f"its measurements: {', '.join(known) or 'none'}"
        )
    taken = [row for row in rows if _acceptable(row) and _is_there(row)]
    refused = [row for row in rows if row not in taken]
    if not taken:
        told = "".join(f"\n  {_refusal(row)}" for row in refused)
        raise BadSetting(
            "vdb accept: only REGRESSION, NO_BASELINE and an INCONCLUSIVE peak of memory can be "
            f"accepted:{told}"
        )
    unbounded = [r for r in taken if r.measurement.kind in TIMED and not _bounded(r.verdict)]
    if unbounded:
        names = ", ".join(sorted({row.measurement.name for row in unbounded}))
        raise BadRun(
            f"{run.path} is no file of --vdb-json (a REGRESSION of {plain(names)} without an "
            "interval, so nothing would bound what is accepted)"
        )
    entries = []
    for row in taken:
        row, on_trust = _recomputed(row, session)
        entries.append(replace(_entry(row, run, options.reason), on_trust=on_trust))
    _write(options, run, session, entries)
    for row in refused:
        if row.consequence in ("fail", "error"):
            print(f"not accepted: {_refusal(row)}")
    return 0


def _acceptable(row: RunRow) -> bool:
    """What a person can judge: of peaks, which repeat, no other run tells more than this one."""
    if row.verdict.state is State.INCONCLUSIVE:
        return row.measurement.kind is Kind.MEMORY
    return row.verdict.state in ACCEPTABLE


def _is_there(row: RunRow) -> bool:
    """Whether the run took it; a distance without a reference has no values yet."""
    return bool(row.measurement.values) or row.measurement.kind is Kind.DISTANCE


def _bounded(verdict: Verdict) -> bool:
    return verdict.state is not State.REGRESSION or verdict.interval is not None


def _matches(row: RunRow, pattern: str) -> bool:
    """Brackets are a node id's own, and no class of characters."""
    wild = pattern.replace("[", "[[]")
    return any(fnmatchcase(name, wild) for name in (row.nodeid, row.measurement.name))


def _refusal(row: RunRow) -> str:
    state = row.verdict.state
    why = WHY_NOT.get(state, PASSES) if _is_there(row) or not _acceptable(row) else NOT_TAKEN
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
        date=datetime.now(UTC).strftime(DATE),
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


# ------------------------------------------------------------- what the run says of itself


def _recomputed(row: RunRow, session: VdbSession) -> tuple[RunRow, str]:
    """``row`` as its samples and the stored baseline have it, and what of it is on trust.

    A run may come from anybody: what it says of its own change would bound what it may do later.
    """
    if row.verdict.state is State.NO_BASELINE:
        return row, ""
    found = _judged(row, session)
    if isinstance(found, Verdict) and found.state in (State.REGRESSION, State.INCONCLUSIVE):
        return replace(row, verdict=found), ""
    told = found if isinstance(found, str) else f"the stored baseline here says {_said(found)}"
    return row, f"old, effect and interval are the run's own word: {told}"


def _judged(row: RunRow, session: VdbSession) -> Verdict | str:
    """The ordinary rule on the samples of ``row``, or why it cannot be asked."""
    m = row.measurement
    if m.kind in TIMED:
        return "times cannot be taken again"
    path = f"{slug(row.model)}/{row.environment}/{benchmark_name(row.nodeid)}.json"
    try:
        file = session.store.read(path)
    except VdbError as error:
        return str(error)
    sessions = stored_of(file.workloads.get(row.workload.hash) if file else None, m)
    if not sessions:
        return f"{session.settings.baselines} has no baseline of it"
    tolerance = _tolerance(m, session.settings, row.verdict.tolerance)
    return judge(m, sessions, tolerance=tolerance, guard_m=session.settings.guard_m)


def _tolerance(m: Measurement, settings: Settings, said: str | None = None) -> Tolerance:
    """That of the settings; or of the run, where it is of another kind (a marker's) or less."""
    reported = m.kind is Kind.MEMORY and m.provenance.version == REPORTED
    policy = tolerance_for(m.name, m.kind, REPORTED if reported else "cpu", settings.tolerance)
    own = Tolerance.read_back(said) if said else policy
    if own.off:
        return policy
    if policy.off or policy.auto or own.relative != policy.relative:
        return own
    return min(policy, own, key=lambda one: one.value)


def _said(verdict: Verdict) -> str:
    told = f"{words.change(verdict)}, {verdict.reason}" if verdict.n else verdict.reason
    return f"{verdict.state}, {told}"


# ------------------------------------------------------------------------------- writing


def _write(
    options: argparse.Namespace, run: RunFile, session: VdbSession, entries: list[Acceptance]
) -> None:
    if not options.reason.strip() or CONTROL.search(options.reason):
        raise BadSetting("--reason is what reviewers read: write one line of text")
    for entry in entries:
        _check(entry, run)
    read = session.place(session.settings.accepted)
    folder = options.to or read
    path = Path(os.path.relpath(folder / f"{slug(run.path.stem)}-{run.sha256[:8]}.json"))
    accepted.add(path, entries)
    for entry in entries:
        print("\n".join(map(plain, _line(entry).splitlines())))
    states = [entry.state for entry in entries]
    counts = ", ".join(f"{states.count(s)} {s}" for s in ACCEPTABLE if s in states)
    print(f"{path}: {counts}")
    if folder.resolve() != read.resolve():
        print(f"note: a run here reads {read}: it needs --vdb-accepted={folder.resolve()}")
    print("commit it, and let it be reviewed; --vdb-honour-accepted honours it")


def _check(entry: Acceptance, run: RunFile) -> None:
    """What nobody could honour is refused before it is written. Raises BadRun, BadSetting."""
    try:
        check_acceptance(entry, entry.nodeid)
    except ValueError as error:
        raise BadRun(f"{run.path} is no file of --vdb-json ({error})") from None
    if entry.tolerance is not None:
        Tolerance.read_back(entry.tolerance)


def _line(entry: Acceptance) -> str:
    new = "–" if entry.new is None else show(entry.new, entry.unit)
    old = "–" if entry.old is None else show(entry.old, entry.unit)
    change = words.change(Verdict(entry.state, "", entry.effect, entry.interval, entry.relative))
    change += f", tolerance {entry.tolerance}" if entry.tolerance else ""
    told = f"; {entry.compared}" if entry.compared else ""
    told += f"\n    on trust: {plain(entry.on_trust)}" if entry.on_trust else ""
    where = plain(entry.nodeid)
    return f"  {entry.state} {plain(entry.measurement)}: {old} → {new}, {change} ({where}){told}"


# ------------------------------------------------------------------------- a new stack


def bridge(options: argparse.Namespace) -> int:
    """Open all keys of a new stack by one acceptance; 1 where anything is left out.

    The two runs are of the same code, which has baselines on the old stack and none on the new
    one. Scores are judged against the old run's by the ordinary rule. Left out is what regressed,
    and what the old stack's own gate did not pass: a bridge would launder it.
    """
    old, new = runs.read(options.old), runs.read(options.new)
    _same_code(old, new)
    return under_pytest.told(options.pytest, lambda session: _bridge(options, old, new, session))


def _bridge(options: argparse.Namespace, old: RunFile, new: RunFile, session: VdbSession) -> int:
    before = {_what(row): row for row in old.rows}
    entries, left = [], []
    for row in new.rows:
        partner = before.get(_what(row))
        if row.verdict.state is not State.NO_BASELINE or partner is None:
            continue
        verdict = _against(row, partner, session.settings)
        if why := _unfit(row, partner, verdict):
            left.append(f"{row.measurement.name} ({row.nodeid}): {why}")
        else:
            compared = _compared(row, partner, verdict)
            entries.append(_entry(row, new, options.reason, compared))
    if not entries and not left:
        raise BadSetting(
            f"vdb bridge: nothing of {options.new} is NO_BASELINE and was also measured in "
            f"{options.old}: run the same commit and the same tests on both stacks"
        )
    if entries:
        _write(options, new, session, entries)
    for line in left:
        print(plain(f"left out: {line}"))
    if left:
        print(f"what is left out can be accepted on its own: vdb accept {options.new} --only NAME")
    return int(bool(left))


def _unfit(row: RunRow, partner: RunRow, verdict: Verdict | None) -> str:
    """Why a bridge must not open this key, or an empty string."""
    if partner.environment == row.environment:
        return f"both runs are of {row.environment}"
    if partner.verdict.state not in (*FINE, State.ACCEPTED):
        return f"the old stack's own run is {partner.verdict.state}: {partner.verdict.reason}"
    if verdict is not None and verdict.state not in (*FINE, State.INCONCLUSIVE):
        return _compared(row, partner, verdict)
    return ""


def _same_code(old: RunFile, new: RunFile) -> None:
    """Raises BadSetting for two commits, and for a tree that no commit holds (``+``)."""
    for run in (old, new):
        if run.commit.endswith("+"):
            raise BadSetting(
                f"vdb bridge: {run.path} is of {run.commit}, a tree with changes, and nothing "
                "says what they were; commit them and run it again"
            )
    one, other = old.commit, new.commit
    if one != other:
        raise BadSetting(
            f"vdb bridge: {old.path} is of commit {one or 'unknown'} and {new.path} of "
            f"{other or 'unknown'}; a bridge tells stacks apart, so run the same commit on both"
        )
    if not one:
        print("note: neither run says its commit; that both are of the same code is on trust")


def _what(row: RunRow) -> tuple[str, str, str]:
    return row.nodeid, row.workload.hash, row.measurement.name


def _against(row: RunRow, partner: RunRow, settings: Settings) -> Verdict | None:
    """A score by the ordinary rule against the old stack's; None for what a stack may move."""
    m = row.measurement
    if m.kind is not Kind.SCORE:
        return None
    if partner.measurement.kind is not Kind.SCORE or not partner.measurement.values:
        return Verdict(State.UNMEASURED, "the old stack's run has no values of it")
    if definition(m.provenance) != definition(partner.measurement.provenance):
        return Verdict(State.UNMEASURED, "measured by another definition than on the old stack")
    stored = StoredSession(partner.measurement.by_key)
    tolerance = _tolerance(m, settings)
    return judge(m, [stored], tolerance=tolerance, guard_m=settings.guard_m)


def _compared(row: RunRow, partner: RunRow, verdict: Verdict | None) -> str:
    stack = f"against {partner.environment}"
    if verdict is not None:
        within = f" (tolerance {verdict.tolerance})" if verdict.tolerance else ""
        return f"{stack}: {_said(verdict)}{within}"
    new, old = _level(row), _level(partner)
    if new is None or old is None:
        return f"{stack}: nothing to compare"
    change = f", {100 * (new / old - 1):+.1f}%" if old else ""
    judged = "; not judged" if row.measurement.kind in PERFORMANCE else ""
    unit = row.measurement.unit
    return f"{stack}: {show(old, unit)} → {show(new, unit)}{change}{judged}"
