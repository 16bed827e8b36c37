"""What an engine returns: read, and refused where it cannot be right."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from numbers import Real
from typing import Any

import numpy as np
import torch
from PIL import Image

from pytest_vdb.errors import SourceError, nearest
from pytest_vdb.models.pipeline import frames_of
from pytest_vdb.models.sources import Output, Rank

FIELDS = frozenset(field.name for field in fields(Output)) - {"original"}
RANK = frozenset(field.name for field in fields(Rank))
WORD = re.compile(
    r"(?!(cpu|step|steps|queue|first|compile|peak|reserved|rank\d*)$|cpu_)[a-z][a-z0-9_]*"
)
"""A stage's name; not those of other measurements of ``latency.`` and ``memory.``."""
PEAK = re.compile(rf"allocated|reserved|stage\.{WORD.pattern}")
CLOSE = 1.01  # two clocks around the same work differ by less than 1 %
TOUCH = 0.001  # seconds: a reading of the clock itself


def fields_of(result: Any, where: str) -> dict[str, Any]:
    """What was reported, by `Output`'s field names, with ``frames`` as an array.

    The frames' dtype and range are checked here; their shape is `quantised`'s. Raises SourceError.
    """
    if isinstance(result, Output):
        result = {name: getattr(result, name) for name in (*FIELDS, "original")}
    elif not isinstance(result, Mapping):
        result = {"frames": result}
    reported = {key: value for key, value in result.items() if value is not None}
    for key in reported:
        if key not in FIELDS:
            raise SourceError(f"{where} the engine reports {key!r}: {nearest(key, FIELDS)}")
    if "frames" not in reported:
        raise SourceError(f"{where} the engine gave no frames; it gave {sorted(reported)}")
    reported["frames"] = _frames(reported["frames"], where)
    return reported


def checked(reported: Mapping[str, Any], wall: float, devices: int, where: str) -> Output:
    """`Output` of what an engine reported; ``wall`` is the clock around its call in seconds.

    Seconds are finite, above 0 and within the wall clock by 1 %; stages, steps and ranks within
    the seconds of the whole. Peaks are above 0. There are as many ranks as ``devices``, and all of
    them or none say a thing. Raises SourceError.
    """
    report = _Report(where)
    ranks = report.ranks(reported.get("ranks", ()), devices)
    seconds = report.seconds(reported.get("seconds"), ranks, wall)
    queue = reported.get("queue")
    if queue is not None and seconds is None:
        raise report.refused(
            "queue", queue, "report seconds beside it: the time without the waiting"
        )
    stages = report.stages(reported.get("stages", {}), seconds or wall)
    fps = reported.get("fps")
    audio, rate = report.audio(reported.get("audio"), reported.get("sampling_rate"))
    return Output(
        frames=reported["frames"],
        latent=_float32(reported.get("latent")),
        fps=None if fps is None else report.number("fps", fps, zero=False),
        audio=audio,
        sampling_rate=rate,
        seconds=seconds,
        queue=None if queue is None else report.number("queue", queue),
        stages=stages,
        steps=report.steps(reported.get("steps", ()), seconds or wall),
        memory=report.memory(reported.get("memory", {}), ranks),
        ranks=ranks,
    )


class _Report:
    """Reads one report; every message begins with ``where``."""

    def __init__(self, where: str) -> None:
        self.where = where

    def refused(self, name: str, value: object, instead: str) -> SourceError:
        return SourceError(
            f"{self.where} the engine reports {name}={reprlib.repr(value)}; {instead}"
        )

    def number(self, name: str, value: object, *, zero: bool = True) -> float:
        """A finite number of at least 0, or above 0."""
        if isinstance(value, Real) and not isinstance(value, bool):
            number = float(value)
            if math.isfinite(number) and (number > 0 or (zero and number == 0)):
                return number
        least = "of at least" if zero else "above"
        raise self.refused(
            name, value, f"give a finite number {least} 0, or leave out what was not measured"
        )

    def mapping(self, name: str, value: Any, allowed: re.Pattern[str]) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            raise self.refused(name, value, "give a mapping of names to numbers")
        for key in value:
            if not (isinstance(key, str) and allowed.fullmatch(key)):
                known = "allocated, reserved or stage.<stage>" if allowed is PEAK else (
                    "a word such as text_encode, denoise or decode, in lower case and not the "
                    "name of another latency"
                )  # fmt: skip
                raise self.refused(name, {key: value[key]}, f"name {known}")
        return value

    def seconds(self, whole: Any, ranks: Sequence[Rank], wall: float) -> float | None:
        """The slowest of what is given."""
        given = {"seconds": whole} | {f"ranks[{n}].seconds": r.seconds for n, r in enumerate(ranks)}
        times = {name: value for name, value in given.items() if value is not None}
        for name, value in times.items():
            if self.number(name, value, zero=False) > wall * CLOSE + TOUCH:
                raise self.refused(
                    name, value, f"the call took {wall:.4g} s: give seconds of this call"
                )
        return max(map(float, times.values())) if times else None

    def stages(self, stages: Any, total: float) -> dict[str, float]:
        named = self.mapping("stages", stages, WORD)
        read = {key: self.number(f"stages[{key!r}]", value) for key, value in named.items()}
        self._within("stages", read.values(), total)
        return read

    def steps(self, steps: Any, total: float) -> tuple[float, ...]:
        if isinstance(steps, str | Mapping) or not isinstance(steps, Iterable):
            raise self.refused("steps", steps, "give a list of seconds, one a denoise step")
        read = tuple(self.number(f"steps[{n}]", value) for n, value in enumerate(steps))
        self._within("steps", read, total)
        return read

    def _within(self, name: str, parts: Iterable[float], total: float) -> None:
        if (added := sum(parts)) > total * CLOSE:
            raise self.refused(
                name,
                f"{added:.4g} s in all",
                f"the generation took {total:.4g} s: give seconds that do not overlap",
            )

    def memory(self, memory: Any, ranks: Sequence[Rank]) -> dict[str, int]:
        """Peaks by name, the largest rank's as ``allocated`` and each rank's."""
        named = self.mapping("memory", memory, PEAK)
        peaks = {
            key: round(self.number(f"memory[{key!r}]", value, zero=False))
            for key, value in named.items()
        }
        each = {f"rank.{n}": r.memory for n, r in enumerate(ranks) if r.memory is not None}
        if each:
            peaks["allocated"] = max(peaks.get("allocated", 0), *each.values())
        return peaks | each

    def ranks(self, ranks: Any, devices: int) -> tuple[Rank, ...]:
        """One entry a process, all with the same fields."""
        if isinstance(ranks, str | Mapping) or not isinstance(ranks, Iterable):
            raise self.refused("ranks", ranks, "give a list, one mapping a rank")
        read = tuple(self._rank(n, rank) for n, rank in enumerate(ranks))
        if read and len(read) != devices:
            raise self.refused(
                "ranks",
                f"{len(read)} ranks",
                f"its ModelSpec says devices={devices}: say how many it runs on, and report each",
            )
        for name in RANK:
            said = [n for n, rank in enumerate(read) if getattr(rank, name) is not None]
            if said and len(said) < len(read):
                raise self.refused(
                    "ranks",
                    f"{name} of rank {', '.join(map(str, said))} alone",
                    "report it of all ranks or of none",
                )
        return read

    def _rank(self, n: int, rank: Any) -> Rank:
        entry = {key: getattr(rank, key) for key in RANK} if isinstance(rank, Rank) else rank
        if not isinstance(entry, Mapping):
            raise self.refused(
                f"ranks[{n}]", rank, f"give a mapping with {', '.join(sorted(RANK))}"
            )
        for key in entry:
            if key not in RANK:
                raise self.refused(f"ranks[{n}]", {key: entry[key]}, nearest(key, RANK))
        read = {
            key: self.number(f"ranks[{n}].{key}", value, zero=False)
            for key, value in entry.items()
            if value is not None
        }
        memory = round(read["memory"]) if "memory" in read else None
        return Rank(read.get("seconds"), memory, read.get("energy"))

    def audio(self, audio: Any, rate: Any) -> tuple[np.ndarray | None, int | None]:
        """Sound as float32 (channels, samples) and its rate in Hz."""
        if audio is None:
            return None, None
        if not isinstance(rate, int) or isinstance(rate, bool) or rate < 1:
            raise self.refused("sampling_rate", rate, "give the audio's rate in Hz, a whole number")
        sound = _array(audio)
        if sound.ndim not in (1, 2) or not np.issubdtype(sound.dtype, np.floating):
            shape = f"{sound.dtype} {sound.shape}"
            raise self.refused("audio", shape, "give floats in [-1, 1], (channels, samples)")
        return np.ascontiguousarray(np.atleast_2d(sound), np.float32), rate


def _frames(video: Any, where: str) -> np.ndarray:
    array = isinstance(video, np.ndarray | torch.Tensor)
    if not array and not (isinstance(video, list | tuple) and video and _is_picture(video[0])):
        raise SourceError(
            f"{where} the engine gave a {type(video).__name__} for frames; give an array "
            "(T, H, W, 3), a tensor (T, 3, H, W) or a list of pictures"
        )
    if array and (video.ndim not in (4, 5) or 0 in video.shape or video.shape[:-4] > (1,)):
        raise SourceError(
            f"{where} the engine gave frames of shape {tuple(video.shape)}; give one video: an "
            "array (T, H, W, 3) or a tensor (T, 3, H, W)"
        )
    frames = frames_of(video)
    if getattr(video[0], "dtype", None) is torch.uint8:
        return frames.astype(np.uint8)  # it may have come back as floats
    if np.issubdtype(frames.dtype, np.floating):
        _check_range(frames, where)
    return frames


def _is_picture(value: object) -> bool:
    return isinstance(value, Image.Image) or (
        isinstance(value, np.ndarray | torch.Tensor) and value.ndim == 3
    )


def _check_range(frames: np.ndarray, where: str) -> None:
    """Raise for floats in another range than [0, 1]: a few frames tell, at no cost that shows."""
    some = frames[:: max(1, len(frames) // 4)]
    finite = some[np.isfinite(some)]
    if finite.size and not (finite.min() >= -0.01 and finite.max() <= 1.01):
        raise SourceError(
            f"{where} the engine gave frames with values from {finite.min():.4g} to "
            f"{finite.max():.4g}; give floats in [0, 1] or uint8"
        )


def _array(values: Any) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.float() if values.is_floating_point() else values
        return values.detach().cpu().numpy()
    return np.asarray(values)


def _float32(latent: Any) -> np.ndarray | None:
    return None if latent is None else _array(latent).astype(np.float32)
