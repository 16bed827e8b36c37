"""What is asked for: a model, prompts, a workload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Self

from pytest_vdb.names import digest, slug
from pytest_vdb.records.base import Json, Record

FRAME_COUNTS = ("num_frames", "video_length", "frames")
"""What pipelines call the number of frames that is asked for."""


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
        return super().from_json({**data, "tags": tuple(data.get("tags", ()))})

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
