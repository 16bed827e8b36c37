"""``vdb calibrate``: how noisy this machine is, stored for the gate (docs/calibration.md)."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vdb import performance as figures
from pytest_vdb import under_pytest
from pytest_vdb.baseline import calibration as files
from pytest_vdb.baseline.remote import is_url
from pytest_vdb.environment import facts
from pytest_vdb.errors import BadSetting, BaselineWriteError, InfraError, VdbError
from pytest_vdb.gate import calibration
from pytest_vdb.gate.policy import percent
from pytest_vdb.gitrepo import described
from pytest_vdb.names import DATE
from pytest_vdb.noise import SESSIONS_TO_TELL, Calibrated, Noise
from pytest_vdb.readers import count
from pytest_vdb.records import TIMED, Measurement, Run
from pytest_vdb.units import columns

if TYPE_CHECKING:
    from pytest_vdb.baseline.store import Store
    from pytest_vdb.bench import Bench
    from pytest_vdb.session import VdbSession
    from pytest_vdb.trial.interleave import Pair, Trial

PAIRS = 4


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--pairs", default=str(PAIRS), metavar="N", help=f"process pairs to run ({PAIRS})")
    add(
        "--sessions",
        default=str(files.KEEP),
        metavar="K",
        help=f"calibrations that are kept, the latest K ({files.KEEP})",
    )
    add("--baselines", metavar="DIR", help="as --vdb-baselines")
    add("--budget", metavar="TIME", help="as --vdb-budget")
    parser.epilog = "Everything else goes to pytest: --vdb-model=NAME, --vdb-set, a folder of tests"


def run(options: argparse.Namespace) -> int:
    """Calibrate every model that the arguments name. Raises VdbError."""
    pairs, keep = _counted("--pairs", options.pairs), _counted("--sessions", options.sessions)
    given = {"baselines": options.baselines, "budget": options.budget}
    flags = [f"--vdb-{name}={value}" for name, value in given.items() if value is not None]

    def work(session: VdbSession) -> None:
        if is_url(session.settings.baselines):
            raise BadSetting(
                "vdb calibrate writes to a folder: name one with --baselines and bring it to the "
                "URL with vdb push --files"
            )
        deadline = session.settings.budget and time.monotonic() + session.settings.budget
        for spec in session.models:
            if spec.source not in ("factory", "diffusers"):
                raise BadSetting(
                    f"vdb calibrate runs a model in processes of its own, and {spec.name} is "
                    f"{spec.location}: nothing of it is loaded here"
                )
            _calibrate(session, session.bench(spec, session.settings), pairs, keep, deadline)

    return under_pytest.run([*options.pytest, *flags], work)


def _counted(flag: str, text: str) -> int:
    try:
        return count(text)
    except BadSetting as error:
        raise BadSetting(f"vdb calibrate: {flag}: {error}") from None


def _calibrate(
    session: VdbSession, bench: Bench, pairs: int, keep: int, deadline: float | None
) -> None:
    started, load = datetime.now(UTC), os.getloadavg()[0]
    trial = _run(session, bench, pairs, deadline)
    seen = Calibrated(
        started.strftime(DATE),
        described(session.config.rootpath),
        bench.workload.hash,
        round(trial.seconds, 1),
        {**facts(session.device), "load average before": f"{load:.1f}"},
        _noise(bench, trial.pairs),
    )
    environment, name = bench.environments[1], bench.spec.name
    path = files.relative_path(name, environment)
    fresh = files.CalibrationFile(name, environment.identity, {seen.date: seen})
    whole = _stored(session.store, path, fresh, keep, session.config.invocation_params.dir)
    told = [
        f"{name}: {_several(len(trial.pairs))}, {trial.loads} loads, {trial.seconds:.0f} s; "
        f"load average before: {load:.1f}"
    ]
    told += [f"no more than that: {trial.failure}"] if trial.failure else []
    told += ["", *report(list(whole.sessions.values())), ""]
    under_pytest.tell(session, "\n".join([*told, f"written {session.settings.baselines}/{path}"]))


def _stored(
    store: Store, path: str, fresh: files.CalibrationFile, keep: int, here: Path
) -> files.CalibrationFile:
    """All calibrations of the file, with the new one; what took so long is never lost.

    Raises BaselineWriteError that says where it is kept instead: in ``here``, or with other
    temporary files.
    """
    from pytest_vdb.baseline.store import write_atomically

    try:
        return files.add(store, path, fresh, keep=keep)
    except (VdbError, OSError) as error:
        name = path.replace("/", "-")
        for folder in (here, Path(tempfile.gettempdir())):
            try:
                write_atomically(folder / name, fresh.dumps())
            except VdbError:
                continue
            raise BaselineWriteError(
                f"the calibration was not stored: {error}. It is kept in {folder / name}: mend "
                f"that, and move it to {store.root / path} where there is none"
            ) from None
        raise


def _several(pairs: int) -> str:
    return f"{pairs} process pair{'s' * (pairs > 1)}"


def _run(session: VdbSession, bench: Bench, pairs: int, deadline: float | None) -> Trial:
    """The trial with as many pairs as there was time for, at least one. Raises InfraError."""
    from pytest_vdb.trial.calibrate import trial_of

    def left() -> float | None:
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    session.say(
        f"calibrating {bench.spec.name}: {_several(pairs)} of the same code, "
        f"{2 * pairs} loads; the first pair tells how long that takes"
    )
    trial = trial_of(bench.job(), session.settings.ab_steps, left)
    if trial.reach(1):
        trial.announce = session.say
        trial.reach(pairs)
    if not trial.pairs:
        raise InfraError(
            f"vdb calibrate: nothing was measured of {bench.spec.name}: {trial.failure}"
        )
    return trial


def _noise(bench: Bench, pairs: Sequence[Pair]) -> dict[str, Noise]:
    """What was seen of everything that is timed or metered once a generation."""
    from pytest_vdb.trial.calibrate import noise_of

    where = bench._conditions(bench.settings)

    def read(name: str, run: Run) -> Measurement:
        return figures.measured(name, bench.spec, run, where)

    stages = {f"latency.{stage}" for pair in pairs for s in pair.base.samples for stage in s.stages}
    names = [
        name
        for name in dict.fromkeys((*figures.NAMES, *sorted(stages)))
        if (what := figures.figure(name)).kind in TIMED and what.once is None
    ]
    return noise_of(pairs, names, read)


LEGEND = (
    "runs, processes, pairs, sessions: by how much (sd) they vary where the code is the same;",
    "3 pairs, screen: the tolerance that 3 process pairs side by side tell apart, and that the "
    "screen does against 3 stored sessions",
)


def report(sessions: Sequence[Calibrated]) -> list[str]:
    """What all calibrations of a file say together: a table, and what is lacking yet."""
    from pytest_vdb.gate import rules

    names = sorted({name for one in sessions for name in one.noise})
    head = ("", "runs", "AR(1)", "processes", "pairs", "sessions", "3 pairs", "screen, k = 3")
    rows: list[tuple[str, ...]] = [head]
    for name in names:
        mine = [one for one in sessions if name in one.noise]
        found = [one.noise[name] for one in mine]
        assumed = calibration.estimate(sessions, name)
        between = calibration.between_spread(mine, name)
        df = sum(noise.runs - len(noise.levels) for noise in found)
        squares = sum(n.run_sd**2 * (n.runs - len(n.levels)) for n in found)
        ar1 = [noise.ar1 for noise in found if noise.ar1 is not None]
        cells = [
            percent((squares / df) ** 0.5) if df else "–",
            f"{sum(ar1) / len(ar1):.2f}" if ar1 else "–",
            percent(calibration.process_spread(found).sd),
            percent(calibration.pair_spread(found).sd),
            percent(between.sd) if between else "–",
            _told(rules.pairs_resolve(3, assumed.pair_sd) if assumed else None),
            # Of one level: what stored sessions show beyond the assumption is not known here.
            _told(rules.screen_resolves([[1.0, 1.0]] * 3, assumed.session_sd) if assumed else None),
        ]
        rows.append((name, *cells))
    return [*columns(rows, left=1), "", *LEGEND, *_lacking(sessions)]


def _told(share: float | None) -> str:
    if share is None:
        return "–"
    return percent(share) if share < 1 else "> 100%"


def _lacking(sessions: Sequence[Calibrated]) -> list[str]:
    times = len(calibration.times(sessions))
    if times >= SESSIONS_TO_TELL:
        return []
    return [
        f"{times} of {SESSIONS_TO_TELL} sessions that tell how days differ: run it again another "
        "day; until then the screen assumes 2 % or what processes differ by"
    ]
