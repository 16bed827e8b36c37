"""``accepted/*.json``: what people have reviewed and let stand (docs/accepting.md).

A file is small and diffable, and holds the entries that were accepted of one run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_vdb.baseline.store import write_atomically
from pytest_vdb.baseline.validate import check_acceptance, parse
from pytest_vdb.errors import BaselineError
from pytest_vdb.records import Acceptance

SCHEMA = 1


@dataclass(frozen=True)
class Found:
    """An entry and the name of its file."""

    entry: Acceptance
    file: str


class Accepted:
    """All entries of a folder. Of several for the same measurement the newest counts."""

    def __init__(self, folder: Path) -> None:
        """Raises BaselineError for a file that cannot be trusted."""
        found = [
            Found(entry, f"{folder.name}/{path.name}")
            for path in sorted(folder.glob("*.json"))
            for entry in read(path)
        ]
        found.sort(key=lambda one: one.entry.date)
        self._newest = {one.entry.key: one for one in found}

    def find(
        self, nodeid: str, model: str, workload: str, environment: str, measurement: str
    ) -> Found | None:
        """The newest entry about this measurement; ``workload`` is the workload's hash."""
        return self._newest.get((nodeid, model, workload, environment, measurement))


def read(path: Path) -> tuple[Acceptance, ...]:
    """The entries of one file; none where there is no file. Raises BaselineError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise BaselineError(f"{path} cannot be read: {error}") from None
    try:
        return _entries(parse(text))
    except (KeyError, TypeError, AttributeError) as error:
        why = repr(error)
    except ValueError as error:
        why = str(error)
    raise BaselineError(
        f"{path} is corrupt ({why}); restore it from version control, or remove it and accept anew"
    ) from None


def _entries(data: Any) -> tuple[Acceptance, ...]:
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise ValueError(f"it is not of schema {SCHEMA}, which this pytest-vdb reads")
    entries = []
    for number, one in enumerate(data["entries"], 1):
        entry = Acceptance.from_json(one)
        check_acceptance(entry, f"entry {number}")
        entries.append(entry)
    return tuple(entries)


def add(path: Path, entries: Iterable[Acceptance]) -> None:
    """Write ``entries`` into ``path``, over older ones about the same; others stay.

    Raises BaselineError where the file cannot be trusted, BaselineWriteError.
    """
    merged = {entry.key: entry for entry in (*read(path), *entries)}
    data = {"schema": SCHEMA, "entries": [merged[key].to_json() for key in sorted(merged)]}
    write_atomically(path, json.dumps(data, indent=1, allow_nan=False) + "\n")
