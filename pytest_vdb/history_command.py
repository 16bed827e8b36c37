"""``vdb history``: a model's measurements over stored sessions and commits (docs/history.md)."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from pytest_vdb.baseline import history
from pytest_vdb.baseline.history import Found, Key, Point, Series
from pytest_vdb.baseline.remote import is_url
from pytest_vdb.errors import BadSetting, nearest
from pytest_vdb.names import slug
from pytest_vdb.records import Json
from pytest_vdb.report import changes
from pytest_vdb.report.changes import Change
from pytest_vdb.statistic import STATISTICS, headline_of
from pytest_vdb.units import columns, plain, show


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="the model's name, as --vdb-model has it")
    parser.add_argument(
        "--runs",
        nargs="+",
        default=[],
        type=Path,
        metavar="RUN.json",
        help="files of --vdb-json to show beside",
    )
    parser.add_argument(
        "--baselines",
        default="baselines",
        metavar="DIR",
        help="folder of the baselines (baselines)",
    )
    parser.add_argument(
        "--measurement", default="*", metavar="GLOB", help="of these alone, e.g. 'latency*'"
    )
    parser.add_argument(
        "--no-git", action="store_true", help="only what the files hold now, not older versions"
    )
    parser.add_argument("--json", action="store_true", help="write JSON")


def run(options: argparse.Namespace) -> int:
    """Print the series. Raises BadSetting, BaselineError, BadRun."""
    found, notes = _gather(options)
    chosen = {k: s for k, s in sorted(found.items()) if fnmatchcase(k.name, options.measurement)}
    if not chosen:
        known = {key.name for key in found}
        hint = nearest(options.measurement, known)
        raise BadSetting(f"vdb history: --measurement {options.measurement!r}: {hint}")
    if options.json:
        print(json.dumps([_as_json(key, series) for key, series in chosen.items()], indent=1))
        return 0
    for line in (*_blocks(chosen), *notes):
        print(plain(line))
    return 0


def _gather(options: argparse.Namespace) -> tuple[Found, list[str]]:
    if is_url(options.baselines):
        raise BadSetting("vdb history reads a folder: give --baselines=DIR a copy of what is there")
    root = Path(options.baselines)
    found, notes = history.stored(root, options.model, git=not options.no_git)
    for path in options.runs:
        if not history.add_run(found, path, options.model):
            notes.append(f"{path} says nothing of {options.model}")
    if not found:
        known = history.models(root)
        hint = nearest(slug(options.model), known) if known else f"{root} holds no baselines"
        raise BadSetting(f"vdb history: nothing is stored of {options.model!r}: {hint}")
    return found, notes


def level(point: Point, unit: str) -> float:
    """What stands for a session."""
    return STATISTICS[headline_of(unit)](list(point.values.values()))


def _changes(series: Series) -> list[Change] | str:
    """Change points; or why none were looked for."""
    points = series.ordered
    if len(points) < changes.LEAST:
        return f"{len(points)} of the {changes.LEAST} sessions that it takes to tell a change"
    if not changes.installed():
        return changes.INSTALL
    return changes.find([level(point, series.unit) for point in points])


def _blocks(found: Found) -> Iterator[str]:
    for key, series in found.items():
        where = f"{key.benchmark}, workload {key.workload}, on {key.environment}"
        yield f"{key.name} ({headline_of(series.unit)}; {series.direction} is better): {where}"
        yield from _block(series)


def _block(series: Series) -> Iterator[str]:
    """Sessions, oldest first, with a line where the mean changes."""
    points, found = series.ordered, _changes(series)
    at = {} if isinstance(found, str) else {change.index: change for change in found}
    rows = columns([_row(point, series.unit) for point in points])
    for index, row in enumerate(rows):
        if index in at:
            yield f"  ---- {_told(at[index], series)}"
        yield f"  {row}"
    if isinstance(found, str):
        yield f"  {found}"


def _row(point: Point, unit: str) -> tuple[str, ...]:
    numbers = list(point.values.values())
    span = f"{show(min(numbers), unit)} to {show(max(numbers), unit)}" if len(numbers) > 1 else ""
    date = re.sub(r"T(\d\d:\d\d).*", r" \1", point.date)
    return (date, point.commit or "-", point.source, show(level(point, unit), unit), span)


def _told(change: Change, series: Series) -> str:
    sides = f"{show(change.before, series.unit)} → {show(change.after, series.unit)}"
    worse = (change.after > change.before) == (series.direction == "lower")
    share = f" ({100 * (change.after / change.before - 1):+.1f}%)" if change.before else ""
    return f"changed: {sides}{share}, {'worse' if worse else 'better'} since"


def _as_json(key: Key, series: Series) -> dict[str, Json]:
    found = _changes(series)
    return {
        **key._asdict(),
        "unit": series.unit,
        "direction": series.direction,
        "statistic": headline_of(series.unit),
        "sessions": [_session(point, series.unit) for point in series.ordered],
        "changes": None if isinstance(found, str) else [change.to_json() for change in found],
        "no_changes_because": found if isinstance(found, str) else "",
    }


def _session(point: Point, unit: str) -> dict[str, Json]:
    numbers: Sequence[float] = list(point.values.values())
    return {
        "date": point.date,
        "commit": point.commit,
        "source": point.source,
        "value": level(point, unit),
        "low": min(numbers),
        "high": max(numbers),
        "n": len(numbers),
    }
