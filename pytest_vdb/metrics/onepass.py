"""The pass over a video's frames: who wants which of them, and the rows that they become.

Importing it imports numpy; torch is imported for the first network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_vdb.errors import Unmeasured
from pytest_vdb.metrics.features import Feature, Stream, returned
from pytest_vdb.metrics.video import Video

if TYPE_CHECKING:
    import torch

Compute = Callable[..., Any]
"""``compute(feature, function, *given)``: ``function`` of ``given``, the feature's network before
it; as it comes."""
Result = np.ndarray | Exception


def one_pass(
    features: Iterable[Feature],
    video: Video,
    reference: Video | None,
    *,
    compute: Compute,
    batch: int,
    device: str,
) -> dict[str, Result]:
    """(M, D) float64 of each feature of frames, by its name, or why there are none.

    The video is decoded once, and beside it the reference, where a feature compares. What fails
    for one feature, a reference of another shape too, loses no other.
    """
    takers = [
        (_Streamed if feature.streamed else _Windowed)(feature, video, compute, batch)
        for feature in features
    ]
    if not takers:
        return {}
    beside = _Beside(video, reference, [t for t in takers if t.feature.paired])
    try:
        index = -1
        for index, frame in enumerate(video.frames()):
            shared = _Shared((frame, *beside.next(frame)), device)
            for taker in takers:
                taker.take(index, shared)
        beside.end()
        results = {taker.feature.name: taker.finish(index + 1) for taker in takers}
    except Exception as error:  # of the video itself, which is damaged
        results = {taker.feature.name: taker.failure or error for taker in takers}
    finally:
        beside.close()
        for taker in takers:
            taker.close()
    wrong = [taker.feature for taker in takers if taker.miscounted]
    return results | one_pass(wrong, video, reference, compute=compute, batch=batch, device=device)


def rows_of(feature: Feature, result: Any) -> np.ndarray:
    """``result`` as rows, (M, D) float64. Raises Unmeasured for what is none."""
    if hasattr(result, "detach"):
        result = result.detach().cpu().double().numpy()
    rows = np.asarray(result, dtype=np.float64)
    if rows.ndim != 2:
        raise Unmeasured(f"{feature.name}: rows of shape {rows.shape}; they must be (M, D)")
    if not np.isfinite(rows).all():
        raise Unmeasured(
            f"{feature.name}: a number that is not finite came out, which is no measurement"
        )
    return rows


def middles(count: int, samples: int) -> list[int]:
    """The middle frame of each of ``samples`` equal parts, the earlier of two, as VBench takes it.

    All frames where there are fewer than ``samples``.
    """
    parts = min(count, samples)
    if not parts:
        return []
    edges = [i * count // parts for i in range(parts + 1)]
    return [(begin + end - 1) // 2 for begin, end in pairwise(edges)]


class _Shared:
    """One frame, the reference's after it, and their copies on the device for all networks."""

    def __init__(self, arrays: tuple[np.ndarray, ...], device: str) -> None:
        self.arrays = arrays
        self.device = device
        self._tensors: tuple[torch.Tensor, ...] = ()

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        if not self._tensors:
            import torch

            planes = (np.ascontiguousarray(a.transpose(2, 0, 1)) for a in self.arrays)
            self._tensors = tuple(torch.from_numpy(plane).to(self.device) for plane in planes)
        return self._tensors


class _Taker:
    """Collects the frames that a feature wants."""

    def __init__(self, feature: Feature, video: Video, compute: Compute, batch: int) -> None:
        self.feature, self.compute, self.batch = feature, compute, batch
        self.failure: Exception | None = None  # of this feature alone: the others go on
        self.miscounted = False
        self.every, self.chosen = 1, None
        try:
            self.every, self.expected = _every(feature, video), 0
            if feature.samples:
                self.expected = video.expected or video.count
                self.chosen = frozenset(middles(self.expected, feature.samples))
        except Exception as error:
            self.failure = error

    def take(self, index: int, shared: _Shared) -> None:
        if self.failure or index % self.every:
            return
        if self.chosen is not None and index not in self.chosen:
            return
        given = shared.arrays if self.feature.network is None else shared.tensors
        try:
            self.add(given if self.feature.paired else given[:1])
        except Exception as error:
            self.failure = error

    def finish(self, count: int) -> Result:
        """All rows of the ``count`` frames that there were, or why there are none."""
        if self.failure:
            return self.failure
        if self.chosen is not None and count != self.expected:
            self.miscounted = True  # the headers were wrong: the pass is made again
            return Unmeasured(f"{self.feature.name}: {count} frames, and {self.expected} by name")
        try:
            return rows_of(self.feature, self.end())
        except Exception as error:
            return error

    def add(self, frames: tuple[Any, ...]) -> None:
        raise NotImplementedError

    def end(self) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        """Give back what is held, also where the pass did not come to its end."""


class _Windowed(_Taker):
    """Turns frames into rows, a batch of windows at a time."""

    def __init__(self, feature: Feature, video: Video, compute: Compute, batch: int) -> None:
        super().__init__(feature, video, compute, batch)
        self.frames: list[tuple[Any, ...]] = []
        self.rows: list[np.ndarray] = []

    def add(self, frames: tuple[Any, ...]) -> None:
        self.frames.append(frames)
        if len(self.frames) == (self.batch - 1) * self.feature.stride + self.feature.window:
            self._flush()

    def _flush(self) -> None:
        """Rows of the whole windows at hand; the frames that later windows share stay."""
        feature = self.feature
        windows = (len(self.frames) - feature.window) // feature.stride + 1
        if windows < 1:
            return
        last = (windows - 1) * feature.stride + feature.window
        columns = [_stacked(list(column)) for column in zip(*self.frames[:last], strict=True)]
        rows = rows_of(feature, self.compute(feature, feature.rows, *columns))
        expected = (windows, self.rows[0].shape[1] if self.rows else rows.shape[1])
        if rows.shape != expected:
            raise Unmeasured(
                f"{feature.name}: {windows} windows gave rows of shape {rows.shape}; give one row "
                f"for each: {expected}"
            )
        self.rows.append(rows)
        self.frames = self.frames[windows * feature.stride :]

    def end(self) -> np.ndarray:
        self._flush()
        if self.rows:
            return np.concatenate(self.rows)
        length = "one frame" if len(self.frames) == 1 else f"{len(self.frames)} frames"
        raise Unmeasured(
            f"{self.feature.name} is of {self.feature.window} frames together, and this is "
            f"a video of {length}; it needs num_frames={self.feature.window}"
        )


class _Streamed(_Taker):
    """Sends frames to a generator of the feature's own."""

    sink: Stream | None = None

    def add(self, frames: tuple[Any, ...]) -> None:
        if self._sent(frames) is not None:
            raise Unmeasured(f"{self.feature.name}: it returned before the last frame")

    def end(self) -> Any:
        result = self._sent(None)
        if result is None:
            raise Unmeasured(f"{self.feature.name}: after the last frame it gave no rows")
        return result

    def _sent(self, frames: tuple[Any, ...] | None) -> Any:
        """What the generator returned; None as long as it goes on. It runs where networks do."""
        if self.sink is None:
            self.sink = self.compute(self.feature, self.feature.rows)
            self.compute(self.feature, lambda *_: next(self.sink))
        return self.compute(self.feature, lambda *_: returned(self.sink, frames))

    def close(self) -> None:
        if self.sink is not None:
            self.sink.close()


class _Beside:
    """The reference's frames; where they do not fit, the features that compare have failed."""

    def __init__(self, video: Video, reference: Video | None, takers: list[_Taker]) -> None:
        self.video, self.reference, self.takers = video, reference, takers
        self.frames = reference.frames() if reference is not None and takers else None

    def next(self, frame: np.ndarray) -> tuple[np.ndarray, ...]:
        """The one beside ``frame``."""
        if self.frames is None:
            return ()
        try:
            other = next(self.frames, None)
        except Exception as error:
            self._fail(error)
            return ()
        if other is None or other.shape != frame.shape:
            self._fail(self._unequal())
            return ()
        return (other,)

    def end(self) -> None:
        """The video has ended, and so must the reference: only then is it known to be whole."""
        try:
            if self.frames is not None and next(self.frames, None) is not None:
                self._fail(self._unequal())
        except Exception as error:
            self._fail(error)

    def close(self) -> None:
        self.frames = None

    def _fail(self, error: Exception) -> None:
        self.frames = None
        for taker in self.takers:
            taker.failure = taker.failure or error

    def _unequal(self) -> Exception:
        """Counting may take a pass over each; where it fails, that is what is wrong."""
        assert self.reference is not None
        try:
            ours, theirs = (
                (v.count, *next(v.frames()).shape) for v in (self.video, self.reference)
            )
        except Exception as error:
            return error
        return Unmeasured(
            f"{self.takers[0].feature.name}: the video has shape {ours} and its reference "
            f"{theirs}; they must be equal"
        )


def _stacked(frames: list[Any]) -> Any:
    """One array of arrays, one tensor of tensors."""
    if isinstance(frames[0], np.ndarray):
        return np.stack(frames)
    import torch

    return torch.stack(frames)


def _every(feature: Feature, video: Video) -> int:
    """Which frames: every n-th."""
    if not feature.fps:
        return 1
    if not video.fps:
        raise Unmeasured(
            f"{feature.name} is of {feature.fps:g} frames a second, and {video.name} does not say "
            "how many it has; give fps"
        )
    return max(1, round(video.fps / feature.fps))
