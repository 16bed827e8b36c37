"""Videos that were made elsewhere: a folder of clips with a manifest of prompts and seeds.

``prompts.jsonl`` holds one JSON object a line: ``file`` and ``prompt``, and optionally ``seed``
(0), ``model`` (the folder's name), and ``fps``, ``width``, ``height``, ``num_frames``: what the
clip must be. Reading it needs no heavy library; decoding a clip does.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from pytest_vdb.errors import BadManifest, SourceError, UnreadableClip, nearest
from pytest_vdb.models.sources import Output, provides
from pytest_vdb.names import CONTROL
from pytest_vdb.prompts import prompt_id
from pytest_vdb.records import Json, ModelSpec, Prompt, Record, Workload, sample_key

MANIFEST = "prompts.jsonl"
SUFFIXES = frozenset({".mp4", ".webm", ".mkv", ".webp", ".gif"})
SURROGATES = re.compile(r"[\ud800-\udfff]")  # JSON can name half a character
SIZES = ("num_frames", "height", "width")


@dataclass(frozen=True)
class Entry(Record):
    """One line of a manifest. ``file`` is relative to the folder; None means not said."""

    file: str
    prompt: str
    seed: int = 0
    model: str = ""
    fps: float | None = None
    width: int | None = None
    height: int | None = None
    num_frames: int | None = None

    @property
    def expected(self) -> dict[str, Json]:
        """What the manifest says about the clip: any of num_frames, height, width, fps."""
        said = {name: getattr(self, name) for name in (*SIZES, "fps")}
        return {name: value for name, value in said.items() if value is not None}


def read_manifest(folder: Path | str) -> tuple[Entry, ...]:
    """The entries of ``folder/prompts.jsonl`` in its order, every one with its model's name.

    Raises BadManifest, naming file and line, for a manifest that is missing or is not JSON lines,
    unknown or wrong keys, a clip that is missing, outside the folder or of an unknown suffix, the
    same (model, prompt, seed) twice, and a model whose prompts have different seeds.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise BadManifest(
            f"{path} cannot be read ({exc}); write one JSON object a line there: "
            '{"file": "fox.mp4", "prompt": "a fox", "seed": 0}'
        ) from exc
    seen: dict[tuple[str, str, int], int] = {}
    entries = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        entry = _entry(line, folder, f"{path}:{number}")
        key = (entry.model, entry.prompt, entry.seed)
        if key in seen:
            raise BadManifest(
                f"{path}:{number}: model {entry.model!r} has prompt {entry.prompt!r} with seed "
                f"{entry.seed} already in line {seen[key]}; give the second another seed"
            )
        seen[key] = number
        entries.append(entry)
    if not entries:
        raise BadManifest(f"{path} names no clip")
    _check_rectangular(entries, path)
    return tuple(entries)


def specs(folder: Path | str) -> tuple[ModelSpec, ...]:
    """One `ModelSpec` for each model of the folder, in the manifest's order. Raises BadManifest."""
    entries = read_manifest(folder)
    counts = {e.model: sum(o.model == e.model for o in entries) for e in entries}
    return tuple(
        ModelSpec(
            name=model,
            source="recorded",
            location=str(Path(folder).absolute()),
            dtype="uint8",
            summary=f"{count} recorded videos",
        )
        for model, count in counts.items()
    )


def workload(spec: ModelSpec) -> Workload:
    """Prompts × seeds of one model of a folder.

    Its call holds what the manifest says about each clip, by sample key:
    ``{"expected": {"<prompt id>/<seed>": {"num_frames": 33, ...}}}``. Raises BadManifest.
    """
    entries = _entries(spec)
    texts = dict.fromkeys(e.prompt for e in entries)
    expected = {sample_key(prompt_id(e.prompt), e.seed): e.expected for e in entries if e.expected}
    return Workload(
        prompts=tuple(Prompt(prompt_id(text), text) for text in texts),
        seeds=tuple(sorted({e.seed for e in entries})),
        call={"expected": expected} if expected else {},
        dtype=spec.dtype,
        options=spec.options,
    )


class RecordedSource:
    """The clips of one model of a folder. Raises BadManifest."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self._clips = {(e.prompt, e.seed): e for e in _entries(spec)}

    def generate(self, prompt: Prompt, seed: int, call: Mapping[str, Json]) -> Output:
        """The decoded clip: uint8 frames (T, H, W, 3), no latent, ``original`` its own file.

        ``call`` changes nothing: the clip is what it is. Raises SourceError where there is no
        such clip, UnreadableClip for one that cannot be decoded or is not what the manifest says.
        """
        from pytest_vdb.models.clips import read_clip

        entry = self._clips.get((prompt.text, seed))
        if entry is None:
            raise SourceError(
                f"{self.spec.location} has no clip of model {self.spec.name!r} for prompt "
                f"{prompt.text!r} with seed {seed}; add a line to {MANIFEST}"
            )
        path = Path(self.spec.location, entry.file)
        output = read_clip(path)
        found = dict(zip(SIZES, output.frames.shape, strict=False))
        wrong = [
            f"{name} is {found[name]}, and the manifest says {value}"
            for name, value in entry.expected.items()
            if name in found and value != found[name]
        ]
        if entry.fps and output.fps and abs(1 / entry.fps - 1 / output.fps) > 0.001:
            # Animated pictures round a frame's time to milliseconds.
            wrong.append(f"fps is {output.fps:.4g}, and the manifest says {entry.fps:g}")
        if wrong:
            raise UnreadableClip(f"{path}: {'; '.join(wrong)}; correct {MANIFEST} or the clip")
        return Output(output.frames, None, entry.fps or output.fps, str(path))

    @property
    def provides(self) -> frozenset[str]:
        return provides(self.spec)

    @property
    def nbytes(self) -> int:
        return 0

    def close(self) -> None:
        """Nothing stays open."""


def _entries(spec: ModelSpec) -> list[Entry]:
    entries = [e for e in read_manifest(spec.location) if e.model == spec.name]
    if not entries:
        raise BadManifest(f"{Path(spec.location, MANIFEST)} has no clip of model {spec.name!r}")
    return entries


def _entry(line: str, folder: Path, where: str) -> Entry:
    """One checked line; ``where`` is ``<file>:<line>``."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise BadManifest(f"{where}: not JSON: {exc}") from exc
    if not isinstance(data, dict):
        raise BadManifest(f'{where}: not an object; write {{"file": ..., "prompt": ...}}')
    data = {"model": folder.resolve().name, **data}
    known = [f.name for f in fields(Entry)]
    for key, value in data.items():
        if key not in known:
            raise BadManifest(f"{where}: unknown key {key!r}; {nearest(key, known)}")
        if problem := _problem(key, value):
            raise BadManifest(f"{where}: {key} is {value!r}; {problem}")
    for key in ("file", "prompt"):
        if key not in data:
            raise BadManifest(f"{where}: no {key!r}")
    entry = Entry(**data)
    clip = folder / entry.file
    if not clip.resolve().is_relative_to(folder.resolve()):
        raise BadManifest(f"{where}: {entry.file!r} is outside {folder}; copy the clip into it")
    if clip.suffix.lower() not in SUFFIXES:
        raise BadManifest(f"{where}: {entry.file!r} is none of {', '.join(sorted(SUFFIXES))}")
    if not os.path.isfile(clip):  # Path.is_file raises for a name that is too long
        raise BadManifest(f"{where}: there is no file {clip}")
    return entry


def _problem(key: str, value: Json) -> str:
    """What is wrong with the value of ``key``, or an empty string."""
    if key in ("file", "prompt", "model"):
        if not isinstance(value, str) or not value.strip():
            return "give a text"
        if key != "prompt" and CONTROL.search(value):
            return "give a text without control characters"
        return "give Unicode text" if SURROGATES.search(value) else ""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if key == "fps":
        return "" if number and 0 < value < float("inf") else "give frames a second, above 0"
    if not number or not isinstance(value, int):
        return "give a whole number"
    return (
        "give at least 0"
        if key == "seed" and value < 0
        else ("give at least 1" if key != "seed" and value < 1 else "")
    )


def _check_rectangular(entries: list[Entry], path: Path) -> None:
    """A workload is prompts × seeds, so every prompt of a model needs the same seeds."""
    for model in dict.fromkeys(e.model for e in entries):
        pairs = {(e.prompt, e.seed): e for e in entries if e.model == model}
        for prompt in dict.fromkeys(p for p, _ in pairs):
            for seed in sorted({s for _, s in pairs}):
                if (prompt, seed) not in pairs:
                    raise BadManifest(
                        f"{path}: model {model!r} has no clip for prompt {prompt!r} with seed "
                        f"{seed}, which other prompts have; add it, or give every prompt the "
                        "same seeds"
                    )
