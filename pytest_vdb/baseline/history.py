"""What was ever stored of a model, session by session: of files, of git's versions, of runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pytest_vdb import gitrepo
from pytest_vdb.baseline import run as runs
from pytest_vdb.baseline import schema
from pytest_vdb.baseline.identity import benchmark_name
from pytest_vdb.baseline.schema import BaselineFile
from pytest_vdb.errors import BadRun, BaselineError, NoBase
from pytest_vdb.gitrepo import Ref
from pytest_vdb.names import slug
from pytest_vdb.records import definition

VERSIONS = 200
"""Versions of one file that are read of git at most, the newest first."""
RUN = "run"
"""The source of what a file of ``--vdb-json`` says, beside those of `records.Session`."""


class Key(NamedTuple):
    """What can be compared over time: the same measurement, defined alike, on equal machines."""

    benchmark: str
    environment: str
    workload: str
    name: str
    definition: str


@dataclass(frozen=True)
class Point:
    """One session: values by sample. ``source`` is ``base``, ``change`` or ``run``."""

    date: str
    commit: str
    source: str
    values: Mapping[str, float]


@dataclass
class Series:
    """One measurement by the date of its sessions."""

    unit: str
    direction: str
    points: dict[str, Point] = field(default_factory=dict)

    @property
    def ordered(self) -> list[Point]:
        return [self.points[date] for date in sorted(self.points)]


Found = dict[Key, Series]


def models(root: Path) -> list[str]:
    """Folders of models below ``root``."""
    return sorted({path.relative_to(root).parts[0] for path in schema.files_below(root)})


def stored(root: Path, model: str, *, git: bool) -> tuple[Found, list[str]]:
    """Series of ``model`` in the baselines below ``root``, and what could not be read.

    ``git``: also of all versions that git has of those files: a file itself keeps few sessions.
    Raises BaselineError for a file of the working tree that cannot be trusted.
    """
    found: Found = {}
    notes: list[str] = []
    for path in schema.files_below(root):
        below = path.relative_to(root)
        if below.parts[0] != slug(model):
            continue
        if git:
            for file in _versions(path, notes):
                _add(found, file, below)
        if (file_now := schema.read(path)) is not None:
            _add(found, file_now, below)
    return found, notes


def add_run(found: Found, path: Path, model: str) -> bool:
    """Add what the run at ``path`` says of ``model``; False where it says nothing of it.

    Raises BadRun for a file of no run, and for one of an older pytest-vdb, which has no date.
    """
    file = runs.read(path)
    rows = [row for row in file.rows if slug(row.model) == slug(model)]
    date = file.run.get("started")
    if not isinstance(date, str) or not date.isprintable():
        raise BadRun(f"{path}: an older pytest-vdb wrote it, without its date; leave it out")
    for row in rows:
        m = row.measurement
        if not m.values:
            continue
        key = Key(
            benchmark_name(row.nodeid),
            row.environment,
            row.workload.hash,
            m.name,
            _text(definition(m.provenance)),
        )
        point = Point(date, file.commit, RUN, m.by_key)
        # A session that was stored of this very run says the same, and where it was made.
        found.setdefault(key, Series(m.unit, m.direction)).points.setdefault(date, point)
    return bool(rows)


def _add(found: Found, file: BaselineFile, below: Path) -> None:
    environment = below.parts[1]
    benchmark = "/".join(below.with_suffix("").parts[2:])
    for workload, baseline in file.workloads.items():
        for name, kept in baseline.measurements.items():
            key = Key(benchmark, environment, workload, name, _text(kept.provenance))
            series = found.setdefault(key, Series(kept.unit, kept.direction))
            for session, values in kept.sessions.items():
                told = baseline.sessions[session]
                series.points[told.date] = Point(told.date, told.commit, told.source, values)


def _text(provenance: Mapping[str, str | None]) -> str:
    return " ".join(f"{name}={provenance[name]}" for name in sorted(provenance))


def _versions(path: Path, notes: list[str]) -> Iterator[BaselineFile]:
    """The file as each commit that changed it has it, newest first; nothing outside git."""
    try:
        top = gitrepo.top(path.parent)
        commits = gitrepo.git(path.parent, "log", f"-n{VERSIONS}", "--format=%H", "--", path.name)
    except NoBase:
        return
    for commit in commits.split():
        ref = Ref(commit[:12], commit, top.resolve())
        below = ref.below(path)
        content = ref.read(below) if below else None
        if content is None:
            continue  # this commit deleted it
        try:
            yield schema.loads(content.decode(), f"{path} at {commit[:12]}", "leave it out")
        except (BaselineError, ValueError) as error:
            notes.append(str(error))
