"""A video as metrics see it: frames one after the other, rate, audio, digest."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pytest_vdb.errors import BadSetting, Unmeasured, UnreadableClip
from pytest_vdb.models import clips


@dataclass(frozen=True)
class Audio:
    """``samples``: float32 (channels, N) in [−1, 1]; ``rate`` in Hz."""

    samples: np.ndarray
    rate: int


class Video:
    """One video: a uint8 array (T, H, W, 3), RGB, or a file that is decoded as it is read.

    ``fps`` and ``audio`` are for an array; where they are given for a file, they replace what it
    says. ``fps`` is the mean rate, None where nobody says. ``sha256`` is of the content: equal
    frames and audio in memory, equal bytes of a file. Raises BadSetting for a source that is
    neither, and UnreadableClip, while frames are read, for a damaged file.
    """

    def __init__(
        self,
        source: np.ndarray | Path | str,
        *,
        fps: float | None = None,
        audio: Audio | None = None,
        name: str = "",
    ) -> None:
        if not isinstance(source, np.ndarray | Path | str):
            raise BadSetting(
                f"a video of a {type(source).__name__}: give a uint8 array (frames, height, width, "
                "3), or the path of a file"
            )
        self.path = None if isinstance(source, np.ndarray) else Path(source)
        self._array = source if isinstance(source, np.ndarray) else None
        self._fps, self._audio = fps, audio
        self.name = name or (str(self.path) if self.path else "this video")

    @classmethod
    def of(cls, value: Any) -> Video:
        """A Video of an array, a tensor, a path, or of a Video itself."""
        if isinstance(value, cls):
            return value
        if hasattr(value, "detach"):
            value = value.detach().cpu().numpy()
        return cls(value)

    def frames(self) -> Iterator[np.ndarray]:
        """Each frame, uint8 (H, W, 3), in order; every call begins anew."""
        if self._array is None:
            assert self.path is not None
            count = 0
            for frame in clips.stream(self.path).frames:
                yield frame
                count += 1
            self.count = count
            return
        shape = self._array.shape
        if self._array.dtype.name != "uint8" or len(shape) != 4 or shape[3] != 3 or 0 in shape:
            raise Unmeasured(
                f"{self.name}: a video is uint8 of shape (frames, height, width, 3); "
                f"this one is {self._array.dtype.name} of shape {shape}"
            )
        yield from self._array

    @cached_property
    def count(self) -> int:
        """The number of frames. Of a file it takes a pass over it, if none was made yet."""
        return len(self._array) if self._array is not None else sum(1 for _ in self.frames())

    @property
    def expected(self) -> int | None:
        """`count`, or what a file's headers say it is; they may say nothing, and be wrong."""
        if self._array is not None or "count" in self.__dict__:
            return self.count
        assert self.path is not None
        return clips.stream(self.path).count

    def held(self, folder: Path | None = None) -> Video:
        """The same video decoded, for what reads it more than once: its frames in memory, or in a
        file below ``folder`` that is read as they are needed."""
        if self._array is not None:
            return self
        frames = np.stack(list(self.frames()))
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=folder, suffix=".npy")
            with os.fdopen(descriptor, "wb") as file:
                np.save(file, frames)
            frames = np.load(name, mmap_mode="r")
        held = Video(frames, fps=self._fps, audio=self._audio)
        held.path, held.name = self.path, self.name
        return held

    def portable(self) -> Video:
        """The same video, all of it in memory, for a process that has none of its files."""
        held = self.held()
        assert held._array is not None
        audio = None
        with suppress(Unmeasured):
            audio = Audio(np.asarray(self.audio.samples), self.audio.rate)
        # As an array: a file that is mapped would travel as its name.
        video = Video(np.asarray(held._array), fps=self.fps, audio=audio, name=self.name)
        video.unevenness = self.unevenness
        return video

    @cached_property
    def fps(self) -> float | None:
        if self._fps is not None or self.path is None:
            return self._fps
        return clips.stream(self.path).fps

    @cached_property
    def unevenness(self) -> float:
        """Seconds by which a frame of a file is shown at most off its turn at an even rate.

        0 where ``fps`` was given, and of an array.
        """
        if self._fps is not None or self.path is None:
            return 0.0
        return clips.stream(self.path).unevenness

    @cached_property
    def audio(self) -> Audio:
        """The audio track. Raises Unmeasured for a video without one."""
        if self._audio is not None:
            return self._audio
        track = clips.read_audio(self.path) if self.path is not None else None
        if track is None:
            raise Unmeasured(f"{self.name} has no audio")
        return Audio(*track)

    @cached_property
    def sha256(self) -> str:
        digest = hashlib.sha256(repr(self._fps).encode())
        if self.path is not None:
            try:
                with self.path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
            except OSError as error:
                raise UnreadableClip(f"{self.path} cannot be read: {error.strerror}") from None
        else:
            assert self._array is not None
            digest.update(repr((self._array.shape, self._array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(self._array).data)
        if self._audio is not None:
            samples = self._audio.samples
            facts = (self._audio.rate, samples.shape, samples.dtype.str)
            digest.update(repr(facts).encode())
            digest.update(np.ascontiguousarray(self._audio.samples).data)
        return digest.hexdigest()
