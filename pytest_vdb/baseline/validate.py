"""What a file may hold: people merge, edit and send them, so nothing in one is trusted."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pytest_vdb.names import CONTROL
from pytest_vdb.records import BASE, CHANGE, Acceptance, Baseline, Session, State, Stored

if TYPE_CHECKING:
    from pytest_vdb.baseline.schema import BaselineFile

SHA256 = re.compile(r"[0-9a-f]{64}")
ACCEPTABLE = (State.REGRESSION, State.NO_BASELINE, State.INCONCLUSIVE)
"""What a person can let stand: a number that is worse, or one without a comparison."""


def parse(text: str) -> Any:
    """The JSON value of ``text``; ValueError for what is none, NaN, or a number without end."""
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError as error:
        raise ValueError(str(error)) from None


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no measurement")


def _finite(text: str) -> float:
    """A number as Python reads it, where it has room for it: ``1e999`` would be infinite."""
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def check(file: BaselineFile) -> None:
    """Raise ValueError, saying what is wrong and where, for content that nobody may use."""
    check_name(file.model, "model")
    _texts(file.environment, "environment")
    for test, index in _items(file.tests, "tests"):
        for key, names in _items(index, f"tests: {test}"):
            where = f"tests: {test}: {key}"
            _require(isinstance(names, list), names, "a list of measurements", where)
            for name in names:
                check_name(name, where)
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
    check_name(session.date, f"{where}: date")
    _text(session.commit, f"{where}: commit")
    _texts(session.facts, f"{where}: facts")
    known = (BASE, CHANGE)
    _require(session.source in known, session.source, "base or change", f"{where}: source")


def _check_stored(stored: Stored, sessions: Mapping[str, Session], where: str) -> None:
    _text(stored.unit, f"{where}: unit")
    check_direction(stored.direction, where)
    _provenance(stored.provenance, f"{where}: provenance")
    _require(stored.sessions, stored.sessions, "at least one session", where)
    for key, values in _items(stored.sessions, where):
        _require(key in sessions, key, "one of its workload's sessions", where)
        _require(values, values, "at least one value", f"{where}: {key}")
        _numbers(values, f"{where}: {key}")


def check_acceptance(entry: Acceptance, where: str) -> None:
    """Raise ValueError, saying what is wrong and where, for an entry that nobody may honour."""
    for name in ("nodeid", "model", "workload", "environment", "measurement", "reason", "date"):
        check_name(getattr(entry, name), f"{where}: {name}")
    for name in ("unit", "commit", "compared", "on_trust"):
        _text(getattr(entry, name), f"{where}: {name}")
    check_direction(entry.direction, where)
    _provenance(entry.provenance, f"{where}: provenance")
    _require(entry.state in ACCEPTABLE, entry.state, " or ".join(ACCEPTABLE), where)
    _require(isinstance(entry.relative, bool), entry.relative, "true or false", where)
    if entry.tolerance is not None:
        _text(entry.tolerance, f"{where}: tolerance")
    for name in ("old", "new", "effect"):
        value = getattr(entry, name)
        if value is not None or (entry.state is not State.NO_BASELINE and name != "new"):
            check_number(value, f"{where}: {name}")
    if entry.interval is not None:
        _require(len(entry.interval) == 2, entry.interval, "two numbers", f"{where}: interval")
        for bound in entry.interval:
            check_number(bound, f"{where}: interval")
        if entry.effect is not None:
            _require(
                _within(entry.effect, entry.interval),
                entry.effect,
                f"within its interval {entry.interval}",
                f"{where}: effect",
            )
    _numbers(entry.values, f"{where}: values")


def _within(value: float, interval: tuple[float, float]) -> bool:
    """Also where it is written with fewer digits."""
    low, high = interval
    slack = 1e-9 * max(abs(low), abs(high))
    return low - slack <= value <= high + slack


def check_direction(value: Any, where: str) -> None:
    _require(value in ("higher", "lower"), value, "higher or lower", f"{where}: direction")


def check_number(value: Any, where: str) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fine = number and abs(value) <= sys.float_info.max
    _require(fine, value, "a finite number", where)


def _numbers(values: Any, where: str) -> None:
    for sample, value in _items(values, where):
        check_number(value, f"{where}: {sample}")


def _provenance(value: Any, where: str) -> None:
    for key, text in _items(value, where):
        fine = isinstance(text, str) or (text is None and key == "weights")
        _require(fine, text, "a text", f"{where}: {key}")


def _items(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    """The members of an object whose keys are names."""
    _require(isinstance(value, dict), value, "an object", where)
    for key, member in value.items():
        check_name(key, where)
        yield key, member


def _texts(value: Any, where: str) -> None:
    for key, text in _items(value, where):
        _text(text, f"{where}: {key}")


def _text(value: Any, where: str) -> None:
    _require(isinstance(value, str), value, "a text", where)


def check_name(value: Any, where: str) -> None:
    fine = isinstance(value, str) and value.strip() and not CONTROL.search(value)
    _require(fine, value, "a name without control characters", where)


def _require(fine: object, value: Any, wanted: str, where: str) -> None:
    if not fine:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else f"{shown[:60]}…"
        raise ValueError(f"{shown} is not {wanted}, in {where}")
