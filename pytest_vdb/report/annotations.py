"""Annotations of a GitHub job: workflow commands that show a failure at its line of the change.

Syntax, escapes and limits: GitHub's documentation of workflow commands. What foreign text holds
cannot begin a command of its own: it has no line breaks left when it is printed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_vdb.records import Json, State
from pytest_vdb.report import rows
from pytest_vdb.report.ranked import UNJUDGED, Ranked, own_failure, ranked
from pytest_vdb.units import plain

MOST = 10
"""Errors, and warnings, that GitHub shows of one step; it drops what comes after them."""
TITLES = {
    State.REGRESSION: "got worse",
    State.UNMEASURED: "was not measured",
    UNJUDGED: "could not be judged",
    State.NO_BASELINE: "has no baseline",
    State.INFRA_ERROR: "was lost with the machine",
    State.NOT_APPLICABLE: "is not gated",
}
LONGEST = 2000
"""Characters of a message."""


@dataclass(frozen=True)
class Annotation:
    """``level`` is ``error`` or ``warning``; ``file`` is as the repository has it, or empty."""

    level: str
    title: str
    message: str
    file: str = ""
    line: int | None = None

    def __str__(self) -> str:
        """The workflow command, one line."""
        where = {"file": self.file, "line": str(self.line)} if self.line else {"file": self.file}
        properties = {**where, "title": self.title} if self.file else {"title": self.title}
        said = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
        return f"::{self.level} {said}::{_data(self.message[:LONGEST])}"


def annotate(
    tests: Sequence[Mapping[str, Json]],
    root: Path,
    workspace: str = "",
    trouble: Sequence[str] = (),
) -> list[Annotation]:
    """What is wrong with a run, the worst first, at most ten errors and ten warnings.

    ``root`` is where the files of node ids start; ``workspace`` is the checkout's folder.
    """
    found = [*_measured(tests), *_broken(tests), *(Annotation("error", "vdb", t) for t in trouble)]
    errors = [one for one in found if one.level == "error"]
    warnings = [one for one in found if one.level == "warning"]
    top = Path(workspace) if workspace else root
    return [_placed(one, root, top) for one in (*errors[:MOST], *warnings[:MOST])]


def _measured(tests: Sequence[Mapping[str, Json]]) -> Iterator[Annotation]:
    for row in ranked(tests):
        if row.test["outcome"] == "skipped":
            continue  # expected to fail
        level = "error" if row.fails else "warning" if row.consequence == "warn" else ""
        if level:
            told = rows.sentence(row.measurement, row.verdict)
            yield Annotation(level, _title(row), told, _file(row.test), _line(row))


def _broken(tests: Sequence[Mapping[str, Json]]) -> Iterator[Annotation]:
    """Tests that failed by themselves."""
    for test in tests:
        failure = own_failure(test)
        if failure is None:
            continue
        place = (
            (failure["file"], failure["line"])
            if failure["file"]
            else (_file(test), test.get("line"))
        )
        yield Annotation("error", f"{_name(test)} failed", failure["text"], *place)


def _title(row: Ranked) -> str:
    word = TITLES.get(row.ended, f"is {row.verdict.state}")
    return f"{row.measurement.name} {word}"


def _name(test: Mapping[str, Json]) -> str:
    return str(test["nodeid"]).rpartition("::")[2]


def _file(test: Mapping[str, Json]) -> str:
    return str(test["nodeid"]).partition("::")[0]


def _line(row: Ranked) -> int | None:
    return row.line or row.test.get("line")


def _placed(one: Annotation, root: Path, top: Path) -> Annotation:
    """``one`` with its file as seen from the checkout's folder; without a place outside of it."""
    file = os.path.relpath(root / one.file, top) if one.file else ""
    if not file or file.startswith(".."):
        return Annotation(one.level, one.title, one.message)
    return Annotation(one.level, one.title, one.message, Path(file).as_posix(), one.line)


def _data(text: str) -> str:
    """The message of a command: ``%`` and line breaks escaped, other control characters told."""
    shown = "\n".join(plain(line) for line in text.splitlines())
    return shown.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
