"""The run as the controller gathers it: results, baselines to write, seconds by phase."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

import pytest

from pytest_vdb import keep
from pytest_vdb.environment import facts, resolve_device
from pytest_vdb.errors import BadSetting, VdbError
from pytest_vdb.gitrepo import described
from pytest_vdb.names import DATE
from pytest_vdb.records import Environment, Json, Session, State
from pytest_vdb.report import again, github, writers

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_vdb.session import VdbSession
    from pytest_vdb.sharded import Sharded

SCHEMA = 1
OURS: Mapping[str, Json] = {"schema": SCHEMA, "tests": []}
"""What every file of ``--vdb-json`` has."""


class Results:
    """Everything the workers reported. Each test is on disk before the next one is added."""

    def __init__(self, session: VdbSession) -> None:
        self.session = session
        self.tests: list[dict[str, Json]] = []
        self.shown: dict[str, dict[str, Json]] = {}
        """What ``--vdb-html`` shows beside the results, by node id (`pytest_vdb.shown`)."""
        self.no_videos = ""
        # This machine's: a cluster's nodes are in the environments, and it may be out of reach.
        known = facts(resolve_device(session.settings.device))
        if session.settings.cluster is not None:
            known["cluster"] = session.settings.cluster
        if session.workers > 1:
            known["workers"] = str(session.workers)
        self.environment: dict[str, Json] = {"facts": known}
        self._updating = session.settings.update
        self.seconds = dict.fromkeys(session.seconds, 0.0)
        self.gpu_seconds = 0.0
        self.flags = [*again.flags(session.config.invocation_params.args)]
        self.started = datetime.now(UTC)
        self.written: list[str] = []
        self.trouble: list[str] = []  # what fails the run beside its tests: above all, lost writes
        self.notes: list[str] = []
        edits = session.standards.edits
        self.edits: dict[str, Json] | None = edits.to_json() if edits else None
        self._updates: list[dict[str, Json]] = []
        plugins = session.config.pluginmanager
        self.sharded: Sharded | None = plugins.getplugin("vdb-sharded")
        self.reports = targets(session)
        self._path = self.reports.pop("json", None)
        self._partial = self._path.with_name(self._path.name + ".partial") if self._path else None
        # What an earlier run left must not pass for this one's.
        for old in (self._path, self._partial):
            if old and old.is_file():
                check_ours(old)
                old.unlink()
        writers.clear(self.reports)
        if session.settings.keep and self._path is not None:
            keep.clear(self._path)

    @cached_property
    def commit(self) -> str:
        """The commit under test, with ``+`` where the tree has changes; empty outside git."""
        return described(self.session.config.rootpath)

    @property
    def infra(self) -> int:
        """Tests that ended in an infrastructure error."""
        return sum(
            test["outcome"] == "error"
            and any(m["verdict"]["state"] == State.INFRA_ERROR for m in test["measurements"])
            for test in self.tests
        )

    @property
    def proof(self) -> dict[str, Json]:
        """What ``--vdb-prove`` says of each model's tests together."""
        if not self.session.settings.prove:
            return {}
        from pytest_vdb.trial.prove import by_model

        return by_model(self.tests)

    @property
    def sweeps(self) -> list[dict[str, Json]]:
        """What the points of each sweep say together (docs/sweeps.md)."""
        if self.sharded is not None or not any("sweep" in test for test in self.tests):
            return []
        from pytest_vdb.sweeps.table import sweeps

        return sweeps(self.tests, self.session.settings.recommend)

    @property
    def not_updated(self) -> list[str]:
        """Tests whose measurements an update leaves out, since they did not pass."""
        failed = (t["nodeid"] for t in self.tests if t["outcome"] not in ("passed", "skipped"))
        return list(failed) if self._updating else []

    def add(self, data: dict[str, Json]) -> None:
        """One test's record; a rerun replaces the earlier one."""
        test = data["test"]
        environments = zip(("quality", "performance"), test.pop("environments", ()), strict=False)
        for name, environment in environments:
            self.environment.setdefault(name, environment["identity"])
            key = Environment.from_json(environment).key
            test.setdefault("environments", {})[name] = key
        nodeid = test["nodeid"]
        self.shown[nodeid] = test.pop("shown", {})
        self.tests = [t for t in self.tests if t["nodeid"] != nodeid] + [test]
        self._updates = [u for u in self._updates if u["nodeid"] != nodeid]
        self._updates += [{"nodeid": nodeid, **update} for update in data["updates"]]
        for phase, seconds in data["seconds"].items():
            self.seconds[phase] += seconds
        self.gpu_seconds += data.get("gpu_seconds", 0.0)
        self.trouble += data.get("trouble", ())
        self.notes += [note for note in data.get("notes", ()) if note not in self.notes]
        self._append(test)

    def add_lost(self, nodeid: str) -> None:
        """A test whose worker died in it."""
        from pytest_vdb.plugin import NOT_REACHED

        died = {"text": "its xdist worker died in it", "file": None, "line": None}
        test = {"nodeid": nodeid, "outcome": "failed", **NOT_REACHED, "failure": died}
        self.add({"test": test, "updates": [], "seconds": {}})

    def _append(self, test: dict[str, Json]) -> None:
        """Keep what is known so far readable, whatever happens to this process."""
        if self._partial is None:
            return
        try:
            self._partial.parent.mkdir(parents=True, exist_ok=True)
            with self._partial.open("a", encoding="utf-8") as file:
                file.write(json.dumps(test, allow_nan=False) + "\n")
        except OSError as error:
            self.trouble.append(f"{self._partial} was not written: {error.strerror}")
            self._partial = None

    def to_json(self, exit_code: int) -> dict[str, Json]:
        """The run in the form of ``--vdb-json`` (docs/json.md)."""
        return {
            "schema": SCHEMA,
            "exit": exit_code,
            "started": self.started.strftime(DATE),
            "commit": self.commit,
            "flags": self.flags,
            "environment": self.environment,
            "gate_edits": self.edits,
            "tests": self.tests,
            **({"prove": proof} if (proof := self.proof) else {}),
            **({"sweeps": sweeps} if (sweeps := self.sweeps) else {}),
            "timing": {phase: round(seconds, 6) for phase, seconds in self.seconds.items()},
            "gpu_seconds": round(self.gpu_seconds, 6) or None,
            **({"shard": shard.to_json(self, self._updates)} if (shard := self.sharded) else {}),
            **self._kept,
        }

    @property
    def _kept(self) -> dict[str, Json]:
        """What ``--vdb-keep`` says of the run."""
        if not self.session.settings.keep or self.sharded is not None:
            return {}
        return {"kept": keep.of_run(self.session)}

    def _keep(self) -> None:
        """Bring beside the results what a bundle of this run needs."""
        if not self.session.settings.keep or self._path is None:
            return
        try:
            keep.write(self.tests, self._path, self.session)
        except VdbError as error:
            self.trouble.append(f"what vdb bundle needs was not kept: {error}")

    def finish(self, exit_code: int) -> bool:
        """Write baselines and results, call the report hook; False where a write failed.

        A shard writes its results alone: the rest is for those of all shards together.
        """
        if self.sharded is not None:
            self._hand_on(self.sharded)
            self._write(self.to_json(exit_code or int(bool(self.trouble))))
            self.notes.append(self.sharded.told())
            return not self.trouble
        self._update()
        if (least := self.session.settings.prove_min) is not None:
            from pytest_vdb.trial.prove import shortfalls

            self.trouble += shortfalls(self.proof, least)
        self._keep()
        run = self.to_json(exit_code or int(bool(self.trouble)))
        self._write(run)
        self._report(run)
        try:
            self.session.config.hook.pytest_vdb_report(run=json.loads(json.dumps(run)))
        except (Exception, pytest.fail.Exception, pytest.skip.Exception) as error:
            # a report may fail in any way and must change no verdict
            self.notes.append(f"a pytest_vdb_report hook failed: {error!r}")
        return not self.trouble

    def _report(self, run: dict[str, Json]) -> None:
        """Write the reports; where one fails, the run does, and its results say so."""
        before = run["exit"]
        self.trouble += writers.write(run, self.reports, self.context)
        if self.session.settings.github != "off":
            self.trouble += github.summarize(run, self.context, os.environ)
        if self.trouble:
            run["exit"] = run["exit"] or int(pytest.ExitCode.TESTS_FAILED)
        if run["exit"] != before:
            self._write(run)

    def annotations(self) -> list[str]:
        """Lines for the log of a GitHub job, which annotate the change under test."""
        if self.sharded is not None or self.session.settings.github == "off":
            return []
        return github.annotated(self.tests, self.context, os.environ)

    @property
    def context(self) -> writers.Context:
        """What reports may need beside the run."""
        session = self.session
        return writers.Context(
            session.config.rootpath,
            session.settings.report_url or github.run_url(os.environ),
            tuple(self.trouble),
            tuple(self.notes),
            session,
            shown=self.shown,
            no_videos=self.no_videos,
        )

    def _hand_on(self, sharded: Sharded) -> None:
        """Leave beside its record what ``vdb merge`` needs of this shard: the media of its
        updates, and its part of the page."""
        from pytest_vdb.baseline.shard import keep_media

        if self._path is None:
            return
        try:
            keep_media(self.session.scratch / "blobs", self._path, self._updates)
            if self.session.settings.html is not None:
                from pytest_vdb.report import html, kept

                html.write_part(self.to_json(0), kept.part(self._path), self.context)
        except (VdbError, OSError) as error:
            self.trouble.append(f"media were not kept for vdb merge: {error}")

    def take(
        self,
        *,
        tests: list[dict[str, Json]],
        updates: list[dict[str, Json]],
        environment: dict[str, Json],
        seconds: dict[str, float],
        edits: dict[str, Json] | None,
        started: datetime,
        commit: str,
        flags: list[str],
        gpu_seconds: float,
    ) -> None:
        """What the shards of one run gathered, as if this process had."""
        self.tests, self._updates, self.environment = tests, updates, environment
        self.seconds = dict.fromkeys(self.seconds, 0.0) | seconds
        self.edits, self.started, self.commit = edits, started, commit
        self.flags, self.gpu_seconds = flags, gpu_seconds

    def _update(self) -> None:
        if not self._updates:
            return
        from pytest_vdb.baseline import update

        settings = self.session.settings
        session = Session(
            self.started.strftime(DATE),
            self.commit,
            self.environment["facts"],
            self.session.standards.run_source,
        )
        ordered = sorted(self._updates, key=lambda u: (u["nodeid"], u["path"]))
        try:
            self.written = update.apply(
                self.session.store,
                [
                    update.read_update({k: v for k, v in u.items() if k != "nodeid"})
                    for u in ordered
                ],
                session,
                mode=settings.update_mode,
                keep=settings.sessions,
                blobs=self.session.scratch / "blobs",
            )
        except (VdbError, OSError) as error:
            self.trouble.append(f"baselines were not updated: {error}")

    def _write(self, run: dict[str, Json]) -> None:
        if self._path is None:
            return
        from pytest_vdb.baseline.store import write_atomically

        try:
            write_atomically(self._path, json.dumps(run, indent=1, allow_nan=False) + "\n")
        except VdbError as error:
            self.trouble.append(str(error))
        else:
            if self._partial:
                self._partial.unlink(missing_ok=True)


def targets(session: VdbSession) -> dict[str, Path]:
    """The files that this run writes, by the name of their flag.

    A shard writes its record alone: reports are for the run of all shards.
    """
    settings, folder = session.settings, session.config.invocation_params.dir
    results = {} if settings.json is None else {"json": folder / settings.json}
    return results if settings.shard else results | writers.asked(settings, folder)


def check_targets(session: VdbSession) -> None:
    """Raise BadSetting for a path that no report can have, or that something else has."""
    found = targets(session)
    writers.check(found)
    if "json" in found:
        check_target(found["json"])
        if session.settings.keep:
            keep.check(found["json"])


def check_target(path: Path) -> None:
    """Raise BadSetting for a ``--vdb-json`` that is a folder, or a file that no run wrote."""
    writers.check_place("--vdb-json", path)
    for old in (path, path.with_name(path.name + ".partial")):
        if old.is_file():
            check_ours(old)


def check_ours(path: Path) -> None:
    """Raise BadSetting for a file that would be lost: neither empty nor one of ``--vdb-json``.

    In ``pytest --vdb-json test_a.py`` the flag takes the test file for its own.
    """
    from pytest_vdb.baseline.validate import parse

    partial, text = path.suffix == ".partial", ""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.readline() if partial else file.read()
        found = parse(text) if text.strip() else OURS
    except (OSError, ValueError):
        found = None
    # A run that was killed may have left half a line.
    torn = partial and found is None and text.startswith('{"nodeid": ')
    keys = {"nodeid", "outcome"} if partial else OURS.keys()
    if not torn and not (isinstance(found, dict) and (found is OURS or keys <= found.keys())):
        raise BadSetting(
            f"--vdb-json: {path} exists and no run of pytest-vdb wrote it, so it is left alone; "
            "write --vdb-json=PATH with another path, or remove it"
        )
