"""``--vdb-csv``: one row a measurement, for spreadsheets and data frames.

Text is quoted and control characters are spelled out, so a row is a line. What a spreadsheet would
take for a formula gets an apostrophe before it, which spreadsheets read as "this is text".
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vdb.baseline.store import write_atomically
from pytest_vdb.records import Json
from pytest_vdb.units import plain

if TYPE_CHECKING:
    from pytest_vdb.report.writers import Context

STATISTICS = ("mean", "median", "min", "max", "std", "p95")
VERDICT = ("baseline", "effect", "relative", "tolerance", "p", "state", "consequence", "reason")
COLUMNS = (
    *("nodeid", "outcome", "model", "workload", "call", "measurement", "kind", "unit"),
    *("direction", "headline", "value", "n", *STATISTICS),
    *(*VERDICT[:2], "effect_low", "effect_high", *VERDICT[2:]),
    *("device", "commit"),
)
FORMULAS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
"""How a cell begins that a spreadsheet computes; of full width in East Asian locales."""

Cell = str | float | None


def write(run: dict[str, Json], target: Path, context: Context) -> None:
    """Raises BaselineWriteError where ``target`` cannot be written."""
    write_atomically(target, text(run))


def text(run: Mapping[str, Json]) -> str:
    """The run (docs/json.md) with a head; what is not known is an empty cell."""
    lines = io.StringIO()
    table = csv.writer(lines, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    table.writerow(COLUMNS)
    facts = run["environment"].get("facts", {})
    ending = {"device": facts.get("device"), "commit": run.get("commit")}
    for test in run["tests"]:
        for measurement in test["measurements"]:
            row = {**_of_test(test), **_of(measurement), **ending}
            table.writerow([_inert(row[column]) for column in COLUMNS])
    return lines.getvalue()


def _of_test(test: Mapping[str, Json]) -> dict[str, Cell]:
    workload = test["workload"] or {}
    return {
        "nodeid": test["nodeid"],
        "outcome": test["outcome"],
        "model": (test["model"] or {}).get("name"),
        "workload": workload.get("hash"),
        "call": json.dumps(workload["call"], sort_keys=True) if "call" in workload else None,
    }


def _of(m: Mapping[str, Json]) -> dict[str, Cell]:
    verdict = m["verdict"]
    low, high = verdict["interval"] or (None, None)
    return {
        "measurement": m["name"],
        **{name: m[name] for name in ("kind", "unit", "direction", "headline")},
        "value": m["statistics"].get(m["headline"]),
        "n": len(m["samples"]),
        **{name: m["statistics"].get(name) for name in STATISTICS},
        **{name: verdict[name] for name in VERDICT},
        "effect_low": low,
        "effect_high": high,
        # without a comparison there is nothing that is relative
        "relative": None if verdict["effect"] is None else str(verdict["relative"]).lower(),
    }


def _inert(cell: Cell) -> Cell:
    """A cell that no spreadsheet computes: numbers as they are, text as text."""
    if not isinstance(cell, str):
        return cell
    shown = plain(cell)
    return f"'{shown}" if shown.lstrip().startswith(FORMULAS) else shown
