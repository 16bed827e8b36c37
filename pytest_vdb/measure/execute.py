"""A workload in, samples out: what both runners do, in three phases that never mix.

Timed generations come first and have the device to themselves; every sample is quantised, hashed
and written between them, outside the clock; the traced generation comes last and is never timed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from pytest_vdb.errors import BadSetting, Unmeasured
from pytest_vdb.measure.blame import blame_model
from pytest_vdb.measure.clock import synchronize, timed
from pytest_vdb.measure.energy import Meters, meters_for
from pytest_vdb.measure.memory import Profile, cpu_allocator_profile
from pytest_vdb.measure.runner import Job, name_phase
from pytest_vdb.measure.samples import Done, reported, unkept_sample, write_sample
from pytest_vdb.measure.stages import StageClock
from pytest_vdb.measure.timeline import ALLOCATED, Sampler, sizes, timeline
from pytest_vdb.measure.trace import Tracer, conditions
from pytest_vdb.models.open import needs_diffusers, open_source
from pytest_vdb.models.sources import SERVE, Output, Source, provides
from pytest_vdb.records import Json, Prompt, sample_key

Emit = Callable[[dict[str, Json]], None]

BLOCK_SECONDS = 1.0
"""A block of a model that is faster than this has several generations,"""
BLOCK_RUNS = 5
"""at most so many."""


def execute(job: Job, emit: Emit, source: Source | None = None) -> None:
    """Generate every (prompt, seed) of ``job`` in order and tell ``emit`` what happened.

    The events are those of `runner.Tally`. ``source`` is an already loaded one, which stays open;
    without it the model is loaded, timed, and closed at the end. The workload alone decides call
    arguments and ``options["num_threads"]`` (torch's threads, as before afterwards).

    Raises SourceError (the model raised, or gave no video), OutOfMemory, InfraError (the folder
    cannot be written) or BadSetting. KeyboardInterrupt passes.
    """
    _check_dtype(job)
    if source is None:
        source, seconds = load(job)
        emit({"event": "loaded", "seconds": seconds})
        holder: closing[Source] | nullcontext[Source] = closing(source)
    else:
        holder = nullcontext(source)
    ready(job, source)
    with holder, torch_threads(job.workload.options.get("num_threads")):
        throughput = _generate_all(job, source, emit)
    emit({"event": "done", "throughput": throughput})


def ready(job: Job, source: Source) -> None:
    """Before anything of ``job`` is generated with its loaded ``source``. Raises BadSetting."""
    _check_dtype(job)
    if job.device.partition(":")[0] == "cuda" and hasattr(source, "pipeline"):
        import torch

        torch.cuda.empty_cache()  # what the last workload left reserved is not this one's


def _check_dtype(job: Job) -> None:
    if job.workload.dtype != job.model.dtype:
        raise BadSetting(
            f"the workload asks for {job.workload.dtype} and model {job.model.name!r} would be "
            f"loaded as {job.model.dtype}: give both the same dtype (--vdb-dtype)"
        )


def time_block(job: Job, emit: Emit, source: Source) -> None:
    """Generations of the first (prompt, seed), timed as those of `execute` are, and thrown away."""
    generation = Generation(job, source)
    prompt, seed = job.workload.jobs[0]
    spent = 0.0
    with torch_threads(job.workload.options.get("num_threads")):
        for _ in range(BLOCK_RUNS):
            done = generation("the generation", prompt, seed)
            sample = unkept_sample(prompt.id, seed, done)
            emit({"event": "sample", "sample": sample.to_json()})
            spent += done.wall or BLOCK_SECONDS
            del done
            if spent >= BLOCK_SECONDS:
                break
    emit(generation.source_told())
    emit({"event": "done", "throughput": None})


def load(job: Job) -> tuple[Source, float]:
    """The loaded source of ``job`` and the seconds that it took, libraries' imports left out."""
    import_libraries(job)
    with blame_model(job, "the load"), torch_threads(job.workload.options.get("num_threads")):
        start = time.perf_counter()
        source = _open(job)
        if hasattr(source, "pipeline"):  # asking for another's device would open a context here
            synchronize(job.device)
        seconds = time.perf_counter() - start
    server = getattr(source, "server", None)
    return source, seconds if server is None else server.load


def _open(job: Job) -> Source:
    if not job.model.location.startswith(SERVE):
        return open_source(job.model, job.device)
    from pytest_vdb.measure.serve import STARTUP, ServedSource

    devices = 0 if job.device == "cpu" else job.model.devices
    startup = max(job.timeout or STARTUP, STARTUP)
    return ServedSource(job.model, Path(job.folder, "server.log"), devices, startup)


def import_libraries(job: Job) -> None:
    """Import what every load of this kind needs: seconds that are not the model's."""
    if needs_diffusers(job.model):
        from diffusers import DiffusionPipeline  # noqa: F401
    elif job.model.source == "factory":
        import torch  # noqa: F401


def _generate_all(job: Job, source: Source, emit: Emit) -> float | None:
    """Warm-up, timed samples and the traced generation; videos a second of a server."""
    generation = Generation(job, source)
    throughput = None
    if "latency" in source.provides:
        emit(generation.warm_up())
    if "throughput" in source.provides:
        throughput = _concurrently(job, source, emit)
    else:
        for index in range(len(job.workload.jobs)):
            emit(generation.sample(index))
    if generation.clock is not None:
        emit(generation.traced())
    # Last, since an engine or a server may have told more with every video.
    emit(generation.source_told())
    return throughput


@cache
def _meters(device: str) -> tuple[Meters, dict[str, float]]:
    """The energy meters of ``device`` and its watts at rest, measured once a process."""
    meters = meters_for(device)
    return meters, {} if meters.reason else meters.idle_power()


class Generation:
    """Calls a source with everything around it that measures: ``call(phase, prompt, seed)``.

    From outside to inside: energy, whose counters are slow to read; the clock around the whole
    call; the hooks that tell its stages apart. Without ``metered`` energy is left out.
    """

    def __init__(self, job: Job, source: Source, *, metered: bool = True) -> None:
        self.job = job
        self.source = source
        pipeline = getattr(source, "pipeline", None)
        self.clock = None if pipeline is None else StageClock(pipeline, job.device)
        self.meters: Meters | None = None
        self.idle: dict[str, float] = {}
        if metered and "energy" in source.provides and pipeline is not None:
            # A pipeline in this process computes on one device, also where more are visible.
            self.meters, self.idle = _meters("cuda:0" if job.device == "cuda" else job.device)
        self.missed = ""

    def __call__(self, phase: str, prompt: Prompt, seed: int) -> Done:
        """Raises what `blame.blame_model` makes of the model's own exceptions."""

        def generate() -> Output:
            with self.clock or nullcontext():
                return self.source.generate(prompt, seed, self.job.workload.call)

        with blame_model(self.job, name_phase(phase, prompt, seed)), self.meters or nullcontext():
            # An engine waits for its devices itself; asking them would open a context here.
            output, lap = timed(generate, self.job.device if self.clock else "cpu")
        energy = self.meters.joules if self.meters else {}
        self.missed = self.meters.missed if self.meters else ""
        if self.clock is None:
            # A server's time is its own: the clock around the call holds the queue as well.
            served = "throughput" in self.source.provides
            return reported(output, None if served else lap, energy)
        return Done(output, lap, self.clock.stages, self.clock.steps, self.clock.memory, energy)

    def warm_up(self) -> dict[str, Json]:
        """The first generation, which is timed apart and kept nowhere: the event that tells it."""
        warm = self("the warm-up generation", *self.job.workload.jobs[0])
        return {"event": "warm", "seconds": warm.wall}

    def sample(self, index: int) -> dict[str, Json]:
        """Generate, measure and write one sample of the workload: the event that tells it."""
        timed = "latency" in self.source.provides
        done = self("the generation", *self.job.workload.jobs[index])
        sample = write_sample(self.job, index, done.output, done if timed else None)
        return {"event": "sample", "sample": sample.to_json()}

    def source_told(self) -> dict[str, Json]:
        """What is known of the source when all is done, as the event that says so."""
        provided = provides(self.job.model) & self.source.provides
        facts = {"unmetered": self.missed}
        if "throughput" in self.source.provides:
            served: Any = self.source
            facts |= {"resolution": repr(served.resolution), "retried": "; ".join(served.retried)}
        return {
            "event": "source",
            "provides": sorted(provided),
            "hooked": self.clock is not None,
            "idle_power": self.idle,
            "facts": facts,
        }

    def traced(self) -> dict[str, Json]:
        """One untimed generation: what left each component, the CPU allocator's peaks, and memory
        over time; the event that tells them.

        The peaks are None on another device, and where the profile failed.
        """
        prompt, seed = self.job.workload.jobs[0]
        phase = name_phase("the traced generation", prompt, seed)
        busy = conditions(self.job.device)
        tracer = Tracer(self.source.pipeline)  # type: ignore[attr-defined]
        sampler = Sampler(sizes(self.job.device))

        def generate() -> None:
            with blame_model(self.job, phase), tracer, sampler:
                self.source.generate(prompt, seed, self.job.workload.call)

        found = self._profiled(generate)
        sample = sample_key(prompt.id, seed)
        trace = replace(tracer.trace(sample), conditions=busy)
        read = {} if sampler.failed else sampler.held  # nobody knows what was held from there on
        held = {ALLOCATED: found.held, **read} if found.held else read
        memory = timeline(sample, held, found.spans, found.seconds or sampler.seconds)
        return {
            "event": "traced",
            "cpu_peak": found.peak,
            "cpu_stages": found.stages,
            "trace": trace.to_json(),
            "timeline": memory and memory.to_json(),
        }

    def _profiled(self, generate: Callable[[], None]) -> Profile:
        """What torch's CPU allocator did meanwhile; on another device when each stage ran alone."""
        if self.job.device.partition(":")[0] == "cpu":
            with suppress(Unmeasured):
                return cpu_allocator_profile(generate, self.clock)
            return Profile(None, {})
        assert self.clock is not None  # or there would be nothing to trace
        marks: list[float] = []
        with self.clock.traced(lambda: marks.append(time.perf_counter())) as stages:
            generate()
        spans = [(at - marks[0], stage) for at, stage in zip(marks, stages, strict=False)]
        return Profile(None, {}, [], spans, marks[-1] - marks[0])


def _concurrently(job: Job, source: Any, emit: Emit) -> float:
    """Every sample with ``options["concurrency"]`` requests in flight; videos a second."""
    requests = job.workload.jobs
    concurrency = job.workload.options.get("concurrency", 1)
    with blame_model(job, f"the generation of {len(requests)} videos"):
        outputs, seconds = source.generate_many(
            requests, job.workload.call, concurrency, heard=lambda: emit({"event": "served"})
        )
    for index, output in enumerate(outputs):
        if isinstance(output, BaseException):
            with blame_model(job, name_phase("the generation", *requests[index])):
                raise output
        sample = write_sample(job, index, output, reported(output, None, {}))
        emit({"event": "sample", "sample": sample.to_json()})
    return len(requests) / float(seconds)


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """``count`` threads for torch's operators inside the block; None leaves them alone."""
    if count is None:
        yield
        return
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise BadSetting(f"num_threads={count!r}: give a whole number of threads above 0")
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
