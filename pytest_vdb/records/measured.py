"""What was made and measured: samples, runs, measurements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from pytest_vdb.records.base import Json, Record

if TYPE_CHECKING:
    from pytest_vdb.traces import Trace


def sample_key(prompt: str, seed: int) -> str:
    """``<prompt id>/<seed>``: how one sample is named in baselines and stores."""
    return f"{prompt}/{seed}"


@dataclass(frozen=True)
class Sample(Record):
    """One video and what was measured while it was made.

    ``frames`` is a ``.npy`` file, uint8, (frames, height, width, 3), RGB; ``latent`` is a ``.npy``
    file, float32, the pre-VAE latent as the VAE received it, or None where the source gives none.
    ``nonfinite`` counts NaN and infinite values in frames and latent *before* quantisation.
    ``wall`` and ``cpu`` are seconds (None where the source cannot say), ``queue`` those a server
    let the request wait before it began (not in ``wall``). ``reported`` says that ``wall`` is an
    engine's own word and no clock of ours. ``stages`` holds exclusive seconds by
    stage, which sum to ``wall``; ``steps`` the seconds of each denoise step. ``memory`` holds peak
    bytes by name: ``allocated``, ``reserved``, ``stage.<stage>``, ``rank.<number>``; ``energy``
    joules by meter, idle power included. ``audio`` is a ``.npy`` file, float32, (channels,
    samples) in [-1, 1] at ``sampling_rate`` Hz. ``original`` is the recorded clip's own file.
    """

    prompt: str
    seed: int
    frames: str
    frames_sha256: str
    shape: tuple[int, int, int, int]
    latent: str | None = None
    latent_sha256: str | None = None
    fps: float | None = None
    nonfinite: int = 0
    wall: float | None = None
    cpu: float | None = None
    memory: dict[str, int] = field(default_factory=dict)
    original: str | None = None
    queue: float | None = None
    reported: bool = False
    stages: dict[str, float] = field(default_factory=dict)
    steps: tuple[float, ...] = ()
    energy: dict[str, float] = field(default_factory=dict)
    audio: str | None = None
    sampling_rate: int | None = None

    @property
    def key(self) -> str:
        return sample_key(self.prompt, self.seed)

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Self:
        shape, steps = tuple(data["shape"]), tuple(data.get("steps", ()))
        return super().from_json({**data, "shape": shape, "steps": steps})


@dataclass(frozen=True)
class Timeline(Record):
    """Memory during the traced generation of ``sample``, which took ``seconds``.

    ``bytes`` holds, by name, the most that was held during each of equally long slices of it:
    ``allocated`` (by torch's allocator; on a CPU beyond what it held before), ``reserved`` (by it,
    of a GPU), ``device`` (of the whole GPU, by whoever uses it), ``resident`` (of the process).
    ``stages``: when each began, in seconds.
    """

    sample: str
    seconds: float
    bytes: dict[str, tuple[int, ...]]
    stages: tuple[tuple[float, str], ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Self:
        return cls(
            data["sample"],
            data["seconds"],
            {name: tuple(sizes) for name, sizes in data["bytes"].items()},
            tuple((begin, stage) for begin, stage in data["stages"]),
        )


@dataclass(frozen=True)
class Run(Record):
    """What a runner gives back for one workload: samples and the times around them (seconds).

    ``cpu_peak`` is the CPU allocator's peak in bytes of one traced, untimed generation, by stage
    in ``cpu_stages``; None on a device whose own memory was measured: its peaks are in
    ``Sample.memory``. ``provides`` is what the loaded source says it can measure;
    ``hooked`` says that stages and memory were measured here and are not the model's own word.
    ``idle_power`` holds watts by meter, measured at rest before the warm-up. ``throughput`` is
    videos a second over all samples, at the number of concurrent requests that the options name.
    ``trace`` is that of the traced generation, and ``timeline`` its memory; None where there are no
    components to watch.
    """

    samples: tuple[Sample, ...]
    load: float | None = None
    first_call: float | None = None
    cpu_peak: int | None = None
    cpu_stages: dict[str, int] = field(default_factory=dict)
    provides: frozenset[str] = frozenset()
    hooked: bool = False
    idle_power: dict[str, float] = field(default_factory=dict)
    throughput: float | None = None
    facts: dict[str, str] = field(default_factory=dict)
    trace: Trace | None = None
    timeline: Timeline | None = None


REPORTED = "reported"
"""``Provenance.version`` of what an engine or a server said of itself."""


@dataclass(frozen=True)
class Provenance(Record):
    """How a value was measured. ``how`` is a sentence; ``version`` changes with the definition."""

    how: str
    version: str = "1"
    weights: str | None = None
    device: str = "cpu"
    package: str = ""


WHOLE_RUN = "run"
"""The key of a value that is not one sample's."""


@dataclass(frozen=True)
class Value(Record):
    """One measured number of one sample; ``seed`` is None for a value of the whole run."""

    prompt: str
    seed: int | None
    value: float

    @property
    def key(self) -> str:
        return WHOLE_RUN if self.seed is None else sample_key(self.prompt, self.seed)


class Kind(StrEnum):
    """What decides which rule of the gate applies."""

    LATENCY = "latency"
    MEMORY = "memory"
    ENERGY = "energy"
    SCORE = "score"
    DISTANCE = "distance"  # to the baseline's video: a trigger, never a conviction


TIMED = (Kind.LATENCY, Kind.ENERGY)
"""What runs side by side tell, and stored sessions of another day hardly."""


class Missing(StrEnum):
    """Why a measurement has no values."""

    UNMEASURED = "UNMEASURED"
    NOT_APPLICABLE = "NOT_APPLICABLE"
    NO_REFERENCE = "NO_REFERENCE"  # a distance with nothing to be distant from


@dataclass(frozen=True)
class Measurement(Record):
    """A named series: one value a sample, with unit, direction and provenance.

    ``direction`` is ``"higher"`` or ``"lower"``: which is better. ``headline`` is the statistic
    that stands for the series where a person names none. Without values, ``missing`` says which
    kind of absence it is and ``reason`` says why and what would fix it. ``note`` is what else was
    found, for the verdict to tell.
    """

    name: str
    unit: str
    direction: str
    kind: Kind
    headline: str
    values: tuple[Value, ...] = ()
    provenance: Provenance = Provenance("")
    missing: Missing | None = None
    reason: str = ""
    note: str = ""

    @classmethod
    def from_run(cls, entry: Mapping[str, Json]) -> Self:
        """As docs/json.md has it: why something was not measured is its verdict's to say."""
        return cls(
            name=entry["name"],
            unit=entry["unit"],
            direction=entry["direction"],
            kind=Kind(entry["kind"]),
            headline=entry["headline"],
            values=tuple(Value.from_json(value) for value in entry["samples"]),
            provenance=Provenance.from_json(entry["provenance"]),
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Self:
        missing = Missing(data["missing"]) if data["missing"] else None
        taken = cls.from_run({**data, "samples": data["values"]})
        return replace(taken, missing=missing, reason=data["reason"], note=data.get("note", ""))

    @property
    def by_key(self) -> dict[str, float]:
        return {v.key: v.value for v in self.values}

    @property
    def numbers(self) -> list[float]:
        return [v.value for v in self.values]
