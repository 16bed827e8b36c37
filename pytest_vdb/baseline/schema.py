"""The baseline file: one benchmark file's measurements of one model in one environment.

Small, diffable, versioned JSON. ``tests`` indexes which measurements each test touched, so that
one that is no longer taken is noticed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from pytest_vdb.baseline.calibration import NAME
from pytest_vdb.baseline.migrate import SCHEMA, migrate
from pytest_vdb.baseline.validate import check, parse
from pytest_vdb.errors import BaselineError
from pytest_vdb.records import BASE, Baseline, Record

ANEW = "move it away and write it anew with --vdb-update"


@dataclass(frozen=True)
class BaselineFile(Record):
    """``workloads`` by workload hash; ``tests`` maps a test to {workload hash: [names]}."""

    model: str
    environment: dict[str, str]
    workloads: dict[str, Baseline] = field(default_factory=dict)
    tests: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **super().to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            model=data["model"],
            environment=data["environment"],
            workloads={k: Baseline.from_json(w) for k, w in data["workloads"].items()},
            tests=data["tests"],
        )

    def gating(self) -> Self:
        """Without sessions of changes: a run is compared with those of the base branch alone."""
        workloads = {k: _base_sessions(baseline) for k, baseline in self.workloads.items()}
        return replace(self, workloads=workloads)

    def dumps(self) -> str:
        return json.dumps(self.to_json(), indent=1, sort_keys=True, allow_nan=False) + "\n"


def _base_sessions(baseline: Baseline) -> Baseline:
    sessions = {date: s for date, s in baseline.sessions.items() if s.source == BASE}
    if sessions.keys() == baseline.sessions.keys():
        return baseline
    measurements = {
        name: replace(stored, sessions=kept)
        for name, stored in baseline.measurements.items()
        if (kept := {date: v for date, v in stored.sessions.items() if date in sessions})
    }
    return replace(baseline, sessions=sessions, measurements=measurements)


def read(path: Path) -> BaselineFile | None:
    """The file at ``path``, None where there is none; BaselineError where it cannot be trusted."""
    text = text_of(path)
    return None if text is None else loads(text, str(path), restore(path))


def files_below(root: Path) -> list[Path]:
    """The baseline files of a folder: no media, calibrations or drafts."""
    found = (path.relative_to(root) for path in sorted(root.glob("*/*/**/*.json")))
    return [
        root / path
        for path in found
        if path.parts[0] != "media" and path.name != NAME and not path.name.startswith(".")
    ]


def text_of(path: Path) -> str | None:
    """What ``path`` holds, None where there is no such file. Raises BaselineError."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise BaselineError(f"{path} cannot be read: {error}") from None


def restore(path: Path) -> str:
    """What to do with a file of the working tree that cannot be trusted."""
    return f"restore it from version control: git checkout -- {path}"


def loads(text: str, where: str, restore: str) -> BaselineFile:
    """The file whose text this is, also of an older schema; it came from ``where``.

    Raises BaselineError where it cannot be trusted; ``restore`` says what to do then.
    """
    try:
        data = parse(text)
    except ValueError as error:
        raise BaselineError(f"{where} is corrupt ({error}); {restore}") from None
    schema = data.get("schema") if isinstance(data, dict) else None
    if type(schema) is not int or not 1 <= schema <= SCHEMA:
        newer = type(schema) is int and schema > SCHEMA
        age = "a newer" if newer else "an older"
        todo = "upgrade pytest-vdb" if newer else ANEW
        raise BaselineError(
            f"{where} has schema {schema!r}, of {age} pytest-vdb; this one reads 1 to {SCHEMA}: "
            f"{todo}"
        )
    try:
        file = BaselineFile.from_json(migrate(data))
        check(file)
    except (KeyError, TypeError, AttributeError) as error:
        raise BaselineError(f"{where} is corrupt ({error!r}); {restore}") from None
    except (ValueError, RecursionError) as error:
        raise BaselineError(f"{where} is corrupt ({error}); {restore}") from None
    return file
