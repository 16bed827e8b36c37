"""``<model>/<environment key>/calibration.json``: the noise that was seen on one kind of machine.

It lies beside the baselines and is read where they are read: a change cannot loosen its own gate by
a calibration of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from pytest_vdb.baseline.validate import check_name, check_number, parse
from pytest_vdb.errors import BaselineError
from pytest_vdb.names import slug
from pytest_vdb.noise import Calibrated, Noise
from pytest_vdb.records import Environment, Record

if TYPE_CHECKING:
    from pytest_vdb.baseline.store import Store

NAME = "calibration.json"
SCHEMA = 1
KEEP = 10
"""Calibrations that a file holds, at most; the oldest go."""


@dataclass(frozen=True)
class CalibrationFile(Record):
    """Calibrations of one model in one environment, by their date."""

    model: str
    environment: dict[str, str]
    sessions: dict[str, Calibrated] = field(default_factory=dict)

    def dumps(self) -> str:
        data = {"calibration": SCHEMA, **self.to_json()}
        return json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        sessions = {date: Calibrated.from_json(one) for date, one in data["sessions"].items()}
        return cls(data["model"], data["environment"], sessions)


def relative_path(model: str, environment: Environment) -> str:
    return f"{slug(model)}/{environment.key}/{NAME}"


def read(store: Store, relative: str) -> CalibrationFile | None:
    """The file at this path of the baselines, or None. Raises BaselineError."""
    found = store.files.text(relative)
    return None if found is None else loads(*found)


def loads(text: str, where: str, restore: str) -> CalibrationFile:
    """The file whose text this is. Raises BaselineError where it cannot be trusted."""
    try:
        data = parse(text)
        schema = data["calibration"]
        if schema != SCHEMA:
            raise BaselineError(
                f"{where} is a calibration of schema {schema!r}, and this pytest-vdb reads "
                f"{SCHEMA}: upgrade it, or move the file away and run vdb calibrate again"
            )
        file = CalibrationFile.from_json(data)
        _check(file)
    except (KeyError, TypeError, AttributeError) as error:
        raise BaselineError(f"{where} is corrupt ({error!r}); {restore}") from None
    except BaselineError:
        raise
    except ValueError as error:
        raise BaselineError(f"{where} is corrupt ({error}); {restore}") from None
    return file


def add(
    store: Store, relative: str, fresh: CalibrationFile, *, keep: int = KEEP
) -> CalibrationFile:
    """Write the sessions of ``fresh`` beside those that are there, whole and under the lock.

    The latest ``keep`` stay; gives back what the file holds now. Raises BaselineError,
    BaselineWriteError.
    """
    from pytest_vdb.baseline.store import Folder, write_atomically
    from pytest_vdb.baseline.update import lock

    with lock(store.root):
        found = Folder(store.root).text(relative)
        old = {} if found is None else loads(*found).sessions
        sessions = {**old, **fresh.sessions}
        kept = {date: sessions[date] for date in sorted(sessions)[-keep:]}
        file = CalibrationFile(fresh.model, fresh.environment, kept)
        write_atomically(store.root / relative, file.dumps())
    return file


def _check(file: CalibrationFile) -> None:
    """Raise ValueError for content that nobody may use."""
    check_name(file.model, "model")
    for date, one in file.sessions.items():
        if one.date != date or datetime.fromisoformat(date).tzinfo is None:
            raise ValueError(f"{date!r} is no date of a session")
        for name, noise in one.noise.items():
            check_name(name, date)
            _check_noise(noise, f"{date}: {name}")


def _check_noise(noise: Noise, where: str) -> None:
    if not noise.pairs or len(noise.levels) != 2 * len(noise.pairs):
        raise ValueError(f"{len(noise.levels)} levels are not those of its pairs, in {where}")
    for number in (*noise.pairs, *noise.levels, noise.run_sd):
        check_number(number, where)
