"""What a baselines folder holds and nobody needs: old sessions, tests that are gone, lost media."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from pytest_vdb.baseline import schema
from pytest_vdb.baseline.identity import benchmark_name, test_name
from pytest_vdb.baseline.schema import BaselineFile
from pytest_vdb.baseline.store import media_of, write_atomically
from pytest_vdb.baseline.validate import SHA256
from pytest_vdb.errors import BadSetting, BaselineWriteError
from pytest_vdb.records import Baseline


@dataclass
class Plan:
    """``files`` to write anew (to remove where None), ``media`` and ``drafts`` to remove.

    A draft is what a process that was killed while it wrote left behind.
    """

    files: dict[Path, BaselineFile | None] = field(default_factory=dict)
    media: list[Path] = field(default_factory=list)
    drafts: list[Path] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


def plan(root: Path, media: Path, *, keep: int | None, tests: Collection[str] | None) -> Plan:
    """What to do below ``root``; changes nothing.

    ``keep`` is how many sessions a measurement keeps; ``tests`` are all node ids that there are.
    Media are those of ``media`` that no file below ``root`` names. Raises BaselineError for a file
    that cannot be read: what it names is not known then. BadSetting where there is no baseline, or
    none of ``tests`` has one: everything would go.
    """
    found = Plan()
    known = None if tests is None else {(benchmark_name(t), test_name(t)) for t in tests}
    left = []
    matched = read = False
    for path in schema.files_below(root):
        old = schema.read(path)
        if old is None:
            continue
        read = True
        name = path.relative_to(root).as_posix()
        new: BaselineFile | None = old
        if known is not None:
            benchmark = "/".join(path.relative_to(root).with_suffix("").parts[2:])
            gone = [test for test in old.tests if (benchmark, test) not in known]
            matched = matched or len(gone) < len(old.tests)
            found.told += [f"{name}: {test} is gone" for test in gone]
            new = without_tests(old, gone) if gone else old
        if new is not None and keep is not None:
            new, dropped = with_sessions(new, keep)
            found.told += [f"{name}: session {date}" for date in dropped]
        if new != old:
            found.files[path] = new
        if new is not None:
            left.append(new)
    if not read:
        raise BadSetting(
            f"vdb prune: {root} holds no baseline files, so no medium of {media} would be named "
            "and all would go; name the folder that --vdb-update wrote"
        )
    if known is not None and not matched:
        raise BadSetting(
            f"none of the {len(known)} tests that --tests names has a baseline in {root}, so "
            "everything would go; give the node ids of `pytest --collect-only -q`"
        )
    named = media_of(left)
    blobs = [p for p in sorted(media.glob("[0-9a-f][0-9a-f]/*")) if SHA256.fullmatch(p.stem)]
    found.media = [path for path in blobs if path.stem not in named]
    found.drafts = [p for p in sorted(root.rglob(".*.json.*")) if p.is_file()]
    found.drafts += [p for p in sorted(media.glob("[0-9a-f][0-9a-f]/.*")) if p.is_file()]
    return found


def carry_out(plan: Plan) -> None:
    """Files first, then the media that they no longer name. Raises BaselineWriteError."""
    for path, file in plan.files.items():
        if file is not None:
            write_atomically(path, file.dumps())
        else:
            _remove(path)
    for path in (*plan.media, *plan.drafts):
        _remove(path)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise BaselineWriteError(
            f"{path} was not removed: {error.strerror or error}; what is gone was needed by "
            "nothing, so mend that and prune again"
        ) from None


def without_tests(file: BaselineFile, gone: Collection[str]) -> BaselineFile | None:
    """``file`` without tests and what they alone took; None where nothing is left."""
    tests = {name: index for name, index in file.tests.items() if name not in gone}
    workloads = {}
    for key, baseline in file.workloads.items():
        taken = {name for index in tests.values() for name in index.get(key, ())}
        if any(key in index for index in tests.values()):
            stored = {n: s for n, s in baseline.measurements.items() if n in taken}
            workloads[key] = _used(replace(baseline, measurements=stored))
    return replace(file, tests=tests, workloads=workloads) if tests else None


def with_sessions(file: BaselineFile, keep: int) -> tuple[BaselineFile, list[str]]:
    """``file`` with the latest ``keep`` sessions of each measurement, and the dates it loses."""
    workloads, dropped = {}, set()
    for key, baseline in file.workloads.items():
        stored = {
            name: replace(one, sessions={k: one.sessions[k] for k in sorted(one.sessions)[-keep:]})
            for name, one in baseline.measurements.items()
        }
        workloads[key] = _used(replace(baseline, measurements=stored))
        dropped |= baseline.sessions.keys() - workloads[key].sessions.keys()
    return replace(file, workloads=workloads), sorted(dropped)


def _used(baseline: Baseline) -> Baseline:
    """Without sessions that no measurement holds."""
    used = {date for one in baseline.measurements.values() for date in one.sessions}
    return replace(baseline, sessions={k: s for k, s in baseline.sessions.items() if k in used})
