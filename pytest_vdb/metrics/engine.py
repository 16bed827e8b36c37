"""One pass over a video's frames: every network runs once on them, whatever metrics ask for it.

Importing it imports numpy; torch is imported for the first network.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_vdb.errors import BadSetting, Unmeasured
from pytest_vdb.metrics.features import Feature, unequal, versioned
from pytest_vdb.metrics.kept import MEMORY, Kept
from pytest_vdb.metrics.onepass import one_pass, rows_of
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
    network gets at once. Results, failures too, are kept in memory, up to ``memory`` bytes, and
    rows on disk in the folder ``cache`` where one is given: by the video's content, the feature's
    version, the weights' sha256, device and dtype.
    """

    weights: Path | None = None
    device: str = "cpu"
    dtype: str = "float32"
    batch: int = 8
    cache: Path | None = None
    memory: float = MEMORY
    _loaded: dict[Network, torch.nn.Module] = field(default_factory=dict)
    _kept: Kept = field(init=False)

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise BadSetting(f"dtype={self.dtype!r} of metrics; write one of {', '.join(DTYPES)}")
        if self.batch < 1:
            raise BadSetting(f"batch={self.batch} of metrics; write 1 or more")
        self._kept = Kept(self.cache, self.memory)

    def rows(
        self,
        features: Iterable[Feature],
        video: Video,
        reference: Video | None = None,
        prompt: str | None = None,
    ) -> Rows:
        """(M, D) float64 of each feature, by its name; one pass over ``video`` for all of them.

        Raises Unmeasured for one that needs what is not given, and MissingWeights, before anything
        is computed; what a feature fails with, Unmeasured or UnreadableClip, after the pass. The
        rows of the others are kept then. Neither costs anything when it is asked for again.
        """
        wanted = unequal(features, "features")
        keys = {name: self._key(f, video, reference, prompt) for name, f in wanted.items()}
        found = {name: kept for name in wanted if (kept := self._kept.find(keys[name])) is not None}
        missing = [feature for name, feature in wanted.items() if name not in found]
        framed = [feature for feature in missing if feature.of_frames]
        for name, result in self._pass(framed, video, reference).items():
            found[name] = result
            self._kept.keep(keys[name], result)
        for feature in missing:
            if not feature.of_frames and not _failed(found):
                found[feature.name] = self._whole(feature, video, reference, prompt)
                self._kept.keep(keys[feature.name], found[feature.name])
        if failure := _failed(found):
            raise failure.with_traceback(None)
        return {name: rows for name, rows in found.items() if isinstance(rows, np.ndarray)}

    def lacking(
        self,
        features: Iterable[Feature],
        video: Video,
        reference: Video | None = None,
        prompt: str | None = None,
    ) -> list[Feature]:
        """Those of which nothing is kept. Raises what `rows` raises before it computes."""
        wanted = unequal(features, "features").values()
        return [
            f for f in wanted if self._kept.find(self._key(f, video, reference, prompt)) is None
        ]

    def results(
        self,
        features: Iterable[Feature],
        video: Video,
        reference: Video | None = None,
        prompt: str | None = None,
    ) -> dict[str, np.ndarray | Exception]:
        """Rows of each feature, or what it fails with, by its name; nothing is kept."""
        wanted = list(features)
        found = self._pass([feature for feature in wanted if feature.of_frames], video, reference)
        for feature in wanted:
            if not feature.of_frames:
                found[feature.name] = self._whole(feature, video, reference, prompt)
        return found

    def keep(
        self,
        features: Iterable[Feature],
        found: Mapping[str, np.ndarray | Exception],
        video: Video,
        reference: Video | None = None,
        prompt: str | None = None,
    ) -> None:
        """Keep what `results` gave elsewhere, of this device, as if it were computed here."""
        for feature in features:
            self._kept.keep(self._key(feature, video, reference, prompt), found[feature.name])

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
        self._kept.forget()

    def release(self) -> None:
        """Leave nothing on an accelerator: its networks are dropped, and loaded when needed again.

        On the CPU they stay, where they are in nobody's way.
        """
        if not self._loaded or self.device == "cpu":
            return
        import torch

        self._loaded.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _pass(
        self, features: list[Feature], video: Video, reference: Video | None
    ) -> dict[str, np.ndarray | Exception]:
        return one_pass(
            features,
            video,
            reference,
            compute=self._computed,
            batch=self.batch,
            device=self.device,
        )

    def _whole(
        self, feature: Feature, video: Video, reference: Video | None, prompt: str | None
    ) -> np.ndarray | Exception:
        """A feature that is not of frames."""
        try:
            given = self._given(feature, video, reference, prompt)
            return rows_of(feature, self._computed(feature, feature.rows, *given))
        except Exception as error:
            return error

    def _given(
        self, feature: Feature, video: Video, reference: Video | None, prompt: str | None
    ) -> list[Any]:
        if feature.of == "prompt":
            if not isinstance(prompt, str):
                raise Unmeasured(
                    f"{feature.name} is of the video's text, and prompt={prompt!r} is no text; "
                    "give prompt='the text that this video was asked for with'"
                )
            return [prompt]
        if feature.of == "video_reference":
            return [video, _needed(feature, reference)]
        if feature.of == "audio":
            return [video.audio]
        if feature.of == "audio_reference":
            return [video.audio, _needed(feature, reference).audio]
        return [video]

    def _computed(self, feature: Feature, function: Callable[..., Any], *given: Any) -> Any:
        """``function`` of ``given``, the feature's network before them where it has one."""
        if feature.network is None:
            return function(*given)
        import torch

        module = self.module(feature.network)  # loaded as it is, in no reduced precision
        how: Any = nullcontext()
        if self.dtype != "float32":
            how = torch.autocast(torch.device(self.device).type, getattr(torch, self.dtype))
        with torch.inference_mode(), _whole_precision(), how:
            return function(module, *given)

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
            of.append(stack())
        return hashlib.sha256(json.dumps(of).encode()).hexdigest()


def _code(rows: Any) -> str:
    """Which function it is, as far as a name can say."""
    path = getattr(rows, "path", None)
    return str(path or f"{rows.__module__}:{getattr(rows, '__qualname__', type(rows).__name__)}")


@cache
def stack() -> str:
    """The versions of what rows are computed with: part of what those on disk depend on."""
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


def _failed(found: dict[str, np.ndarray | Exception]) -> Exception | None:
    """The first failure, in the order of the request."""
    return next((result for result in found.values() if isinstance(result, Exception)), None)


def _needed(feature: Feature, reference: Video | None) -> Video:
    if reference is None:
        raise Unmeasured(
            f"{feature.name}: there is no reference video to compare with; store one with "
            "--vdb-update on the base branch"
        )
    return reference
