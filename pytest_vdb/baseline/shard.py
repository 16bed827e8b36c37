"""The records of shards (docs/shards.md), read back and held against each other.

They may come from anybody, so nothing in one is trusted. What they say must be whole, agree with
itself, and be of one run: honest it may still not be.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from pytest_vdb.baseline import run as runs
from pytest_vdb.baseline.identity import relative_path, test_name
from pytest_vdb.baseline.schema import BaselineFile
from pytest_vdb.baseline.store import named_in, write_atomically
from pytest_vdb.baseline.update import Update, merge, read_update
from pytest_vdb.baseline.validate import SHA256, check, check_name, check_number
from pytest_vdb.errors import BadRun
from pytest_vdb.names import digest, file_sha256
from pytest_vdb.records import BASE, CHANGE, Environment, Json, Session

FAILED = frozenset({"failed", "error"})
OUTCOMES = frozenset({"passed", "skipped", *FAILED})
ENDED = frozenset({0, 1, 5, 10})
"""Exit codes of sessions that ended by themselves, whatever their tests did."""


@dataclass(frozen=True)
class ShardRun:
    """One shard's record, whose parts are sound. ``run`` is the JSON of the whole file."""

    path: Path
    run: dict[str, Json]

    @property
    def shard(self) -> dict[str, Json]:
        return dict(self.run["shard"])

    @property
    def index(self) -> int:
        return int(self.run["shard"]["index"])

    @property
    def count(self) -> int:
        return int(self.run["shard"]["count"])

    def __str__(self) -> str:
        return f"shard {self.index}/{self.count} ({self.path})"


def read(path: Path) -> ShardRun:
    """The record at ``path``. Raises BadRun, which says what is wrong with it."""
    data = runs.read(path).run
    if "shard" not in data:
        raise BadRun(f"{path} is a whole run and no shard of one: --vdb-shard=I/N makes those")
    try:
        _check(data, data["shard"])
    except (KeyError, TypeError, AttributeError) as error:
        raise BadRun(f"{path} is no record of a shard ({error!r})") from None
    except (ValueError, RecursionError) as error:
        raise BadRun(f"{path} is no record of a shard ({error})") from None
    return ShardRun(path, data)


def _check(run: dict[str, Json], shard: dict[str, Json]) -> None:
    """Raise ValueError, saying what is wrong and where."""
    index, count = shard["index"], shard["count"]
    _require(type(index) is int and type(count) is int and 1 <= index <= count, "shard: index")
    _require(type(run["exit"]) is int and 0 <= run["exit"] < 256, "exit")
    selected, tests = _names(shard["selected"], "selected"), _names(shard["tests"], "tests")
    _require({*tests} <= {*selected}, "shard: tests, which were not all selected")
    for name in ("selection", "durations", "split"):
        _require(not shard[name] or SHA256.fullmatch(shard[name]), f"shard: {name}")
    _require(not selected or shard["selection"] == digest(sorted(selected)), "shard: selection")
    for nodeid, result in shard["results"].items():
        _require(nodeid in tests, f"shard: results: {nodeid}, which is another shard's")
        _check_result(result, f"shard: results: {nodeid}")
    _check_policy(shard["policy"])
    datetime.fromisoformat(shard["started"])
    for name in ("trouble", "notes"):
        _require(all(isinstance(line, str) for line in shard[name]), f"shard: {name}")
    for phase, seconds in run["timing"].items():
        check_name(phase, "timing")
        check_number(seconds, f"timing: {phase}")
    for flag in run.get("flags", ()):
        check_name(flag, "flags")
    check_number(run.get("gpu_seconds") or 0.0, "gpu_seconds")
    for name, facts in run["environment"].items():
        _texts(facts, f"environment: {name}")
    _check_tests(run, shard)
    for update in shard["updates"]:
        _check_update(update, run)


def _check_result(result: dict[str, Json], where: str) -> None:
    for outcome in result["outcomes"]:
        check_name(outcome, where)
    for name in ("seconds", "load"):
        check_number(result[name], f"{where}: {name}")
        _require(result[name] >= 0, f"{where}: {name}")
    for name in ("why", "pipeline"):
        _require(isinstance(result[name], str), f"{where}: {name}")


def _check_policy(policy: dict[str, Json]) -> None:
    for name in ("update", "honour_accepted", "prove"):
        _require(isinstance(policy[name], bool), f"shard: policy: {name}")
    _require(policy["update_mode"] in ("missing", "all"), "shard: policy: update_mode")
    _require(policy["run_source"] in (BASE, CHANGE), "shard: policy: run_source")
    sessions, least = policy["sessions"], policy["prove_min"]
    _require(type(sessions) is int and sessions > 0, "shard: policy: sessions")
    _require(least is None or 0 <= least <= 1, "shard: policy: prove_min")


def _check_tests(run: dict[str, Json], shard: dict[str, Json]) -> None:
    """What the tests say of themselves, of each other, and of the exit code."""
    ids = _names([test["nodeid"] for test in run["tests"]], "tests")
    _require({*ids} <= {*shard["tests"]}, "tests, of which one is another shard's")
    results, code = shard["results"], run["exit"]
    for test in run["tests"]:
        where = f"tests: {test['nodeid']}: outcome"
        _require(test["outcome"] in OUTCOMES, where)
        acts = {entry["verdict"]["consequence"] for entry in test["measurements"]}
        if test["outcome"] == "passed" and acts & {"fail", "error"}:
            raise ValueError(f"a test that passed although its verdict says {acts}, in {where}")
        if test["outcome"] in FAILED and not _failed(results.get(test["nodeid"])):
            raise ValueError(f"a test that failed, and its result says that it did not, in {where}")
    failed = [nodeid for nodeid, result in results.items() if _failed(result)]
    never = [nodeid for nodeid in shard["tests"] if nodeid not in results]
    if code in (0, 5) and failed + never:
        did = "failed" if failed else "never ran"
        raise ValueError(f"it ended with exit code {code}, and {(failed + never)[0]} {did}")
    if code == 10 and any("failed" in results[nodeid]["outcomes"] for nodeid in failed):
        raise ValueError("it ended with exit code 10, and more than the infrastructure failed")


def _failed(result: Mapping[str, Json] | None) -> bool:
    return result is not None and bool(FAILED & {*result["outcomes"]})


def _check_update(data: dict[str, Json], run: dict[str, Json]) -> None:
    """It must be what a test that passed would store, in that test's own file."""
    nodeid = data["nodeid"]
    passed = [t["nodeid"] for t in run["tests"] if t["outcome"] == "passed"]
    _require(run["shard"]["policy"]["update"] is True, "shard: updates, without --vdb-update")
    _require(nodeid in passed, f"shard: updates: {nodeid}, which did not pass")
    update = update_of(data)
    _texts(update.environment, f"shard: updates: {nodeid}: environment")
    theirs = relative_path(update.model, Environment(update.environment), nodeid)
    _require(update.path == theirs, f"shard: updates: {nodeid}: path")
    _require(update.test == test_name(nodeid), f"shard: updates: {nodeid}: test")
    _names([*update.distances], f"updates: {nodeid}: distances")
    empty = BaselineFile(update.model, update.environment)
    check(merge(empty, update, Session("now", ""), mode="all", keep=1))


def update_of(data: Mapping[str, Json]) -> Update:
    """An entry of ``updates`` as `baseline.update.apply` takes it."""
    return read_update({key: value for key, value in data.items() if key != "nodeid"})


def _names(values: Any, where: str) -> list[str]:
    _require(isinstance(values, list), f"shard: {where}")
    for value in values:
        check_name(value, f"shard: {where}")
    _require(len({*values}) == len(values), f"shard: {where}, one of them twice")
    return list(values)


def _texts(values: Any, where: str) -> dict[str, str]:
    for key, text in values.items():
        check_name(key, where)
        _require(isinstance(text, str), f"{where}: {key}")
    return dict(values)


def _require(fine: object, where: str) -> None:
    if not fine:
        raise ValueError(f"what no shard writes, in {where}")


# ------------------------------------------------------------------------- all of one run


def together(found: Iterable[ShardRun]) -> list[ShardRun]:
    """The shards of one run, in order. Raises BadRun: one is missing or doubled, they are not of
    the same run, or a test is in none of them or in two."""
    shards = sorted(found, key=lambda one: one.index)
    first = shards[0]
    for one in shards:
        if one.count != first.count:
            raise BadRun(f"{first} and {one} are of different splits: merge those of one run")
    for before, one in pairwise(shards):
        if before.index == one.index:
            raise BadRun(
                f"shard {one.index}/{one.count} is there twice: {before.path} and {one.path}; "
                "leave one of them out"
            )
    there = {one.index for one in shards}
    if missing := [f"{i}/{first.count}" for i in range(1, first.count + 1) if i not in there]:
        raise BadRun(
            f"shard {', '.join(missing)} is missing: its job has not run, or was killed before it "
            "wrote its record (a .partial file tells how far it came); run it again"
        )
    for one in shards[1:]:
        _check_alike(first, one)
    _check_whole(shards)
    return shards


def _check_alike(first: ShardRun, one: ShardRun) -> None:
    """Two shards of one run had the same code, flags, selection and split. Raises BadRun."""
    for name, what in (("commit", "commits"), ("gate_edits", "states of --vdb-baseline-ref")):
        if first.run.get(name) != one.run.get(name):
            said = [str(of.run.get(name))[:60] for of in (first, one)]
            raise BadRun(f"{first} and {one} ran on different {what}: {said[0]} and {said[1]}")
    for name, ours in first.shard["policy"].items():
        theirs = one.shard["policy"].get(name)
        if ours != theirs:
            raise BadRun(
                f"{first} and {one} ran under different settings: {name} was {ours} and {theirs}; "
                "all jobs of a run take the same flags"
            )
    for shard in (first, one):
        if not shard.shard["split"]:
            raise BadRun(
                f"{shard} ended with exit code {shard.run['exit']} before its tests were "
                "collected; its job says why"
            )
    if differ := {*first.shard["selected"]} ^ {*one.shard["selected"]}:
        which = sorted(differ)[0]
        raise BadRun(
            f"{first} and {one} selected different tests ({len(differ)}, such as {which}): -k, "
            "-m, --lf and what is installed must be the same in all jobs"
        )
    if first.shard["durations"] != one.shard["durations"]:
        raise BadRun(
            f"{first} and {one} were split by different durations: give all jobs the same file "
            "of --vdb-durations, as git or one artifact has it, or none"
        )
    if first.shard["split"] != one.shard["split"]:
        raise BadRun(
            f"{first} and {one} were split differently, although they selected the same tests: "
            "the same markers and one version of pytest-vdb in all jobs make one split"
        )


def _check_whole(shards: Sequence[ShardRun]) -> None:
    """Every selected test is in one shard, and in one alone. Raises BadRun."""
    owner: dict[str, ShardRun] = {}
    for one in shards:
        for nodeid in one.shard["tests"]:
            if nodeid in owner:
                raise BadRun(f"{nodeid} is in two shards: {owner[nodeid]} and {one}")
            owner[nodeid] = one
    for nodeid in shards[0].shard["selected"]:
        if nodeid not in owner:
            raise BadRun(f"{nodeid} is in no shard: run all of them again")


# ------------------------------------------------------------------------- media

MEDIUM = re.compile(r"[0-9a-f]{64}\.\w+")


def media_folder(record: Path) -> Path:
    """Where the media of a shard's updates lie: beside its record."""
    return record.with_name(f"{record.stem}.media")


def keep_media(blobs: Path, record: Path, updates: Iterable[Mapping[str, Json]]) -> None:
    """Bring what ``updates`` name beside ``record``, and remove an earlier run's.

    Raises BaselineWriteError.
    """
    folder = media_folder(record)
    wanted = {sha for update in updates for sha in named_in(update["media"])}
    for old in _media(folder):
        if old.stem not in wanted:
            old.unlink(missing_ok=True)
    for blob in _media(blobs):
        if blob.stem in wanted:
            write_atomically(folder / blob.name, blob.open("rb"))


def gather_media(shard: ShardRun, blobs: Path) -> None:
    """Copy the media that ``shard`` names into ``blobs``. Raises BadRun: one is gone or altered."""
    folder = media_folder(shard.path)
    there = {path.stem: path for path in _media(folder)}
    blobs.mkdir(parents=True, exist_ok=True)
    for sha256 in sorted({sha for one in shard.shard["updates"] for sha in named_in(one["media"])}):
        path = there.get(sha256)
        if path is None:
            raise BadRun(
                f"{shard} updates a baseline with medium {sha256[:12]}…, which is not in {folder}: "
                "bring that folder along with the record"
            )
        if file_sha256(path) != sha256:
            raise BadRun(f"{path} does not match its name: it was altered or truncated on its way")
        shutil.copyfile(path, blobs / path.name)


def _media(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*.*")) if MEDIUM.fullmatch(path.name)]
