"""One pass over a video's frames: every network runs once on them, whatever metrics ask for it.

Importing it imports numpy; torch is imported for the first network.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_vdb.errors import BadSetting, Unmeasured
from pytest_vdb.metrics.features import Feature, unequal, versioned
from pytest_vdb.metrics.video import Video
from pytest_vdb.metrics.weights import Network, find

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16")
Rows = dict[str, np.ndarray]


@dataclass
class Extractor:
    """Computes features, and keeps each network loaded and each result.

    ``weights`` is the folder of ``--vdb-metric-weights``; ``device`` and ``dtype`` are where and in
    what networks compute (float32; bfloat16 and float16 by autocast); ``batch`` is the windows a
    network gets at once. Results are kept in memory, and on disk in the folder ``cache`` where one
    is given: by the video's content, the feature's version, the weights' sha256, device and dtype.
    """

    weights: Path | None = None
    device: str = "cpu"
    dtype: str = "float32"
    batch: int = 8
    cache: Path | None = None
    _loaded: dict[Network, torch.nn.Module] = field(default_factory=dict)
    _kept: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise BadSetting(f"dtype={self.dtype!r} of metrics; write one of {', '.join(DTYPES)}")
        if self.batch < 1:
            raise BadSetting(f"batch={self.batch} of metrics; write 1 or more")

    def rows(
        self,
        features: Iterable[Feature],
        video: Video,
        reference: Video | None = None,
        prompt: str | None = None,
    ) -> Rows:
        """(M, D) float64 of each feature, by its name; one pass over ``video`` for all of them.

        Raises Unmeasured for one that needs what is not given, MissingWeights, and UnreadableClip.
        The rows of the others are kept then, and cost nothing when they are asked for again.
        """
        wanted = unequal(features, "features")
        keys = {name: self._key(f, video, reference, prompt) for name, f in wanted.items()}
        rows = {name: kept for name in wanted if (kept := self._recall(keys[name])) is not None}
        missing = [feature for name, feature in wanted.items() if name not in rows]
        fresh, failures = self._pass([f for f in missing if f.of_frames], video, reference)
        for name, value in fresh.items():
            self._keep(keys[name], value)
        if failures:
            raise failures[0]
        for feature in missing:
            if not feature.of_frames:
                fresh[feature.name] = self._whole(feature, video, reference, prompt)
                self._keep(keys[feature.name], fresh[feature.name])
        return rows | fresh

    def module(self, network: Network) -> torch.nn.Module:
        """``network`` on the device; loaded once. Raises MissingWeights and WrongWeights."""
        if network not in self._loaded:
            module = network.load(find(network, self.weights).path)
            self._loaded[network] = module.eval().requires_grad_(False).to(self.device)
        return self._loaded[network]

    @property
    def label(self) -> str:
        """Where and in what networks compute: a provenance's device."""
        return self.device if self.dtype == "float32" else f"{self.device}, {self.dtype}"

    def forget(self) -> None:
        """Drop the rows that are kept in memory; those on disk stay."""
        self._kept.clear()

    def _pass(
        self, features: list[Feature], video: Video, reference: Video | None
    ) -> tuple[Rows, list[Exception]]:
        """Rows of the features that could be computed, and why the others could not."""
        if not features:
            return {}, []
        takers = [_Taker(self, feature, video) for feature in features]
        for index, (frame, other) in enumerate(_paired(features, video, reference)):
            shared = _Shared(frame, other, self.device)
            for taker in takers:
                taker.take(index, shared)
        done = [(taker.feature.name, taker.finish()) for taker in takers]
        rows = {name: result for name, result in done if isinstance(result, np.ndarray)}
        return rows, [result for _, result in done if isinstance(result, Exception)]

    def _whole(
        self, feature: Feature, video: Video, reference: Video | None, prompt: str | None
    ) -> np.ndarray:
        """A feature that is not of frames."""
        given: list[Any] = [video]
        if feature.of == "prompt":
            if not isinstance(prompt, str):
                raise Unmeasured(
                    f"{feature.name} is of the video's text, and prompt={prompt!r} is no text; "
                    "give prompt='the text that this video was asked for with'"
                )
            given = [prompt]
        elif feature.of == "video_reference":
            given = [video, _needed(feature, reference)]
        elif feature.of == "audio":
            given = [video.audio]
        elif feature.of == "audio_reference":
            given = [video.audio, _needed(feature, reference).audio]
        return self.compute(feature, *given)

    def compute(self, feature: Feature, *given: Any) -> np.ndarray:
        """``feature.rows`` of ``given``, its network before it; (M, D) float64."""
        result = self._in_network(feature, *given) if feature.network else feature.rows(*given)
        rows = np.asarray(result, dtype=np.float64)
        if rows.ndim != 2:
            raise Unmeasured(f"{feature.name}: rows of shape {rows.shape}; they must be (M, D)")
        if not np.isfinite(rows).all():
            raise Unmeasured(
                f"{feature.name}: a number that is not finite came out, which is no measurement"
            )
        return rows

    def _in_network(self, feature: Feature, *given: Any) -> Any:
        import torch

        assert feature.network is not None
        module = self.module(feature.network)  # loaded as it is, in no reduced precision
        how: Any = nullcontext()
        if self.dtype != "float32":
            how = torch.autocast(torch.device(self.device).type, getattr(torch, self.dtype))
        with torch.inference_mode(), _whole_precision(), how:
            result = feature.rows(module, *given)
        return result.cpu().double().numpy() if isinstance(result, torch.Tensor) else result

    # ------------------------------------------------------------------ what is kept

    def _key(
        self, feature: Feature, video: Video, reference: Video | None, prompt: str | None
    ) -> str:
        of: list[object] = [feature.name, feature.version, feature.of, _code(feature.rows)]
        of += [feature.window, feature.stride, feature.samples, feature.fps]
        if feature.of != "prompt":
            of.append(video.sha256)
        if feature.of.endswith("reference"):
            of.append(_needed(feature, reference).sha256)
        if feature.of == "prompt":
            of.append(prompt)
        if feature.network:
            found = find(feature.network, self.weights)
            of += [feature.network.name, found.sha256, self.device, self.dtype, self.batch]
        if self.cache is not None:
            of.append(_stack())
        return hashlib.sha256(json.dumps(of).encode()).hexdigest()

    def _recall(self, key: str) -> np.ndarray | None:
        if key in self._kept:
            return self._kept[key]
        path = self.cache / f"{key}.npy" if self.cache else None
        if path is None or not path.is_file():
            return None
        try:
            self._remember(key, np.load(path))
        except (OSError, ValueError, EOFError):  # half written by somebody who was killed
            return None
        return self._kept[key]

    def _remember(self, key: str, rows: np.ndarray) -> None:
        rows.setflags(write=False)  # whoever asks again gets the same array
        self._kept[key] = rows

    def _keep(self, key: str, rows: np.ndarray) -> None:
        self._remember(key, rows)
        if self.cache is None:
            return
        self.cache.mkdir(parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(dir=self.cache, suffix=".draft")
        with os.fdopen(descriptor, "wb") as file:
            np.save(file, rows)
        Path(draft).replace(self.cache / f"{key}.npy")


class _Shared:
    """One frame, and its copy on the device, which all networks share."""

    def __init__(self, frame: np.ndarray, other: np.ndarray | None, device: str) -> None:
        self.arrays = (frame,) if other is None else (frame, other)
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
    """Collects the frames that a feature wants, and turns them into rows a batch at a time."""

    def __init__(self, extractor: Extractor, feature: Feature, video: Video) -> None:
        self.extractor, self.feature = extractor, feature
        self.frames: list[tuple[Any, ...]] = []
        self.rows: list[np.ndarray] = []
        self.failure: Exception | None = None  # of this feature alone: the others go on
        try:
            self.wanted = _taken(feature, video)
        except Unmeasured as error:
            self.failure = error

    def take(self, index: int, shared: _Shared) -> None:
        if self.failure:
            return
        every, chosen = self.wanted
        if index % every or (chosen is not None and index not in chosen):
            return
        feature = self.feature
        try:
            given = shared.tensors if feature.network else shared.arrays
            self.frames.append(given if feature.of == "reference" else given[:1])
            if len(self.frames) == (self.extractor.batch - 1) * feature.stride + feature.window:
                self._flush()
        except Exception as error:
            self.failure = error

    def _flush(self) -> None:
        """Rows of the whole windows at hand; the frames that later windows share stay."""
        feature = self.feature
        windows = (len(self.frames) - feature.window) // feature.stride + 1
        if windows < 1:
            return
        last = (windows - 1) * feature.stride + feature.window
        columns = [_stacked(list(column)) for column in zip(*self.frames[:last], strict=True)]
        rows = self.extractor.compute(feature, *columns)
        expected = (windows, self.rows[0].shape[1] if self.rows else rows.shape[1])
        if rows.shape != expected:
            raise Unmeasured(
                f"{feature.name}: {windows} windows gave rows of shape {rows.shape}; give one row "
                f"for each: {expected}"
            )
        self.rows.append(rows)
        self.frames = self.frames[windows * feature.stride :]

    def finish(self) -> np.ndarray | Exception:
        """All rows, or why there are none."""
        try:
            if not self.failure:
                self._flush()
        except Exception as error:
            self.failure = error
        if self.failure or self.rows:
            return self.failure or np.concatenate(self.rows)
        length = "one frame" if len(self.frames) == 1 else f"{len(self.frames)} frames"
        return Unmeasured(
            f"{self.feature.name} is of {self.feature.window} frames together, and this is "
            f"a video of {length}; it needs num_frames={self.feature.window}"
        )


def _code(rows: Any) -> str:
    """Which function it is, as far as a name can say."""
    path = getattr(rows, "path", None)
    return str(path or f"{rows.__module__}:{getattr(rows, '__qualname__', type(rows).__name__)}")


@cache
def _stack() -> str:
    """The versions of what rows on disk were computed with."""
    names = ("pytest-vdb", "numpy", "scipy", "torch", "torchmetrics", "av", "imageio-ffmpeg")
    return ", ".join(map(versioned, names))


@contextmanager
def _whole_precision() -> Iterator[None]:
    """float32 means float32, also on a GPU that would rather round to TF32."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _stacked(frames: list[Any]) -> Any:
    """One array of arrays, one tensor of tensors."""
    if isinstance(frames[0], np.ndarray):
        return np.stack(frames)
    import torch

    return torch.stack(frames)


def _taken(feature: Feature, video: Video) -> tuple[int, frozenset[int] | None]:
    """Which frames: every n-th, and of those these alone."""
    if feature.samples:
        return 1, frozenset(middles(video.count, feature.samples))
    if not feature.fps:
        return 1, None
    if not video.fps:
        raise Unmeasured(
            f"{feature.name} is of {feature.fps:g} frames a second, and {video.name} does not say "
            "how many it has; give fps"
        )
    return max(1, round(video.fps / feature.fps)), None


def middles(count: int, samples: int) -> list[int]:
    """The middle frame of each of ``samples`` equal parts, the earlier of two, as VBench takes it.

    All frames where there are fewer than ``samples``.
    """
    parts = min(count, samples)
    edges = [i * count // parts for i in range(parts + 1)]
    return [(begin + end - 1) // 2 for begin, end in pairwise(edges)]


def _paired(
    features: list[Feature], video: Video, reference: Video | None
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Frames, with the reference's beside them where a feature wants those."""
    pairing = [feature for feature in features if feature.of == "reference"]
    if not pairing:
        yield from ((frame, None) for frame in video.frames())
        return
    against = _needed(pairing[0], reference)
    for ours, theirs in zip_longest(video.frames(), against.frames()):
        if ours is None or theirs is None or ours.shape != theirs.shape:
            shapes = [(v.count, *next(v.frames()).shape) for v in (video, against)]
            raise Unmeasured(
                f"{pairing[0].name}: the video has shape {shapes[0]} and its reference "
                f"{shapes[1]}; they must be equal"
            )
        yield ours, theirs


def _needed(feature: Feature, reference: Video | None) -> Video:
    if reference is None:
        raise Unmeasured(
            f"{feature.name}: there is no reference video to compare with; store one with "
            "--vdb-update on the base branch"
        )
    return reference
