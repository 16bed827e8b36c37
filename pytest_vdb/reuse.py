"""Whose videos a bench judges: those of this process, of another worker, or of an earlier run.

Quality is judged on *videos*, and costs are taken from a *run* of this very process. So a test
that asserts a score takes the videos that the first process made, and one that asserts a latency
(or both) generates here, whatever is stored:

    vdb.score ──► Bench.videos ──► Shared.borrow ──► found: those videos, without any cost
                                        └─────────► none: Bench.run, while other workers wait
    vdb.latency ► Bench.run ─────► generates, waits for nobody ──► Shared.offer

Nothing heavy is imported here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pytest_vdb import keep
from pytest_vdb.errors import BadSetting, Unidentified
from pytest_vdb.gitrepo import described
from pytest_vdb.names import digest
from pytest_vdb.places import cache_folder
from pytest_vdb.records import ModelSpec, Run

if TYPE_CHECKING:
    from pytest_vdb.bench import Bench
    from pytest_vdb.measure.runner import Progress
    from pytest_vdb.measure.shared import VideoStore
    from pytest_vdb.session import VdbSession

STARTUP = 300.0
"""Seconds that a holder may need beside ``--vdb-timeout``: Python, its libraries, the load."""

LIMIT = 20 * 2**30
"""Bytes that `--vdb-reuse` keeps where nobody says how many."""


class Place(NamedTuple):
    """Where a bench's videos are shared, under which key; ``lasting`` beyond this run."""

    store: VideoStore
    key: str
    lasting: bool


class Sharing:
    """What one session knows of sharing: whether there is any, and the code's identity."""

    def __init__(self, session: VdbSession) -> None:
        self.session = session
        self.notes: list[str] = []
        self._changed: set[str] = set()

    def validate(self) -> None:
        """Raise BadSetting for flags that mean nothing."""
        given = {"reuse_folder", "reuse_size"} & {*self.session.layers.cli}
        if given and not self.session.settings.reuse:
            raise BadSetting(
                "--vdb-reuse-folder and --vdb-reuse-size are about --vdb-reuse: add that"
            )

    def of(self, bench: Bench) -> Shared | None:
        """The sharing of ``bench``; None where nobody could have its videos or want them."""
        session = self.session
        wanted = self.among_workers or session.settings.reuse
        if not wanted or bench.spec.source == "recorded" or session.settings.base is not None:
            return None  # files already; or the code that this process loads is compared
        return Shared(self, bench)

    @property
    def among_workers(self) -> bool:
        """Whether this run has other workers, or may have: one that replaces a dead one."""
        return hasattr(self.session.config, "workerinput")

    @property
    def worker(self) -> str:
        """The name of this process in the run: xdist's, or ``main``."""
        return str(getattr(self.session.config, "workerinput", {}).get("workerid", "main"))

    def note(self, line: str) -> None:
        """A line for the end of the run's report, which fails nothing."""
        if line not in self.notes:
            self.notes.append(line)

    def take_notes(self) -> list[str]:
        """The notes since the last call: what a test's report carries."""
        taken, self.notes = self.notes, []
        return taken

    def touched(self, spec: ModelSpec) -> None:
        """A test had the pipeline of ``spec`` in its hands: its videos are this process's alone."""
        self._changed.add(spec.slug)

    def is_touched(self, spec: ModelSpec) -> bool:
        return spec.slug in self._changed

    @cached_property
    def code(self) -> dict[str, str]:
        """What runs here, as it was when this was first asked. Raises Unidentified."""
        return self.code_now()

    def code_now(self) -> dict[str, str]:
        """What would run here if it were loaded now. Raises Unidentified."""
        from pytest_vdb.measure.identity import code_identity

        return code_identity(self.session.config.rootpath, self._outputs())

    def _outputs(self) -> Iterable[Path]:
        """What runs write below the root."""
        session, s = self.session, self.session.settings
        for folder in (s.baselines, s.store, s.accepted, s.metric_cache, s.reuse_folder):
            if folder is not None and "://" not in folder:
                yield session.place(folder)
        started = session.config.invocation_params.dir
        for file in (s.json, s.html, s.markdown, session.config.getoption("xmlpath", None)):
            if file is not None:
                path = started / file
                yield from (path, path.with_name(path.name + ".partial"))
        if s.keep and s.json is not None:
            yield keep.folder(started / s.json)
        if s.durations is not None:
            yield session.place(s.durations)

    @property
    def folder(self) -> Path:
        """Where videos outlive the run."""
        given = self.session.settings.reuse_folder
        return cache_folder() / "videos" if given is None else self.session.place(given)


class Shared:
    """The videos of one bench, as other processes may have or want them."""

    def __init__(self, sharing: Sharing, bench: Bench) -> None:
        self.sharing = sharing
        self.session = sharing.session
        self.spec = bench.spec
        self.workload = bench.workload
        self.settings = bench.settings
        self.made: dict[str, str] | None = None
        """Who made the videos that were borrowed; None before, and where none were."""
        self._waited_for = False

    def borrow(self, generate: Callable[[], Run]) -> Run:
        """The videos of another process, else those of ``generate``, while others wait for them."""
        if self.place is None or self.sharing.is_touched(self.spec):
            return generate()
        if (found := self._find(self.place)) is not None:
            return found
        # A process that waits must hold no device, for which the other may be waiting.
        with self.place.store.alone(self.place.key, self.session.release):
            self._waited_for = True
            try:
                return self._find(self.place) or generate()
            finally:
                self._waited_for = False

    def offer(self, run: Run) -> None:
        """Let other processes have the videos that this one has just generated."""
        if self.place is None or self.sharing.is_touched(self.spec):
            return
        store, key, lasting = self.place
        with self.session.charged("plugin"):
            differs = store.differs(key, run)
            if differs is not None:
                if not differs:
                    return
                self.sharing.note(
                    f"{self.spec.name} gave other videos for the same prompts and seeds in two "
                    "processes: a score may differ from run to run, also without a change"
                )
                if not lasting:
                    return  # all workers go on with the first
                store.discard(key)
            if lasting and not self._same_code():
                return
            store.keep(key, run, self._maker())

    def heard(self, progress: Progress | None) -> Progress:
        """``progress``, told to those who wait as well: every event is a sign of life.

        What runs here is identified now, before it is loaded, and not between two samples.
        """
        place = self.place

        def show(done: int, total: int) -> None:
            if place is not None and self._waited_for:
                place.store.alive(place.key)
            if progress is not None:
                progress(done, total)

        return show

    # ------------------------------------------------------------------ where

    @cached_property
    def place(self) -> Place | None:
        """The store across runs where that was asked for and can be, else this run's own."""
        from pytest_vdb.measure.shared import VideoStore

        session, s = self.session, self.session.settings
        stall = self._patience()
        if s.reuse:
            try:
                key = digest({**self._asked(), **self._identity()})
                limit = s.reuse_size or LIMIT
                store = VideoStore(self.sharing.folder, self.sharing.note, limit, stall)
                return Place(store, key, True)
            except Unidentified as error:
                self.sharing.note(
                    f"--vdb-reuse: {self.spec.name}'s videos are not reused across runs: {error}"
                )
        if not self.sharing.among_workers:
            return None
        store = VideoStore(session.scratch / "shared", self.sharing.note, stall=stall)
        return Place(store, digest(self._asked()), False)

    def _patience(self) -> float:
        """Seconds in which a healthy holder gives a sign of life, whatever it is at.

        Between two signs lie a load or one generation, and before the first one of them what is
        limited apart: Python's start, and the wait for devices.
        """
        from pytest_vdb.measure.child import LEASE_SECONDS
        from pytest_vdb.measure.shared import STALL

        timeout = self.settings.timeout
        leases = self.session.device_of(self.spec) != "cpu" or self.spec.devices > 1
        return (STALL if timeout is None else timeout) + STARTUP + LEASE_SECONDS * leases

    def _asked(self) -> dict[str, object]:
        """What tells one bench from another in one run."""
        return {
            "model": self.spec.to_json(),
            "workload": self.workload.portable.to_json(),
            "device": self.session.device_of(self.spec),
            "runner": self.settings.runner,
            "timeout": self.settings.timeout,
        }

    def _identity(self) -> dict[str, object]:
        """What else videos depend on from run to run. Raises Unidentified."""
        from pytest_vdb.environment import facts, gpus, quality_environment
        from pytest_vdb.models.identity import weights_identity

        if self.session.cluster is not None:
            raise Unidentified("nothing here knows the machines of a cluster")
        device = self.session.device_of(self.spec)
        with self.session.charged("plugin"):
            return {
                "weights": weights_identity(self.spec),
                "code": self.sharing.code,
                "environment": quality_environment(device, self.spec.devices).identity,
                "facts": facts(device),
                "gpus": gpus(),
            }

    def _same_code(self) -> bool:
        """Whether the source is still what it was before the generation; says where it is not."""
        try:
            same = self.sharing.code_now() == self.sharing.code
        except Unidentified:
            same = False
        if not same:
            self.sharing.note(
                "--vdb-reuse: the source changed while it ran, so nobody can say which code "
                f"generated {self.spec.name}'s videos; they are not kept"
            )
        return same

    def _maker(self) -> dict[str, str]:
        return {
            "worker": self.sharing.worker,
            "at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "commit": described(self.session.config.rootpath),
            "run": self.session.scratch.name,
        }

    def _find(self, place: Place) -> Run | None:
        name = f"{self.spec.slug}-{self.workload.hash}-shared-{time.time_ns()}"
        with self.session.charged("plugin"):
            entry = place.store.find(place.key, self.workload, self.session.scratch / name)
        if entry is None:
            return None
        same_run = entry.made.get("run") == self.session.scratch.name
        self.made = {**entry.made, "from": "another worker" if same_run else "an earlier run"}
        return entry.run
