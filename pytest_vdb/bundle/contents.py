"""What a bundle holds beside its manifest, and whether its parts agree with each other."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pytest_vdb.baseline import run as runs
from pytest_vdb.baseline.run import RunFile, RunRow
from pytest_vdb.baseline.validate import SHA256, check_name
from pytest_vdb.bundle.archive import Members, is_inside
from pytest_vdb.errors import BadBundle, BadRun
from pytest_vdb.names import file_sha256
from pytest_vdb.records import Json
from pytest_vdb.statistic import summarize

RUN, LOCK, PROMPTS, ENVIRONMENT = "run.json", "lock.txt", "prompts.jsonl", "environment.json"
MEDIA, SOURCE = "media", "source"
MEDIUM = re.compile(r"[0-9a-f]{64}\.\w{1,8}")
PACKAGE = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+_-]+")


@dataclass(frozen=True)
class Contents:
    """A run whose results are ``results``; ``folder`` has its media and its sources."""

    results: Path
    folder: Path

    @cached_property
    def run(self) -> dict[str, Json]:
        """The JSON of the run (docs/json.md). Raises BadRun, also where it was not kept whole."""
        run = self._file.run
        if "shard" in run:
            raise BadRun(f"{self.results} is one shard of a run: bundle a whole one")
        if "kept" not in run or any(
            test["workload"] and "kept" not in test for test in run["tests"]
        ):
            raise BadRun(
                f"{self.results} was written without --vdb-keep, so what it takes to run it again "
                "is not known: run the suite with --vdb-json=PATH --vdb-keep"
            )
        try:
            _check(run)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise BadRun(f"{self.results} holds what no run of ours writes ({error!r})") from None
        return run

    @cached_property
    def _file(self) -> RunFile:
        return runs.read(self.results)

    @property
    def rows(self) -> tuple[RunRow, ...]:
        """Raises BadRun."""
        return self._file.rows

    @property
    def tests(self) -> list[dict[str, Json]]:
        """Those that got to their workload: what can be measured again."""
        return [test for test in self.run["tests"] if test["workload"]]

    @property
    def media(self) -> dict[str, Path]:
        """Files of videos, latents and traces by the sha256 of their content."""
        found = sorted((self.folder / MEDIA).glob("*"))
        return {path.stem: path for path in found if MEDIUM.fullmatch(path.name)}

    @property
    def sources(self) -> dict[str, str]:
        """Sha256 by path of the files that the tests are made of."""
        return {path: sha for test in self.tests for path, sha in test["kept"]["source"].items()}

    def members(self) -> dict[str, bytes | Path]:
        """Everything that a bundle of this run holds. Raises BadRun where a part is not whole."""
        if not self.tests:
            why = "no test got to its workload, so there is nothing to check"
            raise BadRun(f"{self.results}: {why}")
        if found := [*self.problems()]:
            raise BadRun(f"{self.results}: {found[0]}")
        media = {f"{MEDIA}/{path.name}": path for path in self.media.values()}
        sources = {f"{SOURCE}/{name}": self.folder / SOURCE / name for name in self.sources}
        return {RUN: self.results, **self.derived(), **media, **sources}

    def derived(self) -> Members:
        """What a person looks for, drawn from the run: packages, prompts, environment."""
        run, kept = self.run, self.run["kept"]
        weights = {
            test["model"]["name"]: test["kept"]["weights"]["known"]
            or test["kept"]["weights"]["why"]
            for test in self.tests
        }
        told = {
            **{name: run[name] for name in ("started", "commit")},
            **{name: kept[name] for name in ("python", "flags")},
            "environment": run["environment"],
            "weights": weights,
            "metric_weights": self._metric_weights,
        }
        return {
            LOCK: "".join(f"{line}\n" for line in kept["packages"]).encode(),
            PROMPTS: "".join(f"{json.dumps(one)}\n" for one in self._prompts).encode(),
            ENVIRONMENT: (json.dumps(told, indent=1) + "\n").encode(),
        }

    @property
    def _metric_weights(self) -> dict[str, str]:
        found = {row.measurement.name: row.measurement.provenance.weights for row in self.rows}
        return {name: weights for name, weights in sorted(found.items()) if weights}

    @property
    def _prompts(self) -> Iterator[dict[str, Json]]:
        """Each prompt of each workload once, with the sha256 of its text."""
        workloads = {test["workload"]["hash"]: test["workload"] for test in self.tests}
        for key, workload in sorted(workloads.items()):
            for prompt in workload["prompts"]:
                sha256 = hashlib.sha256(prompt["text"].encode()).hexdigest()
                seeds = {"workload": key, "seeds": workload["seeds"]}
                yield {**seeds, **prompt, "text_sha256": sha256}

    def problems(self) -> Iterator[str]:
        """What does not agree: a medium or a source that is not what the run says, a statistic."""
        for test in self.tests:
            nodeid = test["nodeid"]
            if why := test["kept"].get("why"):
                yield f"what {nodeid} was made of was not kept: {why}"
                return
            if (path := nodeid.partition("::")[0]) not in test["kept"]["source"]:
                yield f"the source of {nodeid} was not kept: {path} is not below pytest's root"
        yield from self._wrong_media()
        for name, sha256 in self.sources.items():
            path = self.folder / SOURCE / name
            if not path.is_file() or file_sha256(path) != sha256:
                yield f"{SOURCE}/{name} is not the file that the run was made of"
        yield from self._wrong_statistics()

    def _wrong_media(self) -> Iterator[str]:
        named = {
            (sha256, role)
            for test in self.tests
            for of in ("media", "reference")
            for roles in test["kept"][of].values()
            for role, sha256 in roles.items()
            if role != "frames"
        }
        media = self.media
        for sha256, role in sorted(named):
            path = media.get(sha256)
            if path is None:
                yield f"{MEDIA}/ lacks a {role} of the run, {sha256[:12]}…"
            elif file_sha256(path) != sha256:
                yield f"{MEDIA}/{path.name} does not match its name: it was altered"
        for sha256 in sorted(media.keys() - {sha256 for sha256, _ in named}):
            yield f"{MEDIA}/{media[sha256].name} is in no test of the run"

    def _wrong_statistics(self) -> Iterator[str]:
        told = {
            (test["nodeid"], entry["name"]): entry["statistics"]
            for test in self.tests
            for entry in test["measurements"]
        }
        for row in self.rows:
            ours = summarize(row.measurement)
            theirs = told[row.nodeid, row.measurement.name]
            if theirs.keys() != ours.keys() or not all(
                abs(theirs[name] - ours[name]) <= 1e-9 * abs(ours[name]) for name in ours
            ):
                yield f"{row.measurement.name} of {row.nodeid}: the statistics are not its samples'"


def opened(folder: Path) -> Contents:
    """What an unpacked bundle holds, checked. Raises BadBundle."""
    found = Contents(folder / RUN, folder)
    try:
        if problem := next(found.problems(), None):
            raise BadBundle(problem)
        for name, content in found.derived().items():
            assert isinstance(content, bytes)
            if not (folder / name).is_file() or (folder / name).read_bytes() != content:
                raise BadBundle(f"{name} does not say what {RUN} says")
        expected = {RUN, *found.members()}
    except BadRun as error:
        raise BadBundle(str(error).replace(f"{folder}/", "")) from None
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    if more := sorted(there - expected):
        raise BadBundle(f"{more[0]} is no part of a bundle")
    return found


def _check(run: Mapping[str, Any]) -> None:
    """Raise ValueError for what is kept in a form that nobody may use."""
    kept = run["kept"]
    check_name(run["started"], "started")
    _require(isinstance(run["commit"], str), "commit")
    check_name(kept["python"], "kept: python")
    for text in (*kept["flags"], *kept["pythonpath"], kept["import_mode"]):
        check_name(text, "kept")
    for path in kept["pythonpath"]:
        _require(path == "." or is_inside(path), f"kept: pythonpath: {path}")
    for line in kept["packages"]:
        _require(PACKAGE.fullmatch(line), f"kept: packages: {line}")
    for key, text in kept["ini"].items():
        check_name(key, "kept: ini")
        _require(isinstance(text, str), f"kept: ini: {key}")
    facts = run["environment"]["facts"]
    _require(all(isinstance(text, str) for text in facts.values()), "environment: facts")
    for test in run["tests"]:
        if not test["workload"]:
            continue
        for name in ("quality", "performance"):
            key = test["environments"][name]
            _require(is_inside(key) and "/" not in key, f"{test['nodeid']}: environments")
        for entry in test["measurements"]:
            numbers = entry["statistics"].values()
            _require(
                all(type(one) in (int, float) for one in numbers), f"{entry['name']}: statistics"
            )
            _require(isinstance(entry["provenance"]["device"], str), f"{entry['name']}: device")
        if "why" not in test["kept"]:
            _check_test(test["kept"], test["nodeid"])


def _check_test(kept: Mapping[str, Any], nodeid: str) -> None:
    for name in ("media", "reference"):
        for key, roles in kept[name].items():
            check_name(key, f"{nodeid}: {name}")
            for role, sha256 in roles.items():
                check_name(role, f"{nodeid}: {name}")
                _require(SHA256.fullmatch(sha256), f"{nodeid}: {name}: {sha256}")
    for path, sha256 in kept["source"].items():
        _require(is_inside(path) and SHA256.fullmatch(sha256), f"{nodeid}: source: {path}")
    weights = kept["weights"]
    _require(isinstance(weights["why"], str), f"{nodeid}: weights")
    for text in weights["known"]:
        check_name(text, f"{nodeid}: weights")


def _require(fine: object, where: str) -> None:
    if not fine:
        raise ValueError(f"what no run keeps, in {where}")
