"""The in-process runner: loads a pipeline once and shares it with the tests."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from pytest_vdb.errors import GenerationTimeout, OutOfMemory
from pytest_vdb.measure.clock import Alarm
from pytest_vdb.measure.execute import execute, import_libraries, load
from pytest_vdb.measure.runner import Job, Progress, Tally
from pytest_vdb.models.cache import Loaded, PipelineCache
from pytest_vdb.models.sources import Source
from pytest_vdb.records import Json, Run


class InProcess:
    """Runs jobs in this process; a source is loaded once per `Job.loading` and cached.

    ``budget`` is how many bytes the loaded pipelines may take together (`PipelineCache`).

    ``job.timeout`` works by SIGALRM: in the main thread of a POSIX process alone (elsewhere
    BadSetting), and a hang inside one C call is seen only when that call returns; with ``log`` it
    ends this process (`Alarm`). A model that may do so belongs in `child.ChildProcess`.
    """

    name = "inprocess"

    def __init__(self, budget: int | None = None, log: int | None = None) -> None:
        self.cache = PipelineCache(budget)
        self.log = log

    def run(self, job: Job, progress: Progress | None = None) -> Run:
        """Execute ``job``; ``load`` is that of the one load, also in later runs."""
        try:
            return self._run(job, progress)
        except OutOfMemory:
            # What else is loaded may be what was in the way, and is not the model's fault.
            if not self.cache.shrink():
                raise
        return self._run(job, progress)

    def source(self, job: Job, holder: str) -> AbstractContextManager[Source]:
        """The loaded source of ``job``'s model, which stays while ``holder`` is in the block."""
        self._loaded(job)
        return self.cache.lease(job.loading, holder)

    @property
    def loads(self) -> int:
        return self.cache.loads

    def release(self) -> None:
        """End what was started for a model and holds devices; loaded pipelines stay."""
        self.cache.drop_started()

    def shrink(self) -> None:
        """Close every source that nobody holds."""
        self.cache.shrink()

    def close(self) -> None:
        """Close every source; the runner may be used again."""
        self.cache.clear()

    def _run(self, job: Job, progress: Progress | None) -> Run:
        loaded = self._loaded(job)
        if job.device != "cpu":
            self.cache.shrink(keep=job.loading)  # the peak of one model must not hold another's
        tally = Tally(job, progress, warm=loaded.used)
        tally({"event": "loaded", "seconds": loaded.seconds})
        loaded.used = True
        try:
            with Alarm(job.timeout, lambda: tally.too_slow, self.log) as alarm:
                execute(job, _restarting(alarm, tally), loaded.source)
        except (GenerationTimeout, OutOfMemory):
            # Interrupted anywhere: its state is not to be trusted, nor what it still allocates.
            self.cache.drop(job.loading)
            raise
        return tally.run(self.name)

    def _loaded(self, job: Job) -> Loaded:
        import_libraries(job)  # before the time runs, which is meant for the load
        served = job.model.source == "endpoint"

        def limited() -> tuple[Source, float]:
            self.release()
            # A server has a limit of its own, which leaves out its wait for devices.
            limit = None if served else job.timeout
            with Alarm(limit, lambda: Tally(job).too_slow, self.log):
                return load(job)

        # What another process loads takes no memory of ours, and no context on the device.
        device = "cpu" if served else job.device
        return self.cache.get(job.loading, device, limited, job.model.memory)


def _restarting(alarm: Alarm, tally: Tally) -> Callable[[dict[str, Json]], None]:
    """Every event ends one load or generation, so the time of the next starts with it."""

    def emit(event: dict[str, Json]) -> None:
        tally(event)
        alarm.restart()

    return emit
