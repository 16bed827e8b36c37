"""Updating: merges what ran and passed into the baseline files. The controller alone calls it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pytest_vdb.baseline import schema
from pytest_vdb.baseline.schema import BaselineFile
from pytest_vdb.baseline.store import Store, media_of, write_atomically
from pytest_vdb.errors import BaselineError, BaselineWriteError
from pytest_vdb.records import BASE, Baseline, Measurement, Session, Stored, Workload, definition

LOCK = ".pytest-vdb"
"""Folder of the lock file, in the folder that it locks."""
LOCK_SECONDS = 60.0


@dataclass(frozen=True)
class Update:
    """What one passed test contributes to one baseline file.

    ``media`` maps a sample key to its reference media by role. ``distances`` are measured against
    those media and have no values of their own to store; the test is expected to take them.
    """

    path: str
    test: str
    model: str
    environment: dict[str, str]
    workload: Workload
    measurements: tuple[Measurement, ...]
    media: Mapping[str, Mapping[str, str]]
    distances: tuple[str, ...] = ()


def read_update(data: dict[str, Any]) -> Update:
    """The ``Update`` that a worker or a shard sent."""
    return Update(
        **{
            **data,
            "workload": Workload.from_json(data["workload"]),
            "measurements": tuple(Measurement.from_json(m) for m in data["measurements"]),
            "distances": tuple(data["distances"]),
        }
    )


def apply(
    store: Store,
    updates: Iterable[Update],
    session: Session,
    *,
    mode: str,
    keep: int,
    blobs: Path,
) -> list[str]:
    """Write every touched file, atomically and under a lock; gives back what was written.

    ``mode`` "missing" adds measurements and media that have none; "all" appends a session and
    drops the oldest beyond ``keep``. Media come before the files that name them. Raises
    BaselineError or BaselineWriteError; files written before stay whole.
    """
    by_path: dict[str, list[Update]] = {}
    for update in updates:
        by_path.setdefault(update.path, []).append(update)
    written = []
    for relative, group in sorted(by_path.items()):
        target = store.root / relative
        with lock(store.root):
            old = schema.read(target) or BaselineFile(group[0].model, group[0].environment)
            new = old
            for update in group:
                new = merge(new, update, session, mode=mode, keep=keep)
            named = media_of([new])
            for blob in sorted(blobs.glob("*.*")):
                if blob.stem in named:
                    store.add_blob(blob)
            if new == old:
                continue
            write_atomically(target, new.dumps())
            written.append(relative)
    return written


@contextmanager
def lock(root: Path) -> Iterator[None]:
    """Who holds it alone writes below ``root``. Raises BaselineWriteError where nobody can.

    The lock file lies with the data, so that it is one for all users, containers and places for
    temporary files; git ignores its folder, which says so itself. The operating system lets go of
    it when its holder dies.
    """
    folder = root / LOCK
    held = FileLock(
        folder / "lock", timeout=LOCK_SECONDS, mode=0o666
    )  # another user opens it as well
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / ".gitignore").exists():
            (folder / ".gitignore").write_text("*\n")
        held.acquire()
    except Timeout:
        raise BaselineWriteError(
            f"{root} was not written: another process has held {folder / 'lock'} for "
            f"{LOCK_SECONDS:g} s; run it again when that has ended"
        ) from None
    except (OSError, NotImplementedError) as error:
        why = getattr(error, "strerror", None) or error
        raise BaselineWriteError(
            f"{root} was not written: {folder / 'lock'} cannot be locked: {why}; it must be a "
            "folder that can be written, on a file system with locks"
        ) from None
    try:
        yield
    finally:
        held.release()


def _without(
    tests: dict[str, dict[str, list[str]]], test: str, workload: str
) -> dict[str, dict[str, list[str]]]:
    """The index without what ``test`` took of ``workload``."""
    kept = {
        name: {k: v for k, v in index.items() if (name, k) != (test, workload)}
        for name, index in tests.items()
    }
    return {name: index for name, index in kept.items() if index}


def gates(baseline: Baseline, session: str) -> bool:
    """Whether a run is compared with this session: one of the base branch."""
    return baseline.sessions[session].source == BASE


def merge(
    file: BaselineFile, update: Update, session: Session, *, mode: str, keep: int
) -> BaselineFile:
    """``file`` with one update in it."""
    if file.environment != update.environment:
        raise BaselineError(f"{update.path} was stored on {file.environment}")
    key = update.workload.hash
    if not update.measurements and not update.distances:
        return replace(file, tests=_without(file.tests, update.test, key))
    baseline = file.workloads.get(key) or Baseline(update.workload)
    measurements = dict(baseline.measurements)
    for measurement in update.measurements:
        stored = measurements.get(measurement.name)
        fresh = Stored(measurement.unit, measurement.direction, definition(measurement.provenance))
        if stored is None or stored.provenance != fresh.provenance:
            stored = fresh
        elif mode == "missing" and any(gates(baseline, key) for key in stored.sessions):
            continue
        sessions = {**stored.sessions, session.date: measurement.by_key}
        kept = sorted(sessions)[-keep:]
        measurements[measurement.name] = replace(stored, sessions={k: sessions[k] for k in kept})
    media = {k: dict(v) for k, v in baseline.media.items()}
    for sample, roles in update.media.items():
        if mode == "all" or sample not in media:
            media[sample] = dict(roles)
    used = {date for stored in measurements.values() for date in stored.sessions}
    sessions_kept = {**baseline.sessions, session.date: session}
    baseline = Baseline(
        update.workload,
        {date: s for date, s in sessions_kept.items() if date in used},
        measurements,
        media,
    )
    tests = {name: dict(index) for name, index in file.tests.items()}
    names = {m.name for m in update.measurements} | set(update.distances)
    if mode == "missing":
        names |= set(tests.get(update.test, {}).get(key, ()))
    tests.setdefault(update.test, {})[key] = sorted(names)
    return replace(file, workloads={**file.workloads, key: baseline}, tests=tests)
