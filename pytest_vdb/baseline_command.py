"""``vdb prune`` and ``vdb diff``: what a baselines folder holds, and how two sides differ."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from pytest_vdb.baseline import prune as pruning
from pytest_vdb.baseline import run as runs
from pytest_vdb.baseline import schema
from pytest_vdb.baseline.identity import benchmark_name
from pytest_vdb.baseline.update import lock
from pytest_vdb.errors import BadSetting
from pytest_vdb.names import slug
from pytest_vdb.readers import count
from pytest_vdb.statistic import STATISTICS, headline_of
from pytest_vdb.units import columns, plain, show

# ------------------------------------------------------------------------- prune


def prune_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("baselines", type=Path, help="folder of the baselines")
    parser.add_argument(
        "--store", type=Path, metavar="DIR", help="folder of the media (default: BASELINES/media)"
    )
    parser.add_argument("--sessions", metavar="K", help="keep the latest K of each measurement")
    parser.add_argument(
        "--tests",
        nargs="+",
        metavar="NODEID",
        help="all tests that there are, '-' for those on standard input; others' values go",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would go")


def prune(options: argparse.Namespace) -> None:
    """Remove what nothing names. Raises BadSetting, BaselineError, BaselineWriteError."""
    root, media = options.baselines, options.store or options.baselines / "media"
    for folder in (root, *((media,) if options.store else ())):
        if not folder.is_dir():
            raise BadSetting(f"vdb prune: there is no folder {folder}")
    try:
        keep = None if options.sessions is None else count(options.sessions)
    except BadSetting as error:
        raise BadSetting(f"vdb prune: --sessions: {error}") from None
    # Nobody adds a medium or names one meanwhile. A look alone works where nothing can be written.
    with nullcontext() if options.dry_run else lock(root):
        plan = pruning.plan(root, media, keep=keep, tests=_nodeids(options.tests))
        if not options.dry_run:
            pruning.carry_out(plan)
    verb = "would go" if options.dry_run else "gone"
    for line in (*plan.told, *(f"{path}" for path in (*plan.media, *plan.drafts))):
        print(plain(f"{verb}: {line}"))
    print(f"{len(plan.files)} files changed, {len(plan.media)} media {verb}")


def _nodeids(given: Iterable[str] | None) -> set[str] | None:
    """Of the command line or, for ``-``, of what ``pytest --collect-only -q`` printed."""
    if given is None:
        return None
    lines = [line for one in given for line in (_collected() if one == "-" else [one])]
    return {line.strip() for line in lines if "::" in line}


def _collected() -> list[str]:
    """Standard input. Raises BadSetting where it says that something was not collected."""
    lines = sys.stdin.read().splitlines()
    errors = [line for line in lines if line.startswith("ERROR")]
    if errors:
        raise BadSetting(
            f"vdb prune: --tests -: pytest could not collect everything ({errors[0]}), so tests "
            "that exist are not in this list and their baselines would go; mend that first"
        )
    return lines


# ------------------------------------------------------------------------- diff


def diff_arguments(parser: argparse.ArgumentParser) -> None:
    what = "a file of --vdb-json, a baseline file, or a folder of them"
    parser.add_argument("a", type=Path, metavar="A", help=what)
    parser.add_argument("b", type=Path, metavar="B", help="what A is compared with")


@dataclass(frozen=True)
class Level:
    """One measurement in a number: its ``statistic``."""

    value: float
    unit: str
    statistic: str


Key = tuple[str, str, str, str, str]
"""Model, benchmark file, workload, measurement, environment."""


def diff(options: argparse.Namespace) -> None:
    """A line a measurement: what A and B hold, and the change. No verdict: ``pytest`` gives it."""
    old, new = _levels(options.a), _levels(options.b)
    rows = [_row(one, other, old.get(one), new.get(other)) for one, other in _pairs(old, new)]
    head = ("model, benchmark, measurement", "", "A", "B", "change")
    shown = [[plain(cell) for cell in row] for row in (head, *rows)]
    print("\n".join(columns(shown, left=2)))


def _pairs(old: Mapping[Key, Level], new: Mapping[Key, Level]) -> list[tuple[Key, Key]]:
    """Keys that belong together: equal ones; then those that differ in the environment alone."""
    pairs = [(key, key) for key in old if key in new]
    lone = [key for key in old if key not in new]
    others = [key for key in new if key not in old]
    for key in lone:
        partners = [other for other in others if other[:-1] == key[:-1]]
        rivals = [other for other in lone if other[:-1] == key[:-1]]
        if len(partners) == len(rivals) == 1:
            pairs.append((key, partners[0]))
            others.remove(partners[0])
        else:
            pairs.append((key, key))
    return sorted(pairs + [(key, key) for key in others])


def _row(one: Key, other: Key, a: Level | None, b: Level | None) -> tuple[str, ...]:
    level = a or b
    assert level is not None
    model, benchmark, workload, name, environment = one
    where = f"{model} {benchmark} {workload[:8]} {name}"
    where += f" ({environment} → {other[-1]})" if one != other else f" ({environment})"
    sides = [show(side.value, side.unit) if side else "–" for side in (a, b)]
    change = f"{100 * (b.value / a.value - 1):+.2f}%" if a and b and a.value else "–"
    change = "none" if a and b and a.value == b.value else change
    return (where, level.statistic, *sides, change)


def _levels(path: Path) -> dict[Key, Level]:
    """Of a run, a baseline file, or all baseline files of a folder (its latest sessions)."""
    if path.is_dir():
        files = schema.files_below(path)
        levels = {key: level for file in files for key, level in _stored(file).items()}
        if not levels:
            raise BadSetting(
                f"vdb diff: {path} holds no baselines: name the folder that holds the models' "
                "folders, one file, or a file of --vdb-json"
            )
        return levels
    if not path.is_file():
        raise BadSetting(f"vdb diff: there is no file or folder {path}")
    # A run has tests in a list, a baseline in an index: each reader refuses the other's.
    return _measured(path) if _is_run(path) else _stored(path)


def _is_run(path: Path) -> bool:
    from pytest_vdb.baseline.validate import parse

    try:
        data = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(data, dict) and isinstance(data.get("tests"), list)


def _measured(path: Path) -> dict[Key, Level]:
    return {
        (
            slug(row.model),
            benchmark_name(row.nodeid),
            row.workload.hash,
            row.measurement.name,
            row.environment,
        ): _level(row.measurement.numbers, row.measurement.unit)
        for row in runs.read(path).rows
        if row.measurement.values
    }


def _stored(path: Path) -> dict[Key, Level]:
    file = schema.read(path)
    assert file is not None
    environment = path.absolute()
    while environment.parent.name not in ("", slug(file.model)):
        environment = environment.parent
    benchmark = "/".join(path.absolute().relative_to(environment).with_suffix("").parts)
    return {
        (slug(file.model), benchmark, key, name, environment.name): _level(
            list(stored.sessions[max(stored.sessions)].values()), stored.unit
        )
        for key, baseline in file.workloads.items()
        for name, stored in baseline.measurements.items()
    }


def _level(values: list[float], unit: str) -> Level:
    name = headline_of(unit)
    return Level(STATISTICS[name](values), unit, name)
