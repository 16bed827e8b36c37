"""The nouns: one frozen dataclass each, plain data, JSON in and out.

Nothing here imports torch or numpy, so every room may import it. Units are base units:
seconds, bytes; scores are on the metric's published scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from enum import StrEnum
from typing import Any, Self

from pytest_vdb.names import digest, slug, words

Json = Any  # what json.loads gives back

FRAME_COUNTS = ("num_frames", "video_length", "frames")
"""What pipelines call the number of frames that is asked for."""


class Record:
    """JSON in and out for a frozen dataclass whose nested records name their own types."""

    def to_json(self) -> dict[str, Json]:
        assert is_dataclass(self)
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Self:
        """Build the record from ``to_json``'s form; keys of a newer writer are ignored."""
        assert is_dataclass(cls)
        return cls(**{f.name: data[f.name] for f in fields(cls) if f.name in data})


@dataclass(frozen=True)
class Prompt(Record):
    """One line of a prompt suite. ``id`` is stable when the wording of others changes.

    ``image`` is the file of a conditioning image, for image-to-video: its sha256 belongs to the
    workload's identity, its place does not, nor do ``tags`` (what the prompt is meant to probe).
    """

    id: str
    text: str
    image: str | None = None
    image_sha256: str | None = None
    tags: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Self:
        prompt = super().from_json(data)
        object.__setattr__(prompt, "tags", tuple(prompt.tags))
        return prompt

    def to_json(self) -> dict[str, Json]:
        """Without what is empty, so that a text alone stays ``{"id", "text"}``."""
        return {k: v for k, v in asdict(self).items() if v or k in ("id", "text")}


@dataclass(frozen=True)
class ModelSpec(Record):
    """What is under test.

    ``source`` says what ``location`` is: ``"diffusers"`` (a hub id or a local folder, at
    ``revision``), ``"factory"`` (``module:function``, called with what it has a parameter for,
    which gives a diffusers pipeline or an engine), ``"endpoint"`` (the URL of a video API) or
    ``"recorded"`` (a folder with a manifest). ``call`` holds default call arguments; ``options``
    says how the model is loaded and run (``num_threads``, ``vae_tiling``, ...) and, like ``dtype``,
    belongs to the workload's identity. ``weights`` is ``"pretrained"`` or ``"random"``; of
    pretrained ones ``sha256`` is the digest (`models.folder.digest`) that the weight files must
    have, where it is given.

    Of a catalog entry: ``pipeline`` is the class in diffusers, ``task`` ``"text-to-video"`` or
    ``"image-to-video"``, ``output`` the attribute of the pipeline's result that holds the video,
    ``audio`` whether a sound track comes with it, ``memory`` the bytes of device memory that the
    default call needs, ``licence`` the weights' own, ``devices`` how many it runs on, ``twin`` the
    tiny model of the same classes, ``prompts`` the suite that it is asked for where neither a flag
    nor a marker says so.
    """

    name: str
    source: str
    location: str
    revision: str = ""
    dtype: str = "float32"
    call: dict[str, Json] = field(default_factory=dict)
    options: dict[str, Json] = field(default_factory=dict)
    memory: int | None = None
    summary: str = ""
    weights: str = "pretrained"
    pipeline: str = ""
    task: str = "text-to-video"
    output: str = "frames"
    audio: bool = False
    devices: int = 1
    licence: str = ""
    twin: str = ""
    sha256: str = ""
    prompts: str = ""

    @property
    def slug(self) -> str:
        return slug(self.name)


@dataclass(frozen=True)
class Workload(Record):
    """Prompts × seeds × call arguments. Its content hash is its identity in a baseline."""

    prompts: tuple[Prompt, ...]
    seeds: tuple[int, ...]
    call: dict[str, Json]
    dtype: str = "float32"
    options: dict[str, Json] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Self:
        return cls(
            prompts=tuple(Prompt.from_json(p) for p in data["prompts"]),
            seeds=tuple(data["seeds"]),
            call=data["call"],
            dtype=data["dtype"],
            options=data["options"],
        )

    @property
    def hash(self) -> str:
        """16 hex digits over everything that decides which videos are asked for."""
        return digest(self.portable.to_json())[:16]

    @property
    def portable(self) -> Self:
        """The same without what is this machine's or decides nothing: images' places, tags."""
        prompts = tuple(replace(prompt, image=None, tags=()) for prompt in self.prompts)
        return replace(self, prompts=prompts)

    def to_json(self) -> dict[str, Json]:
        return {**asdict(self), "prompts": tuple(prompt.to_json() for prompt in self.prompts)}

    @property
    def jobs(self) -> tuple[tuple[Prompt, int], ...]:
        """Every (prompt, seed), prompts outermost: the order of generation."""
        return tuple((prompt, seed) for prompt in self.prompts for seed in self.seeds)


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
        sample = super().from_json(data)
        object.__setattr__(sample, "shape", tuple(sample.shape))
        object.__setattr__(sample, "steps", tuple(sample.steps))
        return sample


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


@dataclass(frozen=True)
class Value(Record):
    """One measured number of one sample; ``seed`` is None for a value of the whole run."""

    prompt: str
    seed: int | None
    value: float

    @property
    def key(self) -> str:
        return "run" if self.seed is None else sample_key(self.prompt, self.seed)


class Kind(StrEnum):
    """What decides which rule of the gate applies."""

    LATENCY = "latency"
    MEMORY = "memory"
    ENERGY = "energy"
    SCORE = "score"
    DISTANCE = "distance"  # to the baseline's video: a trigger, never a conviction


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
    kind of absence it is and ``reason`` says why and what would fix it.
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

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Self:
        return cls(
            name=data["name"],
            unit=data["unit"],
            direction=data["direction"],
            kind=Kind(data["kind"]),
            headline=data["headline"],
            values=tuple(Value.from_json(v) for v in data["values"]),
            provenance=Provenance.from_json(data["provenance"]),
            missing=Missing(data["missing"]) if data["missing"] else None,
            reason=data["reason"],
        )

    @property
    def by_key(self) -> dict[str, float]:
        return {v.key: v.value for v in self.values}

    @property
    def numbers(self) -> list[float]:
        return [v.value for v in self.values]


@dataclass(frozen=True)
class Environment(Record):
    """``identity`` decides comparability; ``facts`` are shown beside it and decide nothing."""

    identity: dict[str, str]
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """A readable folder name that ends in a hash of the whole identity."""
        readable = "-".join(words(v).lower() for v in self.identity.values() if v)
        return f"{readable[:60].rstrip('-.')}-{digest(self.identity)[:6]}"


class State(StrEnum):
    """What the gate can say; the table in docs/verdicts.md says what each does to a test."""

    PASS = "PASS"
    IDENTICAL = "IDENTICAL"
    IMPROVEMENT = "IMPROVEMENT"
    REGRESSION = "REGRESSION"
    ACCEPTED = "ACCEPTED"
    NEW = "NEW"
    NO_BASELINE = "NO_BASELINE"
    INCONCLUSIVE = "INCONCLUSIVE"
    UNMEASURED = "UNMEASURED"
    NOT_APPLICABLE = "NOT_APPLICABLE"
    INFRA_ERROR = "INFRA_ERROR"


@dataclass(frozen=True)
class Verdict(Record):
    """One measurement against its baseline.

    ``effect`` and ``interval`` are relative changes (0.1 is +10 %) where ``relative``, else in
    the measurement's unit; a positive effect is a rise of the value, whatever its direction.
    """

    state: State
    reason: str
    effect: float | None = None
    interval: tuple[float, float] | None = None
    relative: bool = True
    tolerance: str | None = None
    p: float | None = None
    n: int = 0
    baseline: float | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Self:
        verdict = super().from_json(data)
        object.__setattr__(verdict, "state", State(verdict.state))
        if verdict.interval is not None:
            object.__setattr__(verdict, "interval", tuple(verdict.interval))
        return verdict


@dataclass(frozen=True)
class Session(Record):
    """When, on which commit and on what a stored run was made."""

    date: str
    commit: str
    facts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stored(Record):
    """One measurement in a baseline: values by session id and sample key, and how they were made.

    ``provenance`` holds ``version`` and ``weights``: with another definition nothing is compared.
    """

    unit: str
    direction: str
    provenance: dict[str, str | None]
    sessions: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Baseline(Record):
    """What one workload of one model is compared with in one environment.

    ``sessions`` are keyed by an id that sorts by time; ``media`` maps a sample key to the sha256
    of its reference media by role: ``frames`` (of the raw frames, no file), ``latent`` (fp16),
    ``video`` (lossless) or ``preview`` (small, for people).
    """

    workload: Workload
    sessions: dict[str, Session] = field(default_factory=dict)
    measurements: dict[str, Stored] = field(default_factory=dict)
    media: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Self:
        return cls(
            workload=Workload.from_json(data["workload"]),
            sessions={k: Session.from_json(s) for k, s in data["sessions"].items()},
            measurements={k: Stored.from_json(m) for k, m in data["measurements"].items()},
            media=data["media"],
        )

    def series(self, measurement: Measurement) -> list[dict[str, float]]:
        """Values by sample key, oldest session first; empty where the definition has changed."""
        stored = self.measurements.get(measurement.name)
        if stored is None or stored.provenance != definition(measurement.provenance):
            return []
        return [stored.sessions[key] for key in sorted(stored.sessions)]


def definition(provenance: Provenance) -> dict[str, str | None]:
    """The part of a provenance that two compared values must share."""
    return {"version": provenance.version, "weights": provenance.weights}


@dataclass(frozen=True)
class Run(Record):
    """What a runner gives back for one workload: samples and the times around them (seconds).

    ``cpu_peak`` is the CPU allocator's peak in bytes of one traced, untimed generation, by stage
    in ``cpu_stages``; None on a device whose own memory was measured: its peaks are in
    ``Sample.memory``. ``provides`` is what the loaded source says it can measure;
    ``hooked`` says that stages and memory were measured here and are not the model's own word.
    ``idle_power`` holds watts by meter, measured at rest before the warm-up. ``throughput`` is
    videos a second over all samples, at the number of concurrent requests that the options name.
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
