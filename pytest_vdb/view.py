"""The ``vdb`` fixture: a test's view of its bench. It records what the test touches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TypeVar

from pytest_vdb.baseline.identity import PERFORMANCE, relative_path
from pytest_vdb.baseline.schema import BaselineFile
from pytest_vdb.baseline.yardstick import Wanted, Yardstick, choose
from pytest_vdb.bench import Bench
from pytest_vdb.comparison import Trace, line_in
from pytest_vdb.errors import BaselineError, Incomplete
from pytest_vdb.gate import StoredSession, stored_of
from pytest_vdb.options import Settings
from pytest_vdb.records import (
    Baseline,
    Kind,
    Measurement,
    ModelSpec,
    Provenance,
    Sample,
    Workload,
    definition,
)
from pytest_vdb.statistic import STATISTICS, Series
from pytest_vdb.units import show

T = TypeVar("T")


class Latency(Series):
    """Warm seconds a video; ``.cpu`` is the process CPU time of the same calls.

    Touched when it is used, so that ``vdb.latency.cpu`` alone leaves the wall clock ungated.
    """

    name = "latency"

    def __init__(self, touch: Callable[[str], Series]) -> None:
        self._touch = touch

    @cached_property
    def measurement(self) -> Measurement:  # type: ignore[override]
        return self._touch("latency").measurement

    @cached_property
    def baseline(self) -> str:  # type: ignore[override]
        return self._touch("latency").baseline

    @cached_property
    def prompts(self) -> Mapping[str, str]:  # type: ignore[override]
        return self._touch("latency").prompts

    @cached_property
    def trace(self) -> Trace | None:  # type: ignore[override]
        return self._touch("latency").trace

    def __repr__(self) -> str:
        # A repr, such as pytest's of a failed assertion, is no touch.
        return super().__repr__() if "measurement" in self.__dict__ else "<latency>"

    @property
    def cpu(self) -> Series:
        return self._touch("latency.cpu")

    def stage(self, name: str) -> Series:
        """Exclusive seconds of one stage; all stages of a video sum to its latency.

        ``"text_encode"``, ``"image_encode"``, ``"denoise"``, ``"decode"``, ``"other"``, or what an
        engine reports. Raises UnknownStage.
        """
        return self._touch(f"latency.{name}")

    @property
    def steps(self) -> Series:
        """Seconds of one denoise step: the median within each video."""
        return self._touch("latency.step")

    @property
    def first(self) -> Series:
        """Seconds of the first generation after the load; reported, not gated by default."""
        return self._touch("latency.first")

    @property
    def compile(self) -> Series:
        """Seconds of the first generation beyond the median warm one; not gated by default."""
        return self._touch("latency.compile")

    @property
    def queue(self) -> Series:
        """Seconds that a server let the request wait; not in the latency, not gated by default."""
        return self._touch("latency.queue")


class Memory:
    """Peak memory in bytes: of the device (``peak``, ``reserved``) or of torch's CPU allocator."""

    def __init__(self, touch: Callable[[str], Series]) -> None:
        self._touch = touch

    @property
    def peak(self) -> Series:
        """Largest allocation on the device during a warm call; on a CPU, what an engine reports."""
        return self._touch("memory.peak")

    @property
    def reserved(self) -> Series:
        """Largest reservation of the caching allocator; reported, not gated by default."""
        return self._touch("memory.reserved")

    @property
    def cpu_peak(self) -> Series:
        """Peak of torch's CPU allocator over one traced call; never VRAM."""
        return self._touch("memory.cpu_peak")

    def stage(self, name: str) -> Series:
        """Largest allocation on the device while one stage ran; not applicable on a CPU."""
        return self._touch(f"memory.{name}")

    def cpu_stage(self, name: str) -> Series:
        """Peak of torch's CPU allocator while one stage ran in the traced call."""
        return self._touch(f"memory.cpu_{name}")

    def rank(self, number: int) -> Series:
        """Peak that one process of an engine of several reports, counted from 0."""
        return self._touch(f"memory.rank{number}")


class Energy:
    """Energy of one video by the devices' own counters; unmeasured where none can be read."""

    def __init__(self, touch: Callable[[str], Series]) -> None:
        self._touch = touch

    @property
    def joules(self) -> Series:
        """Joules beyond what the devices draw at rest."""
        return self._touch("energy")

    @property
    def gross(self) -> Series:
        """Joules in all, idle power included: what published tables usually show."""
        return self._touch("energy.gross")

    @property
    def co2(self) -> Series:
        """Grams of CO2: ``joules`` at the intensity of ``--vdb-grid``."""
        return self._touch("energy.co2")

    @property
    def per_second(self) -> Series:
        """``joules`` over the seconds that the video lasts."""
        return self._touch("energy.per_second")

    @property
    def co2_per_second(self) -> Series:
        """``co2`` over the seconds that the video lasts."""
        return self._touch("energy.co2_per_second")


class Vdb:
    """Measurements of one model on one workload, generated when first asked for.

    Every measurement that is accessed is compared with its stored baseline after the test's body.
    """

    def __init__(self, bench: Bench, nodeid: str, settings: Settings) -> None:
        self._bench = bench
        self._settings = settings
        self._allow = settings.allow
        self.nodeid = nodeid
        self.judged = False
        self.trace = Trace() if settings.prove else None
        self.touched: dict[str, Measurement] = {}
        self.lines: dict[str, int | None] = {}
        """Where in the test's file each was touched first."""
        self._file = str(bench.session.config.rootpath / nodeid.partition("::")[0])
        self.error: Exception | None = None
        self.attempted = ""
        self.saw_videos = False

    @property
    def model(self) -> ModelSpec:
        return self._bench.spec

    @property
    def workload(self) -> Workload:
        return self._bench.workload

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The generated videos.

        Their ``frames`` are .npy files, uint8 (T, H, W, 3), RGB, their ``latent`` .npy float32 or
        None; both are deleted when the run ends. What they cost is not in them where another
        process generated (``wall`` is None): that is `latency`'s and `memory`'s to tell. Raises
        Insane, and what the runner raises.
        """
        self.saw_videos = True
        return self._guarded(lambda: self._bench.sane(self._allow).samples)

    @property
    def made(self) -> dict[str, str] | None:
        """Who generated the videos that this test saw, where it was another process."""
        shared = self._bench.shared
        return shared.made if shared is not None and self.saw_videos else None

    @property
    def latency(self) -> Latency:
        """Warm seconds a video (wall clock)."""
        return Latency(self._touch)

    @property
    def memory(self) -> Memory:
        return Memory(self._touch)

    @property
    def energy(self) -> Energy:
        return Energy(self._touch)

    @property
    def throughput(self) -> Series:
        """Videos a second of a server at the concurrency that the options name."""
        return self._touch("throughput")

    @property
    def load(self) -> Series:
        """Seconds to load the model; reported, not gated by default."""
        return self._touch("load")

    def score(self, name: str) -> Series:
        """A metric by name (docs/metrics.md), one value a video. Raises UnknownMetric."""
        return self._touch(name, score=True)

    def _touch(self, name: str, *, score: bool = False) -> Series:
        if name not in self.touched:
            if self.judged:
                raise Incomplete(f"{name} is touched after the test's body, when all is judged")
            self.attempted = name
            self.lines[name] = line_in(self._file)
            self.saw_videos = self.saw_videos or score
            self.touched[name] = self._guarded(
                lambda: (
                    self._bench.score(name, self.references(name), self._allow)
                    if score
                    else self._bench.performance(name, self._allow, self._settings)
                )
            )
        measurement = self.touched[name]
        texts = {prompt.id: prompt.text for prompt in self.workload.prompts}
        return Series(measurement, self._describe(measurement), texts, self.trace)

    def _guarded(self, work: Callable[[], T]) -> T:
        """Remember an error, so that a test that swallows it fails all the same."""
        try:
            return work()
        except Exception as error:
            self.error = error
            raise

    # ------------------------------------------------------------------ the baseline

    @cached_property
    def paths(self) -> tuple[str, str]:
        """Baseline files of quality and of performance, relative to the baselines' folder."""
        quality, performance = self._bench.environments
        name = self.model.name
        return (
            relative_path(name, quality, self.nodeid),
            relative_path(name, performance, self.nodeid),
        )

    def path(self, kind: Kind) -> str:
        return self.paths[kind in PERFORMANCE]

    def file(self, kind: Kind) -> BaselineFile | None:
        """The baseline file of this kind of measurement. Raises BaselineError."""
        return self._guarded(lambda: self._bench.session.store.read(self.path(kind)))

    def baseline(self, kind: Kind) -> Baseline | None:
        """What this workload is compared with, or None."""
        file = self.file(kind)
        return file.workloads.get(self.workload.hash) if file else None

    def yardstick(
        self, name: str, kind: Kind, made: Provenance | None = None, *, exact: bool = False
    ) -> Yardstick:
        """What ``name`` is held to; ``made`` says how its values were measured, if there are any.

        ``exact``: another machine's baseline will not do. Raises BaselineError.
        """
        wanted = Wanted(self.workload.hash, name, kind, definition(made) if made else None)
        session = self._bench.session
        return self._guarded(
            lambda: choose(
                session.store,
                self.path(kind),
                wanted,
                self._bench.environments[kind in PERFORMANCE],
                exact=exact or self._settings.require or self._settings.update,
            )
        )

    def held_to(self, measurement: Measurement) -> Yardstick:
        """What this measurement is held to. Raises BaselineError."""
        if measurement.missing:  # that another machine has it says nothing of this one
            return self.yardstick(measurement.name, measurement.kind, exact=True)
        return self.yardstick(measurement.name, measurement.kind, measurement.provenance)

    def references(self, name: str) -> Baseline | None:
        """Whose videos a distance is to: the stored baseline's, or else the base side's."""
        session = self._bench.session
        if not session.metrics.find(name).compares:
            return self.baseline(Kind.SCORE)
        baseline = self.yardstick(name, Kind.DISTANCE).baseline
        stored = baseline is not None and baseline.media
        if stored or session.beside is None or self._settings.update:
            return baseline
        return session.beside.baseline(self._bench) or baseline

    def stored(self, measurement: Measurement) -> list[StoredSession]:
        """What each stored session holds of this measurement, oldest first."""
        return stored_of(self.held_to(measurement).baseline, measurement)

    def elsewhere(self, measurement: Measurement) -> list[str]:
        """Keys of other environments in which this measurement of this benchmark is stored."""
        model, ours, *name = self.path(measurement.kind).split("/")
        store = self._bench.session.store
        found = []
        for key in store.environments(model, "/".join(name)):
            try:
                file = store.read("/".join((model, key, *name)))
            except BaselineError:
                continue  # another machine's file is not this run's trouble
            stored = [b.measurements for b in file.workloads.values()] if file else []
            if key != ours and any(measurement.name in names for names in stored):
                found.append(key)
        return found

    def _describe(self, measurement: Measurement) -> str:
        """The baseline in a phrase, for the explanation of a failed comparison."""
        sessions = self.stored(measurement)
        if measurement.kind is Kind.DISTANCE:
            return "the stored reference videos" if not measurement.missing else ""
        if not sessions:
            return ""
        values = list(sessions[-1].values.values())
        number = show(STATISTICS[measurement.headline](values), measurement.unit)
        return f"{measurement.headline} {number} (latest of {len(sessions)} stored)"
