"""What executes a workload: one interface, an in-process and a child-process implementation."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, Self

from pytest_vdb.models.sources import provides
from pytest_vdb.records import Json, ModelSpec, Prompt, Record, Run, Sample, Timeline, Workload
from pytest_vdb.traces import Trace, weighed

Progress = Callable[[int, int], None]
"""Called with (samples done, samples in all) after every event of a job: a finished sample, or
another sign that it goes on."""


@dataclass(frozen=True)
class Job(Record):
    """One workload of one model, where it runs and where its samples go.

    ``folder`` receives frames and latents; ``timeout`` (seconds) limits the load and each
    generation apart; ``path`` is the ``sys.path`` of the repository under test, for a child, and
    ``late`` what comes after everything else.
    ``block`` asks for timed generations of the first (prompt, seed) alone: at least one, more for
    `execute.BLOCK_SECONDS`; nothing is kept, nothing is traced, and the first call is the caller's
    to throw away.
    """

    model: ModelSpec
    workload: Workload
    folder: str
    device: str = "cpu"
    timeout: float | None = None
    path: tuple[str, ...] = ()
    block: bool = False
    late: tuple[str, ...] = ()

    @property
    def loading(self) -> str:
        """What decides whether two jobs can share one loaded model, as one text."""
        model = replace(self.model, call={}).to_json()
        return json.dumps([model, self.device, self.path, self.late], sort_keys=True)

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Self:
        return cls(
            model=ModelSpec.from_json(data["model"]),
            workload=Workload.from_json(data["workload"]),
            folder=data["folder"],
            device=data["device"],
            timeout=data["timeout"],
            path=tuple(data["path"]),
            block=data["block"],
            late=tuple(data["late"]),
        )


class Runner(Protocol):
    """Executes jobs.

    ``run`` raises SourceError (the model under test failed), OutOfMemory, GenerationTimeout or
    InfraError (a lost worker); samples finished before stay readable in the job's folder.
    ``release`` gives back what need not wait for the end of the session, ``shrink`` also loaded
    models that nobody holds.
    """

    name: str

    @property
    def loads(self) -> int:
        """How many models were loaded so far."""

    def run(self, job: Job, progress: Progress | None = None) -> Run: ...

    def release(self) -> None: ...

    def shrink(self) -> None: ...

    def close(self) -> None: ...


@dataclass
class Tally:
    """What a runner has heard of one job so far: events in, a `Run` out.

    An event is a JSON-able dict: ``{"event": "loaded", "seconds"}``, ``{"event": "warm",
    "seconds"}``, ``{"event": "source", ...}`` (fields of `Run` that the loaded source decides),
    ``{"event": "code", "facts"}`` (which code runs, `code.loaded`),
    ``{"event": "sample", "sample"}``, ``{"event": "traced", "cpu_peak", "cpu_stages", "trace",
    "timeline"}``, ``{"event": "done", "throughput"}``. Others say that something goes on and change
    nothing.
    """

    job: Job
    progress: Progress | None = None
    warm: bool = False
    """Whether the model had generated before: then there is no first call to be told of."""
    load: float | None = None
    first_call: float | None = None
    cpu_peak: int | None = None
    cpu_stages: dict[str, int] = field(default_factory=dict)
    trace: Trace | None = None
    timeline: Timeline | None = None
    provides: frozenset[str] = frozenset()
    hooked: bool = False
    idle_power: dict[str, float] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    throughput: float | None = None
    samples: list[Sample] = field(default_factory=list)
    loaded: bool = False
    warmed: bool = False
    done: bool = False

    def __call__(self, event: Mapping[str, Json]) -> None:
        match event["event"]:
            case "loaded":
                self.load, self.loaded = event["seconds"], True
            case "source":
                self.provides, self.hooked = frozenset(event["provides"]), event["hooked"]
                self.idle_power = event["idle_power"]
                self.facts |= event["facts"]
            case "code":
                self.facts |= event["facts"]
            case "warm":
                self.first_call, self.warmed = event["seconds"], True
            case "sample":
                self.samples.append(Sample.from_json(event["sample"]))
            case "traced":
                self.cpu_peak, self.cpu_stages = event["cpu_peak"], event["cpu_stages"]
                self.trace = Trace.from_json(event["trace"])
                if (memory := event["timeline"]) is not None:
                    self.timeline = Timeline.from_json(memory)
            case "done":
                self.done, self.throughput = True, event["throughput"]
        if self.progress is not None:
            self.progress(len(self.samples), len(self.job.workload.jobs))

    @property
    def phase(self) -> str:
        """What is going on now, as the subject of a sentence."""
        jobs = self.job.workload.jobs
        if not self.loaded:
            return "the load"
        if not self.warmed and "latency" in provides(self.job.model):
            return name_phase("the warm-up generation", *jobs[0])
        if len(self.samples) < len(jobs):
            return name_phase("the generation", *jobs[len(self.samples)])
        return name_phase("the traced generation", *jobs[0])

    @property
    def finished(self) -> str:
        """How many samples are finished, as a sentence."""
        done, total = len(self.samples), len(self.job.workload.jobs)
        last = f", the last is {self.samples[-1].key}" if self.samples else ""
        return f"{done} of {total} samples were finished{last}"

    @property
    def too_slow(self) -> str:
        """What a GenerationTimeout says when time runs out now."""
        return (
            f"{self.phase} of model {self.job.model.name!r} took longer than "
            f"{self.job.timeout:g} s; raise --vdb-timeout, or ask for fewer steps, frames or "
            f"pixels ({self.finished})"
        )

    def run(self, runner: str) -> Run:
        """The finished job's `Run`."""
        return Run(
            samples=tuple(self.samples),
            load=self.load,
            first_call=None if self.warm else self.first_call,
            cpu_peak=self.cpu_peak,
            cpu_stages=self.cpu_stages,
            trace=self.trace and weighed(self.trace, self.samples, self.cpu_stages),
            timeline=self.timeline,
            provides=self.provides,
            hooked=self.hooked,
            idle_power=self.idle_power,
            throughput=self.throughput,
            facts={"runner": runner, **self.facts},
        )


def name_phase(phase: str, prompt: Prompt, seed: int) -> str:
    """``the generation of prompt 'cat' with seed 0``: how messages name a generation."""
    return f"{phase} of prompt {prompt.id!r} with seed {seed}"
