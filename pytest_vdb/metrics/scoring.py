"""Scores of many videos as a library: every metric of a request in one pass over each video."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_vdb.errors import BadSetting, Unmeasured, VdbError
from pytest_vdb.metrics import vbench
from pytest_vdb.metrics.registry import Metrics, MetricSpec, evaluate_set
from pytest_vdb.metrics.registry import evaluate as evaluate_one
from pytest_vdb.records import Provenance

if TYPE_CHECKING:
    from pytest_vdb.metrics.engine import Extractor
    from pytest_vdb.metrics.features import Feature
    from pytest_vdb.metrics.video import Video

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Score:
    """One metric of one video: ``value``, or None and the ``reason`` why there is none."""

    value: float | None
    reason: str = ""


@dataclass(frozen=True)
class Scores:
    """What `evaluate` found.

    ``videos`` are their names, in the order given. ``scores`` has, by metric, a Score for each
    video, in that order; of a metric of a set, one Score for all. ``provenance`` says, by metric,
    how, with which weights (sha256) and on what it was measured.
    """

    videos: tuple[str, ...]
    scores: Mapping[str, tuple[Score, ...]]
    provenance: Mapping[str, Provenance]

    def values(self, metric: str) -> tuple[float, ...]:
        """One number a video. Raises Unmeasured, with the reasons, where any has none."""
        found = self.scores[metric]
        lost = [s.reason for s in found if s.value is None]
        if lost:
            more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
            raise Unmeasured(f"{lost[0]}{more}")
        return tuple(s.value for s in found if s.value is not None)

    def mean(self, metric: str) -> float:
        """The mean over videos, which does not depend on their order. Raises Unmeasured."""
        values = self.values(metric)
        return math.fsum(values) / len(values)

    def vbench_quality(self) -> float:
        """VBench's quality total of the means (`pytest_vdb.metrics.vbench.quality_total`).

        Raises Unmeasured, which names them, where dimensions were not asked for or a video has
        none.
        """
        whole = {n: s for n, s in self.scores.items() if all(x.value is not None for x in s)}
        return vbench.quality_total({n: self.mean(n) for n in vbench.QUALITY if n in whole})


def evaluate(
    videos: Iterable[Any],
    metrics: Sequence[str],
    *,
    prompts: Sequence[str] | None = None,
    references: Sequence[Any] | None = None,
    weights: Path | str | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    batch: int = 8,
    cache: Path | str | None = None,
    extra: Iterable[MetricSpec] = (),
    progress: Progress | None = None,
) -> Scores:
    """Each metric of each video, in one pass over the frames of each.

    ``videos``: uint8 arrays or tensors (T, H, W, 3), RGB, paths, or `Video` objects. ``metrics``:
    names that ``vdb metrics`` lists, and those of ``extra``. ``prompts`` and ``references`` are in
    the order of the videos; for a metric of a set, ``references`` may be any number of videos.
    ``weights`` is a folder of metric networks' files, ``device``, ``dtype`` (``"float32"``,
    ``"bfloat16"``, ``"float16"``) and ``batch`` are how networks compute; ``cache`` keeps rows on
    disk. ``progress(done, total)`` is called after each video.

    What cannot be measured has a Score without a value and with the reason; nothing else is lost by
    it. Raises UnknownMetric, and BadSetting for lists of other lengths.
    """
    from pytest_vdb.metrics.engine import Extractor
    from pytest_vdb.metrics.kept import MEMORY
    from pytest_vdb.metrics.video import Video

    if isinstance(metrics, str) or getattr(videos, "ndim", 5) != 5:
        raise BadSetting(
            "evaluate takes a list of videos and a list of metrics' names: "
            "evaluate([video], ['sharpness'])"
        )
    known = Metrics(extra)
    specs = [known.find(name) for name in dict.fromkeys(metrics)]
    given = [Video.of(video) for video in videos]
    against = None if references is None else [Video.of(video) for video in references]
    texts = _listed("prompts", prompts, given)
    singly = [spec for spec in specs if not spec.of_set]
    paired = _listed("references", against if any(s.compares for s in singly) else None, given)
    extractor = Extractor(
        weights=None if weights is None else Path(weights),
        device=device,
        dtype=dtype,
        batch=batch,
        cache=None if cache is None else Path(cache),
        memory=math.inf if len(singly) < len(specs) else MEMORY,  # a set needs all rows at the end
    )
    whole = [spec for spec in singly if not spec.features]
    found: dict[str, list[Score]] = {spec.name: [] for spec in specs}
    for index, video in enumerate(given):
        ours, theirs = _held(video, bool(whole)), paired[index]
        if theirs is not None:
            theirs = _held(theirs, any(spec.compares for spec in whole))
        _prepare(extractor, specs, ours, theirs)
        for spec in singly:
            found[spec.name].append(_score(spec, ours, theirs, texts[index], extractor))
        if len(singly) == len(specs):
            extractor.forget()  # rows of a set are needed at the end
        if progress is not None:
            progress(index + 1, len(given))
    against_set = [spec for spec in specs if spec.of_set and spec.compares]
    for reference in against or [] if against_set else []:
        _prepare(extractor, against_set, reference, None)
    for spec in specs:
        if spec.of_set:
            found[spec.name].append(_guarded(evaluate_set, spec, given, against or [], extractor))
    return Scores(
        tuple(video.name for video in given),
        {name: tuple(scores) for name, scores in found.items()},
        {spec.name: _provenance(spec, extractor) for spec in specs},
    )


def _held(video: Video, whole: bool) -> Video:
    """The video with its frames in memory, where metrics without features take it ``whole``."""
    if not whole:
        return video
    try:
        return video.held()
    except VdbError:
        return video  # each metric says what is wrong with it


def _prepare(
    extractor: Extractor,
    specs: Iterable[MetricSpec],
    video: Video,
    reference: Video | None,
) -> None:
    """One pass for all metrics whose weights are here; what fails is told metric by metric."""
    wanted: dict[str, Feature] = {}
    for spec in specs:
        if spec.compares and not spec.of_set and reference is None:
            continue
        if _guarded(spec.digests, extractor.weights).reason:
            continue
        wanted |= {feature.name: feature for feature in spec.features if feature.of_frames}
    with suppress(Exception):
        extractor.rows(wanted.values(), video, reference)


def _score(
    spec: MetricSpec,
    video: Video,
    reference: Video | None,
    prompt: str | None,
    extractor: Extractor,
) -> Score:
    return _guarded(
        evaluate_one, spec, video, prompt=prompt, reference=reference, extractor=extractor
    )


def _guarded(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Score:
    """What ``function`` gives, or why nothing; a third party's metric may raise anything."""
    try:
        value = function(*args, **kwargs)
    except VdbError as error:
        return Score(None, str(error))
    except Exception as error:
        return Score(None, f"{type(error).__name__}: {error}")
    return Score(value if isinstance(value, float) else None)


def _provenance(spec: MetricSpec, extractor: Extractor) -> Provenance:
    try:
        weights = spec.digests(extractor.weights)
    except VdbError:
        weights = None
    return spec.provenance(extractor.label if spec.networks else "cpu", weights)


def _listed(what: str, given: Sequence[Any] | None, videos: Sequence[Video]) -> Sequence[Any]:
    if given is None:
        return [None] * len(videos)
    if len(given) != len(videos):
        raise BadSetting(f"{len(videos)} videos and {len(given)} {what}; give one for each video")
    return given
