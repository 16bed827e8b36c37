"""``--vdb-shard``: runs one part of the selected tests and writes what ``vdb merge`` needs."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vdb.baseline.store import write_atomically
from pytest_vdb.errors import VdbError
from pytest_vdb.names import digest
from pytest_vdb.parallel import shards
from pytest_vdb.parallel.durations import Durations
from pytest_vdb.places import public
from pytest_vdb.records import Json

if TYPE_CHECKING:
    from pytest_vdb.options import Settings
    from pytest_vdb.results import Results
    from pytest_vdb.session import VdbSession

POLICY = (
    *("gate", "missing", "inconclusive", "require", "guard_m", "tolerance", "honour_accepted"),
    *("update", "update_mode", "reference", "sessions", "base", "baseline_ref"),
    *("prove", "prove_generate", "prove_min"),
)
"""Settings that decide what a verdict is and does: one run has one of each."""

HASHES = ("selection", "durations", "split")
"""Of what a split was computed from: `shards.Split`."""

WHY = 200
"""Characters of a failure that a record carries: the job's own log has the rest."""


@dataclass
class Outcome:
    """``outcomes`` are pytest's words for each of a test's reports that it counts; ``seconds``
    are those of its setup, body and teardown, ``load`` those of them that loaded ``pipeline``."""

    outcomes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    load: float = 0.0
    pipeline: str = ""
    why: str = ""


class Sharded:
    """Registered in the controller and in each of its workers, where ``--vdb-shard`` is given."""

    def __init__(self, config: pytest.Config, shard: tuple[int, int]) -> None:
        self.config = config
        self.index, self.count = shard
        self.outcomes: dict[str, Outcome] = {}

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def session(self) -> VdbSession:
        from pytest_vdb.stash import session_of

        return session_of(self.config)

    @property
    def _is_worker(self) -> bool:
        return hasattr(self.config, "workerinput")

    # ------------------------------------------------------------------ collection

    @cached_property
    def durations(self) -> Durations:
        """Those of a file that all jobs have: the cache of this machine is nobody else's, and
        differs from shard to shard. Raises BadSetting."""
        stored = Durations.load(self.config)
        return Durations() if stored.path is None else stored

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """What cannot be read ends the run before collection."""
        try:
            _ = self.durations
        except VdbError as error:
            raise pytest.UsageError(str(error)) from None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None]:
        """Split what -k, -m, --lf and all others have left: this is registered after them."""
        yield
        needs = {item.nodeid: self._need(item) for item in items}
        stored = self.durations
        split = shards.split(needs, self.count, stored.tests, stored.loads)
        mine = {*split.shards[self.index - 1]}
        others = [item for item in items if item.nodeid not in mine]
        items[:] = [item for item in items if item.nodeid in mine]
        if others:
            self.config.hook.pytest_deselected(items=others)
        chosen = {
            "selected": [*needs],
            "tests": [nodeid for nodeid in needs if nodeid in mine],
            "selection": split.selection,
            "durations": split.durations,
            "split": split.digest,
        }
        # Under xdist the controller collects nothing; its workers all find the same.
        write_atomically(self._chosen, json.dumps(chosen))

    def _need(self, item: pytest.Item) -> shards.Need:
        """Tests of a pipeline are a group, those of one workload are never parted."""
        from pytest_vdb import marker

        group = marker.pipeline_key(item)
        if not group:
            return shards.plain(item.nodeid)
        s = self.session.layers.resolve(marker.layers(item))
        asked = [s.prompts, s.seeds, s.call, s.runner, s.timeout]
        return shards.Need(group, digest(asked))

    @property
    def _chosen(self) -> Path:
        return self.session.scratch / "shard.json"

    @property
    def chosen(self) -> dict[str, Any]:
        """What was selected and what of it is this shard's; empty where nothing was collected."""
        try:
            return dict(json.loads(self._chosen.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {"selected": [], "tests": [], **dict.fromkeys(HASHES, "")}

    def told(self) -> str:
        """One line for the summary."""
        chosen = self.chosen
        return (
            f"shard {self}: {len(chosen['tests'])} of {len(chosen['selected'])} tests; "
            "vdb merge owns the verdict"
        )

    # ------------------------------------------------------------------ running

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Every test's outcome, as pytest's own summary counts it."""
        if self._is_worker:
            return
        status = self.config.hook.pytest_report_teststatus
        category = status(report=report, config=self.config)[0]
        outcome = self.outcomes.setdefault(report.nodeid, Outcome())
        outcome.seconds += report.duration
        if (data := getattr(report, "vdb", None)) is not None:
            outcome.load += data["seconds"]["load"]
            outcome.pipeline = data["group"]
        if category:
            outcome.outcomes.append(category)
        if report.failed:
            outcome.why = _why(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """More shards than there is to do: one that is empty has not failed."""
        if session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and not self._is_worker:
            chosen = self.chosen
            if chosen["selected"] and not chosen["tests"]:
                session.exitstatus = pytest.ExitCode.OK

    # ------------------------------------------------------------------ the record

    def to_json(self, results: Results, updates: Iterable[dict[str, Json]]) -> dict[str, Json]:
        """The ``shard`` of a run (docs/shards.md)."""
        took = {nodeid: asdict(one) for nodeid, one in self.outcomes.items()}
        for one in took.values():
            one |= {name: round(one[name], 4) for name in ("seconds", "load")}
        return {
            "index": self.index,
            "count": self.count,
            **self.chosen,
            "results": took,
            "policy": policy(self.session.settings, self.session.standards.run_source),
            "started": results.started.isoformat(),
            "trouble": [*results.trouble],
            "notes": [*results.notes],
            "updates": [*updates],
        }


def policy(settings: Settings, run_source: str) -> dict[str, Json]:
    """What all shards of one run have alike."""
    chosen = {name: getattr(settings, name) for name in POLICY}
    chosen["base"] = chosen["base"] and public(chosen["base"])
    return dict(json.loads(json.dumps({**chosen, "run_source": run_source})))


def _why(report: pytest.TestReport) -> str:
    """The first line of what went wrong."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else report.longreprtext.strip()
    return (text.splitlines() or [""])[0][:WHY]
