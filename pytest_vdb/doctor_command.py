"""``vdb doctor``: what the gate cannot do with the baselines that are stored (docs/calibration.md).

It reads files and settings, and runs no model. Markers of tests are not read.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vdb import performance as figures
from pytest_vdb import under_pytest
from pytest_vdb.baseline import calibration as files
from pytest_vdb.baseline import schema
from pytest_vdb.baseline.remote import is_url
from pytest_vdb.baseline.schema import BaselineFile
from pytest_vdb.errors import BadSetting
from pytest_vdb.gate.calibration import estimate
from pytest_vdb.gate.policy import Tolerance, percent, tolerance_for
from pytest_vdb.noise import Calibrated
from pytest_vdb.records import TIMED, Kind, Stored

if TYPE_CHECKING:
    from pytest_vdb.session import VdbSession


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--baselines", metavar="DIR", help="as --vdb-baselines")
    parser.epilog = "Everything else goes to pytest: a folder of tests, --vdb-tolerance, ..."


def run(options: argparse.Namespace) -> int:
    """Print what is out of reach. Raises VdbError."""
    flags = [] if options.baselines is None else [f"--vdb-baselines={options.baselines}"]
    return under_pytest.run([*options.pytest, *flags], _tell)


def _tell(session: VdbSession) -> None:
    if is_url(session.settings.baselines):
        raise BadSetting("vdb doctor reads a folder; name one with --baselines")
    found = list(_files(session.store.root))
    if not found:
        raise BadSetting(
            f"vdb doctor: {session.store.root} holds no baselines; --vdb-update writes them"
        )
    lines = [line for path, file in found for line in _out_of_reach(session, path, file)]
    lines = lines or ["every tolerance of the settings is within reach of what is stored"]
    under_pytest.tell(session, "\n".join([*lines, _guard(session, [file for _, file in found])]))


def _files(root: Path) -> Iterator[tuple[Path, BaselineFile]]:
    """Baseline files of the folder, with their places."""
    for path in schema.files_below(root):
        if (file := schema.read(path)) is not None:
            yield path.relative_to(root), file


# ------------------------------------------------------------------ tolerances


def _out_of_reach(session: VdbSession, path: Path, file: BaselineFile) -> Iterator[str]:
    """A line for every measurement whose tolerance is below what its values tell apart."""
    noise = files.read(session.store, "/".join((*path.parts[:2], files.NAME)))
    calibrated = list(noise.sessions.values()) if noise else []
    kinds = {spec.name: spec.kind for spec in session.metrics}
    device = file.environment.get("device", "cpu")
    for key, baseline in file.workloads.items():
        for name, stored in baseline.measurements.items():
            kind = kinds.get(name) or figures.figure(name).kind
            tolerance = tolerance_for(name, kind, device, session.settings.tolerance)
            if tolerance.off:
                continue
            reach, why = _reach(name, kind, stored, tolerance, calibrated)
            if reach is not None and reach > tolerance.value:
                shown = percent(reach) if tolerance.relative else f"{reach:.2g}abs"
                yield f"{path}: {key[:8]} {name}: tolerance {tolerance}, but {why} {shown} apart"


def _reach(
    name: str, kind: Kind, stored: Stored, tolerance: Tolerance, calibrated: Sequence[Calibrated]
) -> tuple[float | None, str]:
    """The smallest tolerance that could be cleared, in its own terms, and who tells so much."""
    from pytest_vdb.gate import rules

    sessions = [list(stored.sessions[date].values()) for date in sorted(stored.sessions)]
    if kind in TIMED and min(map(min, sessions)) > 0:
        known = estimate(calibrated, name)
        sd = known.session_sd if known else rules.SESSION_SD
        share = rules.screen_resolves(sessions, sd)
        level = 1.0 if tolerance.relative else sum(sessions[-1]) / len(sessions[-1])
        many = f"{len(sessions)} session{'s' * (len(sessions) > 1)}"
        return share * level, f"the screen against {many} ({known or 'assumed noise'}) tells"
    if kind is Kind.SCORE:
        return _prompts_tell(stored, tolerance)
    return None, ""


def _prompts_tell(stored: Stored, tolerance: Tolerance) -> tuple[float | None, str]:
    """By how the stored sessions' scores differ from the latest's, prompt by prompt."""
    from pytest_vdb.gate import rules

    *older, latest = [stored.sessions[date] for date in sorted(stored.sessions)]
    spreads = [
        spread
        for session in older
        if session.keys() == latest.keys()
        and (spread := rules.prompts_resolve(latest, session)) is not None
    ]
    level = abs(sum(latest.values()) / len(latest)) if tolerance.relative else 1.0
    if not spreads or not level:
        return None, ""
    return max(spreads) / level, "its prompts, as stored sessions differ, tell"


# ------------------------------------------------------------------ the guard


def _guard(session: VdbSession, found: Sequence[BaselineFile]) -> str:
    """Comparisons that a run of everything makes, against what the guard corrects for."""
    rows = {
        (file.model, test, workload, name)
        for file in found
        for test, index in file.tests.items()
        for workload, names in index.items()
        for name in names
    }
    m = session.settings.guard_m
    if len(rows) <= m:
        return f"{len(rows)} comparisons are stored, and the guard is for {m} (vdb_guard_m): enough"
    return (
        f"{len(rows)} comparisons are stored, and the guard is for {m}: where all run together, "
        f"false alarms come more often than promised; set vdb_guard_m = {len(rows)} or more"
    )
