"""What a metric is, where it is looked up by name, and how it becomes one number for one video.

Light: nothing here imports torch or numpy; a metric's own code is imported when it is computed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pytest_vdb.errors import BadSetting, UnknownMetric, Unmeasured, nearest
from pytest_vdb.metrics.features import Feature, unequal, versioned
from pytest_vdb.metrics.weights import Network
from pytest_vdb.records import Kind, Provenance

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from pytest_vdb.metrics.engine import Extractor
    from pytest_vdb.metrics.video import Video

SETS = ("set", "own_set")
NEEDS = ("frames", "prompt", "reference", "latent", "audio", "audio_reference", *SETS)
COMPARES = ("reference", "latent", "audio_reference", "set")
OF_A_SET = "use pytest_vdb.metrics.evaluate(videos, references=...) or vdb score --references"
NAME = r"[a-z][a-z0-9_]*(\[[a-z0-9_]+\])?"
SLACK = 1e-6
"""How far, relative to a bound, a value may lie outside its range: rounding, no more."""


@dataclass(frozen=True)
class MetricSpec:
    """One metric: its definition, and what is needed to compute it.

    ``needs`` decides how ``compute`` is called; it gives one number for one video:

    - ``"frames"``: ``compute(frames)``
    - ``"prompt"``: ``compute(frames, prompt)``, the text that the video was asked for with
    - ``"reference"``: ``compute(frames, reference)``, the baseline's video, of the same shape
    - ``"latent"``: ``compute(latent, reference)``, pre-VAE latents of the same shape
    - ``"audio"``, ``"audio_reference"``: by ``features`` alone
    - ``"set"``: ``compute(rows, reference rows)`` of a whole set of videos and of the baseline's:
      one number for both; from ``minimum`` videos on
    - ``"own_set"``: ``compute(rows)`` of the set alone

    With ``features``, ``compute`` gets the rows (M, D) of each of them instead, float64, in their
    order: they are computed once a video and shared with other metrics.

    Videos are numpy uint8 (T, H, W, 3), RGB; latents are float arrays of any shape. ``compute``
    raises Unmeasured where the metric is not defined. ``kind`` is ``Kind.DISTANCE`` for a metric
    that compares with the baseline's video and ``Kind.SCORE`` for any other. ``direction`` says
    which is better, ``"higher"`` or ``"lower"``. ``range`` are the bounds a value can have
    (``math.inf`` where there is none). ``how`` is the sentence that the provenance of a value
    carries; ``version`` changes whenever the number for the same video may. ``sees`` names the
    faults (`pytest_vdb.metrics.faults`) that the metric claims to rank below the intact video.

    Raises BadSetting for a field that cannot mean anything.
    """

    name: str
    unit: str
    direction: str
    kind: Kind
    needs: str
    version: str
    range: tuple[float, float]
    summary: str
    how: str
    compute: Callable[..., Any]
    sees: tuple[str, ...] = ()
    package: str = ""
    features: tuple[Feature, ...] = ()
    minimum: int = 1

    def __post_init__(self) -> None:
        for wrong, message in self._problems():
            if wrong:
                raise BadSetting(f"the metric {self.name!r}: {message}")

    @property
    def compares(self) -> bool:
        """Whether it compares with what the baseline stores, and so needs one."""
        return self.needs in COMPARES

    @property
    def of_set(self) -> bool:
        """Whether it is one number for many videos."""
        return self.needs in SETS

    @property
    def networks(self) -> tuple[Network, ...]:
        """The pretrained networks that it needs."""
        return tuple(dict.fromkeys(f.network for f in self.features if f.network))

    def _problems(self) -> Iterator[tuple[bool, str]]:
        named = isinstance(self.name, str) and re.fullmatch(NAME, self.name)
        yield (
            not named,
            "a name is lower-case letters, digits and _, such as 'my_score', and may end in its "
            "network, such as 'my_score[resnet50]'",
        )
        yield (
            self.direction not in ("higher", "lower"),
            f"direction={self.direction!r}; write 'higher' or 'lower', whichever is better",
        )
        yield self.needs not in NEEDS, f"needs={self.needs!r}; {nearest(self.needs, NEEDS)}"
        yield (
            self.kind != (Kind.DISTANCE if self.compares else Kind.SCORE),
            f"kind={str(self.kind)!r} with needs={self.needs!r}; write Kind.DISTANCE for a metric "
            "that compares with the baseline's video and Kind.SCORE for any other",
        )
        yield (
            not self.range[0] < self.range[1],
            f"range={self.range!r}; write (lowest, highest), with math.inf where there is no bound",
        )
        of_rows = self.needs in ("audio", "audio_reference")
        yield of_rows and not self.features, f"needs={self.needs!r} without features; give them"
        yield (
            self.of_set and len(self.features) != 1,
            f"needs={self.needs!r} goes with one feature, whose rows of all videos are one set",
        )
        yield (
            self.needs == "latent" and bool(self.features),
            "features are of videos, and needs='latent' compares latents; give one of the two",
        )
        yield not callable(self.compute), "compute is not callable; give the function itself"

    def provenance(self, device: str = "cpu", weights: str | None = None) -> Provenance:
        """What a value carries: ``weights`` are `digests`; ``package`` gets its version."""
        return Provenance(
            self.how, self.version, weights, device, versioned(self.package) if self.package else ""
        )

    def digests(self, folder: Path | None = None) -> str | None:
        """``name sha256, ...`` of its networks' files, None without networks.

        ``folder`` is ``--vdb-metric-weights``. Raises MissingWeights and WrongWeights.
        """
        from pytest_vdb.metrics.weights import find

        found = [f"{network.name} {find(network, folder).sha256}" for network in self.networks]
        return ", ".join(found) or None


class Metrics:
    """The package's metrics, those of installed packages, and those handed in, by name.

    Installed packages offer theirs by an entry point (`pytest_vdb.metrics.installed`); ``extra``
    come from ``pytest_vdb_metrics`` hooks or a caller. One metric from two of them is one. Raises
    BadSetting for a name that is taken and for an entry point that cannot be loaded.
    """

    def __init__(self, extra: Iterable[MetricSpec] = ()) -> None:
        from pytest_vdb.metrics.builtin import BUILTIN
        from pytest_vdb.metrics.installed import installed

        self._specs: dict[str, MetricSpec] = {spec.name: spec for spec in BUILTIN}
        owners = dict.fromkeys(self._specs, "pytest-vdb")
        for owner, spec in [*installed(), *(("pytest_vdb_metrics", spec) for spec in extra)]:
            known = self._specs.setdefault(spec.name, spec)
            if known != spec:
                raise BadSetting(
                    f"two metrics are called {spec.name!r}: {known.summary!r} of "
                    f"{owners[spec.name]} and {spec.summary!r} of {owner}; give the one of {owner} "
                    "another name"
                )
            owners.setdefault(spec.name, owner)
        features = [feature for spec in self._specs.values() for feature in spec.features]
        unequal(features, "features")
        unequal((f.network for f in features if f.network), "networks")

    def __iter__(self) -> Iterator[MetricSpec]:
        return iter(self._specs.values())

    def find(self, name: str) -> MetricSpec:
        """The metric ``name``; raises UnknownMetric, which names the nearest ones."""
        try:
            return self._specs[name]
        except KeyError:
            raise UnknownMetric(f"no metric {name!r}: {nearest(name, self._specs)}") from None


def gather(results: Iterable[object], whose: str = "pytest_vdb_metrics") -> list[MetricSpec]:
    """The metrics in what ``pytest_vdb_metrics`` hooks returned, one result an implementation.

    Raises BadSetting, which begins with ``whose``, for a result that is not a list (or other
    iterable) of MetricSpec.
    """
    specs: list[MetricSpec] = []
    for result in results:
        members = list(result) if isinstance(result, Iterable) else [None]
        for member in members:
            if not isinstance(member, MetricSpec):
                raise BadSetting(f"{whose} returned {result!r}; return a list: [MetricSpec(...)]")
            specs.append(member)
    return specs


def evaluate(
    spec: MetricSpec,
    frames: np.ndarray | Video,
    *,
    prompt: str | None = None,
    reference: np.ndarray | Video | None = None,
    latent: np.ndarray | None = None,
    reference_latent: np.ndarray | None = None,
    extractor: Extractor | None = None,
) -> float:
    """``spec`` of one video: one finite number inside the metric's range.

    ``frames`` and ``reference`` are uint8 (T, H, W, 3), RGB, or a Video; ``prompt`` is the video's
    text; ``latent`` and ``reference_latent`` are float arrays of one shape. What the metric does
    not need is not looked at. ``extractor`` computes features and keeps them for other metrics.
    Raises Unmeasured, with the reason, where there is no such number; a failure never becomes a 0.
    """
    if spec.needs == "latent":
        return number(spec, spec.compute(*_pair(spec, "latent", latent, reference_latent)))
    if spec.of_set:
        raise Unmeasured(f"{spec.name} is of a set of videos, not of one; {OF_A_SET}")
    if spec.features:
        rows = _rows(spec, frames, prompt, reference, extractor)
        return number(spec, _computed(spec, *rows))
    video, against = _whole(frames), _whole(reference)
    require_video(spec.name, video)
    if spec.needs == "frames":
        return number(spec, spec.compute(video))
    if spec.needs == "prompt":
        return number(spec, spec.compute(video, _text(spec, prompt)))
    pair = _pair(spec, "video", video, against)
    require_video(spec.name, pair[1])
    return number(spec, spec.compute(*pair))


def _computed(spec: MetricSpec, *given: Any) -> float:
    """``spec`` of what it is computed from; what it says of a failure names the metric."""
    try:
        return spec.compute(*given)
    except Unmeasured as error:
        if spec.name.partition("[")[0] in str(error):
            raise
        raise type(error)(f"{spec.name}: {error}") from None


def evaluate_set(
    spec: MetricSpec,
    videos: Sequence[np.ndarray | Video],
    references: Sequence[np.ndarray | Video],
    extractor: Extractor | None = None,
) -> float:
    """``spec``, which is of a set, of ``videos`` against ``references``: one number for all.

    Neither their order nor how many there are of each matters. Raises Unmeasured as `evaluate`
    does, and below ``spec.minimum`` videos on either side.
    """
    given = {"videos": videos} | ({"reference videos": references} if spec.compares else {})
    for what, side in given.items():
        require_enough(spec, len(side), what)
    rows = [[_rows(spec, v, None, None, extractor) for v in side] for side in given.values()]
    return number(spec, spec.compute(*map(_stacked, rows)))


def require_enough(spec: MetricSpec, count: int, what: str) -> None:
    """Raise Unmeasured below the videos that a metric of a set needs."""
    if count == 0 and spec.minimum:
        raise Unmeasured(f"{spec.name}: no {what}; give {spec.minimum} or more")
    if count < spec.minimum:
        raise Unmeasured(
            f"{spec.name}: {count} {what}, and fewer than {spec.minimum} say nothing about a "
            "distribution; give more prompts or seeds"
        )


def _stacked(side: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """The rows of every video of a set, one below the other."""
    import numpy as np

    return np.concatenate([rows[0] for rows in side])


def _rows(
    spec: MetricSpec,
    frames: np.ndarray | Video,
    prompt: str | None,
    reference: np.ndarray | Video | None,
    extractor: Extractor | None,
) -> Sequence[np.ndarray]:
    from pytest_vdb.metrics.engine import Extractor
    from pytest_vdb.metrics.video import Video

    if spec.needs == "prompt":
        _text(spec, prompt)
    extractor = extractor or Extractor()
    against = None if reference is None else Video.of(reference)
    try:
        rows = extractor.rows(spec.features, Video.of(frames), against, prompt)
    except Unmeasured as error:
        message = str(error)
        raise type(error)(
            message if message.startswith(spec.name) else f"{spec.name}: {message}"
        ) from None
    return [rows[feature.name] for feature in spec.features]


def _whole(video: Any) -> Any:
    """The frames of a Video as one array; anything else as it is."""
    from pytest_vdb.metrics.video import Video

    if not isinstance(video, Video):
        return video
    import numpy as np

    return np.stack(list(video.frames()))


def require_video(name: str, frames: np.ndarray) -> None:
    """Raise Unmeasured unless ``frames`` is uint8 (T, H, W, 3) with at least one pixel."""
    shape = tuple(frames.shape)
    if frames.dtype.name != "uint8" or len(shape) != 4 or shape[3] != 3 or 0 in shape:
        raise Unmeasured(
            f"{name}: a video is uint8 of shape (frames, height, width, 3); "
            f"this one is {frames.dtype.name} of shape {shape}"
        )


def lazy(path: str) -> Callable[..., Any]:
    """A function that imports ``module:function`` when it is called, and calls it."""
    return _Lazy(path)


@dataclass(frozen=True)
class _Lazy:
    path: str  # a class, not a closure, so that a spec can be pickled

    def __call__(self, *args: object) -> Any:
        module, _, function = self.path.partition(":")
        return getattr(import_module(module), function)(*args)


def _pair(
    spec: MetricSpec, what: str, ours: np.ndarray | None, reference: np.ndarray | None
) -> Sequence[np.ndarray]:
    if ours is None:
        raise Unmeasured(f"{spec.name}: this source gives no {what}, and the metric needs one")
    if reference is None:
        raise Unmeasured(
            f"{spec.name}: there is no reference {what} to compare with; "
            "store one with --vdb-update on the base branch"
        )
    if tuple(ours.shape) != tuple(reference.shape):
        raise Unmeasured(
            f"{spec.name}: the {what} has shape {tuple(ours.shape)} "
            f"and its reference {tuple(reference.shape)}; they must be equal"
        )
    return ours, reference


def _text(spec: MetricSpec, prompt: str | None) -> str:
    if not isinstance(prompt, str):
        raise Unmeasured(
            f"{spec.name}: the metric compares a video with its prompt, and prompt={prompt!r} is "
            "no text; give prompt='the text that this video was asked for with'"
        )
    return prompt


def number(spec: MetricSpec, result: object) -> float:
    """``result`` as a finite number inside the metric's range. Raises Unmeasured."""
    try:
        value = float(result)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        kind = type(result).__name__
        raise Unmeasured(f"{spec.name}: compute gave a {kind}, not one number") from None
    if not math.isfinite(value):
        raise Unmeasured(f"{spec.name}: the result is {value}, which is no measurement")
    low, high = spec.range
    slack = SLACK * max([1.0, *(abs(bound) for bound in spec.range if math.isfinite(bound))])
    if not low - slack <= value <= high + slack:
        raise Unmeasured(
            f"{spec.name}: the result {value:g} is outside its range {low:g} to {high:g}; "
            "either the computation or the declared range is wrong"
        )
    return value
