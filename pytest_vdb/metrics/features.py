"""What metrics are computed from: rows of numbers of a video, computed once and shared.

A metric of its frames alone may be a function of the whole video. One that shares a network with
others, or shall take a video of any length, is a function of rows instead. Light: a feature's own
code is imported when it is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from pytest_vdb.errors import BadSetting, nearest
from pytest_vdb.metrics.weights import Network

OF_FRAMES = ("frames", "reference", "stream", "stream_reference")
OF = (*OF_FRAMES, "prompt", "video", "video_reference", "audio", "audio_reference")
Stream = Generator[None, tuple[Any, ...] | None, Any]
"""What ``rows`` of a feature of a stream gives: it yields for frames, and returns rows."""


@dataclass(frozen=True)
class Feature:
    """Rows of numbers, (M, D), that metrics share.

    ``of`` decides what ``rows`` is called with, after the module of its ``network``, a
    `pytest_vdb.metrics.weights.Network`, where it has one:

    - ``"frames"``: frames of windows that follow each other. ``window`` frames make one row and
      the next begins ``stride`` later: 1, 1 is a row a frame, 2, 1 a row each adjacent pair. So
      ``rows`` gets (M - 1) · stride + window frames and gives M rows.
    - ``"reference"``: the same, with the frames of the baseline's video after them.
    - ``"stream"``, ``"stream_reference"``: nothing. ``rows`` is a generator function: each
      ``yield`` gives a tuple, the next frame and, of ``"stream_reference"``, the baseline's, and
      None after the last one; then it returns the rows, any number of them. For a tool that wants
      all frames in order, or windows of another kind.
    - ``"prompt"``: the video's text; one row.
    - ``"video"``, ``"video_reference"``: the `pytest_vdb.metrics.video.Video`, and the baseline's
      after it. For its fps: a feature that reads its frames costs another pass over them.
    - ``"audio"``, ``"audio_reference"``: the `Audio` of the video, and the baseline's after it.

    With a ``network``, frames are a uint8 tensor (N, 3, H, W) on its device; without, a uint8 array
    (N, H, W, 3), RGB; in a stream they come without the N. ``rows`` gives an array or tensor of
    floats, (M, D), whatever M: its numbers must not depend on how a video is split into calls.
    ``samples`` takes that many frames, each from the middle of an equal part of the video (all of
    them where there are fewer); ``fps`` takes every round(video fps / fps)-th frame. ``version``
    changes whenever the rows of the same video may.

    Raises BadSetting for a field that cannot mean anything.
    """

    name: str
    rows: Callable[..., Any]
    of: str = "frames"
    window: int = 1
    stride: int = 1
    samples: int = 0
    fps: float = 0.0
    network: Network | None = None
    version: str = "1"

    def __post_init__(self) -> None:
        for wrong, message in self._problems():
            if wrong:
                raise BadSetting(f"the feature {self.name!r}: {message}")

    def _problems(self) -> Iterator[tuple[bool, str]]:
        yield self.of not in OF, f"of={self.of!r}; {nearest(self.of, OF)}"
        yield (
            not 1 <= self.stride <= self.window,
            f"window={self.window}, stride={self.stride}; a window is at least as long as its "
            "stride, and both are 1 or more",
        )
        yield (
            bool(self.samples and self.fps),
            "samples and fps are two ways to take frames; give one of them",
        )
        yield self.samples < 0 or self.fps < 0, "samples and fps are 0 (all frames) or more"
        yield (
            self.streamed and (self.window, self.stride) != (1, 1),
            f"of={self.of!r} has no windows; leave window and stride out",
        )
        yield not callable(self.rows), "rows is not callable; give the function itself"

    @property
    def of_frames(self) -> bool:
        """Whether it is computed in the pass over the frames."""
        return self.of in OF_FRAMES

    @property
    def paired(self) -> bool:
        """Whether it takes the reference's frames beside the video's."""
        return self.of in ("reference", "stream_reference")

    @property
    def streamed(self) -> bool:
        return self.of in ("stream", "stream_reference")


def returned(stream: Stream, given: tuple[Any, ...] | None) -> Any:
    """Send ``given`` to a generator of rows: what it returns, None while it goes on."""
    try:
        stream.send(given)
    except StopIteration as done:
        return done.value
    return None


def stream_rows(stream: Stream, frames: Iterable[tuple[Any, ...]]) -> Any:
    """What a generator of rows returns for ``frames``, without an engine."""
    with closing(stream):
        next(stream)
        for given in frames:
            stream.send(given)
        return returned(stream, None)


def unequal(named: Iterable[Any], what: str) -> dict[str, Any]:
    """By name. Raises BadSetting for two of one name that are not the same: one would pass for the
    other."""
    found: dict[str, Any] = {}
    for one in named:
        if found.setdefault(one.name, one) != one:
            raise BadSetting(f"two {what} are called {one.name!r}; give one of them another name")
    return found


def versioned(package: str) -> str:
    """``"numpy 2.4.6"``, or that it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package}, which is not installed"
