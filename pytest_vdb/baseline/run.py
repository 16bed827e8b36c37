"""The JSON of a run (docs/json.md), read back. It may come from anybody, so nothing is trusted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_vdb.baseline.identity import PERFORMANCE
from pytest_vdb.baseline.validate import check_direction, check_name, check_number, parse
from pytest_vdb.errors import BadRun
from pytest_vdb.records import Measurement, Verdict, Workload

SCHEMA = 1


@dataclass(frozen=True)
class RunRow:
    """One measurement of one test. ``environment`` is the key of its baseline's folder."""

    nodeid: str
    model: str
    workload: Workload
    environment: str
    measurement: Measurement
    verdict: Verdict
    consequence: str


@dataclass(frozen=True)
class RunFile:
    """``run`` is the JSON of the file; ``commit`` is empty where it was made outside git."""

    path: Path
    run: dict[str, Any]
    sha256: str
    commit: str
    rows: tuple[RunRow, ...]


def read(path: Path) -> RunFile:
    """The run at ``path``; tests that never got to their workload are left out. Raises BadRun."""
    try:
        content = path.read_bytes()
        data = parse(content.decode())
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise ValueError(f"it has no schema {SCHEMA}")
        rows = tuple(row for test in data["tests"] if test["workload"] for row in _rows(test))
        commit = data.get("commit", "")
        if commit:
            check_name(commit, "commit")
    except OSError as error:
        raise BadRun(f"{path} cannot be read: {error.strerror or error}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise BadRun(f"{path} is no file of --vdb-json ({error!r})") from None
    except (ValueError, RecursionError) as error:
        raise BadRun(f"{path} is no file of --vdb-json ({error})") from None
    return RunFile(path, data, hashlib.sha256(content).hexdigest(), commit, rows)


def _rows(test: dict[str, Any]) -> list[RunRow]:
    nodeid = test["nodeid"]
    check_name(nodeid, "nodeid")
    workload = Workload.from_json(test["workload"])
    if workload.hash != test["workload"]["hash"]:
        raise ValueError(f"the workload of {nodeid} does not fit its hash")
    model = test["model"]["name"]
    check_name(model, f"{nodeid}: model")
    if "environments" not in test:
        raise ValueError("an older pytest-vdb wrote it, without its environments; run it again")
    rows = []
    for entry in test["measurements"]:
        where = f"{nodeid}: {entry['name']}"
        measurement = _measurement(entry, where)
        environment = test["environments"][
            "performance" if measurement.kind in PERFORMANCE else "quality"
        ]
        check_name(environment, f"{where}: environment")
        if Path(environment).name != environment:  # it names a folder of the baselines
            raise ValueError(f"{environment!r} is no environment's key, in {where}")
        verdict = Verdict.from_json(entry["verdict"])
        _check_verdict(verdict, where)
        consequence = str(entry["verdict"]["consequence"])
        rows.append(RunRow(nodeid, model, workload, environment, measurement, verdict, consequence))
    return rows


def _measurement(entry: dict[str, Any], where: str) -> Measurement:
    read = Measurement.from_run(entry)
    check_name(read.name, f"{where}: name")
    check_name(read.headline, f"{where}: headline")
    check_direction(read.direction, where)
    for value in read.values:
        check_name(value.key, f"{where}: samples")
        check_number(value.value, f"{where}: {value.key}")
    if len(read.by_key) != len(read.values):
        raise ValueError(f"the same sample twice, in {where}")
    return replace(read, unit=str(read.unit))


def _check_verdict(verdict: Verdict, where: str) -> None:
    for value in (verdict.effect, verdict.baseline, verdict.p, *(verdict.interval or ())):
        if value is not None:
            check_number(value, f"{where}: verdict")
    if len(verdict.interval or (0, 0)) != 2:
        raise ValueError(f"an interval of {len(verdict.interval or ())} numbers, in {where}")
    for value in (verdict.reason, verdict.tolerance or ""):
        if not isinstance(value, str):
            raise ValueError(f"{value!r} is not a text, in {where}: verdict")
    if not isinstance(verdict.relative, bool) or not isinstance(verdict.n, int):
        raise ValueError(f"a verdict that is none of ours, in {where}")
