"""What a baseline file may hold: people merge and edit it, so nothing in it is trusted."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pytest_vdb.names import CONTROL
from pytest_vdb.records import Baseline, Session, Stored

if TYPE_CHECKING:
    from pytest_vdb.baseline.schema import BaselineFile

SHA256 = re.compile(r"[0-9a-f]{64}")


def check(file: BaselineFile) -> None:
    """Raise ValueError, saying what is wrong and where, for content that nobody may use."""
    _name(file.model, "model")
    _texts(file.environment, "environment")
    for test, index in _items(file.tests, "tests"):
        for key, names in _items(index, f"tests: {test}"):
            where = f"tests: {test}: {key}"
            _require(isinstance(names, list), names, "a list of measurements", where)
            for name in names:
                _name(name, where)
    for key, baseline in file.workloads.items():
        ours = baseline.workload.hash
        _require(ours == key, key, f"its hash {ours}, so it was edited by hand", "workload")
        _check_baseline(baseline, key)


def _check_baseline(baseline: Baseline, where: str) -> None:
    for key, session in _items(baseline.sessions, f"{where}: sessions"):
        _check_session(session, f"{where}: sessions: {key}")
    for name, stored in _items(baseline.measurements, f"{where}: measurements"):
        _check_stored(stored, baseline.sessions, f"{where}: {name}")
    for sample, roles in _items(baseline.media, f"{where}: media"):
        at = f"{where}: media: {sample}"
        for _, sha256 in _items(roles, at):
            fine = isinstance(sha256, str) and SHA256.fullmatch(sha256)
            _require(fine, sha256, "a sha256 of 64 hex digits", at)
        _require("frames" in roles, roles, "media with 'frames'", at)


def _check_session(session: Session, where: str) -> None:
    _name(session.date, f"{where}: date")
    _require(isinstance(session.commit, str), session.commit, "a text", f"{where}: commit")
    _texts(session.facts, f"{where}: facts")


def _check_stored(stored: Stored, sessions: Mapping[str, Session], where: str) -> None:
    _require(isinstance(stored.unit, str), stored.unit, "a text", f"{where}: unit")
    known = ("higher", "lower")
    _require(stored.direction in known, stored.direction, "higher or lower", f"{where}: direction")
    for key, text in _items(stored.provenance, f"{where}: provenance"):
        fine = isinstance(text, str) or (text is None and key == "weights")
        _require(fine, text, "a text", f"{where}: provenance: {key}")
    _require(stored.sessions, stored.sessions, "at least one session", where)
    for key, values in _items(stored.sessions, where):
        _require(key in sessions, key, "one of its workload's sessions", where)
        _require(values, values, "at least one value", f"{where}: {key}")
        for sample, value in _items(values, f"{where}: {key}"):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            fine = number and abs(value) <= sys.float_info.max
            _require(fine, value, "a finite number", f"{where}: {key}: {sample}")


def _items(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    """The members of an object whose keys are names."""
    _require(isinstance(value, dict), value, "an object", where)
    for key, member in value.items():
        _name(key, where)
        yield key, member


def _texts(value: Any, where: str) -> None:
    for key, text in _items(value, where):
        _require(isinstance(text, str), text, "a text", f"{where}: {key}")


def _name(value: Any, where: str) -> None:
    fine = isinstance(value, str) and value.strip() and not CONTROL.search(value)
    _require(fine, value, "a name without control characters", where)


def _require(fine: object, value: Any, wanted: str, where: str) -> None:
    if not fine:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else f"{shown[:60]}…"
        raise ValueError(f"{shown} is not {wanted}, in {where}")
