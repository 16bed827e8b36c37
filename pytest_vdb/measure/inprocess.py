"""The in-process runner: loads a pipeline once a session and shares it with the tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from pytest_vdb.errors import GenerationTimeout
from pytest_vdb.measure.clock import Alarm
from pytest_vdb.measure.execute import execute, import_libraries, load
from pytest_vdb.measure.runner import Job, Progress, Tally
from pytest_vdb.models.sources import Source
from pytest_vdb.records import Json, Run


@dataclass(frozen=True)
class _Loaded:
    source: Source
    seconds: float


class InProcess:
    """Runs jobs in this process; a source is loaded once per (spec, device) and kept.

    ``job.timeout`` works by SIGALRM: in the main thread of a POSIX process alone (elsewhere
    BadSetting), and a hang inside one C call is seen only when that call returns. A model that
    must be ended wherever it hangs, or that may take the process with it, belongs in
    `child.ChildProcess`.
    """

    name = "inprocess"

    def __init__(self) -> None:
        self._sources: dict[tuple[str, str], _Loaded] = {}

    def run(self, job: Job, progress: Progress | None = None) -> Run:
        """Execute ``job``; ``load`` is that of the one load, also in later runs."""
        loaded = self._loaded(job)
        tally = Tally(job, progress)
        tally({"event": "loaded", "seconds": loaded.seconds})
        try:
            with Alarm(job.timeout, lambda: tally.too_slow) as alarm:
                execute(job, _restarting(alarm, tally), loaded.source)
        except GenerationTimeout:
            self._drop(job)  # it was interrupted anywhere: its state is not to be trusted
            raise
        return tally.run(self.name)

    def source(self, job: Job) -> Source:
        """The loaded source of ``job``'s model on its device."""
        return self._loaded(job).source

    def close(self) -> None:
        """Close every source; the runner may be used again."""
        while self._sources:
            self._sources.popitem()[1].source.close()

    def _loaded(self, job: Job) -> _Loaded:
        key = _key(job)
        if key not in self._sources:
            import_libraries(job)  # before the time runs, which is meant for the load
            with Alarm(job.timeout, lambda: Tally(job).too_slow):
                self._sources[key] = _Loaded(*load(job))
        return self._sources[key]

    def _drop(self, job: Job) -> None:
        self._sources.pop(_key(job)).source.close()


def _key(job: Job) -> tuple[str, str]:
    return json.dumps(job.model.to_json(), sort_keys=True), job.device


def _restarting(alarm: Alarm, tally: Tally) -> Callable[[dict[str, Json]], None]:
    """Every event ends one load or generation, so the time of the next starts with it."""

    def emit(event: dict[str, Json]) -> None:
        tally(event)
        alarm.restart()

    return emit
