"""Stored seconds of tests and loads: what a placement is planned with. They decide no verdict."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pytest

from pytest_vdb.baseline.store import write_atomically
from pytest_vdb.errors import BadSetting
from pytest_vdb.options import Layers

SCHEMA = 1
KEY = "vdb/durations"
"""In pytest's cache."""


class Durations:
    """Seconds of each test without its load (setup, call and teardown), and of each load.

    They lie in the file of ``--vdb-durations``, which ``--vdb-update`` writes and which several
    machines can share, or else in pytest's cache, which every run with vdb tests writes.
    """

    def __init__(
        self,
        tests: Mapping[str, float] | None = None,
        loads: Mapping[str, float] | None = None,
        path: Path | None = None,
        cache: pytest.Cache | None = None,
    ) -> None:
        self.tests = dict(tests or {})
        self.loads = dict(loads or {})
        self.path = path
        self._cache = cache

    @classmethod
    def load(cls, config: pytest.Config) -> Self:
        """What is stored; empty where nothing is yet.

        Raises BadSetting for a ``--vdb-durations`` that is no file of durations. An unreadable
        cache is empty.
        """
        name = Layers.of(config).session().durations
        if name is not None:
            path = config.rootpath / name
            return cls(*_read(path), path=path)
        cache: pytest.Cache | None = getattr(config, "cache", None)  # not with -p no:cacheprovider
        if cache is None:
            return cls()
        try:
            return cls(*_parse(cache.get(KEY, None)), cache=cache)
        except ValueError:
            return cls(cache=cache)

    def of(self, nodeid: str) -> float | None:
        """Seconds of one test, without its load; None where it never ran."""
        return self.tests.get(nodeid)

    def load_of(self, group: str) -> float | None:
        """Seconds to load the pipeline of ``group`` (`marker.pipeline_key`); None if not known."""
        return self.loads.get(group)

    def add(self, nodeid: str, seconds: float, group: str = "", load: float = 0.0) -> None:
        """A test that took ``seconds`` in all, of them ``load`` to load the pipeline ``group``."""
        self.tests[nodeid] = round(max(0.0, seconds - load), 4)
        if group and load > 0:
            self.loads[group] = round(load, 4)

    def save(self) -> None:
        """Store everything. Raises BaselineWriteError for the file of ``--vdb-durations``."""
        data = {"schema": SCHEMA, "tests": self.tests, "loads": self.loads}
        if self.path is not None:
            write_atomically(self.path, json.dumps(data, indent=1, sort_keys=True) + "\n")
        elif self._cache is not None:
            self._cache.set(KEY, data)


def _read(path: Path) -> tuple[dict[str, float], dict[str, float]]:
    try:
        return _parse(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}, {}  # the first --vdb-update writes it
    except (OSError, ValueError) as error:
        raise BadSetting(
            f"--vdb-durations: {path} is no file of durations ({error}): name the one that a run "
            "with --vdb-update wrote, or remove it"
        ) from None


def _parse(data: Any) -> tuple[dict[str, float], dict[str, float]]:
    """Tests and loads of a stored file. Raises ValueError."""
    if data is None:
        return {}, {}
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise ValueError(f"its schema is not {SCHEMA}")
    return _seconds(data.get("tests")), _seconds(data.get("loads"))


def _seconds(data: Any) -> dict[str, float]:
    if not isinstance(data, dict):
        raise ValueError("tests and loads are objects of seconds by name")
    for name, value in data.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value < 0:
            raise ValueError(f"{value!r} of {name} is no number of seconds")
    return {name: float(value) for name, value in data.items()}
