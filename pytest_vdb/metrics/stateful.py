"""The metrics as `torchmetrics.Metric`: state over many videos, for loops and distributed runs.

`from pytest_vdb.metrics.stateful import Ssim` costs the import of torchmetrics (some seconds);
the plugin itself calls the functions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torchmetrics import Metric

from pytest_vdb.errors import Unmeasured
from pytest_vdb.metrics.engine import Extractor
from pytest_vdb.metrics.registry import Metrics, MetricSpec, evaluate, number, require_enough
from pytest_vdb.metrics.video import Video

Given = np.ndarray | torch.Tensor | Video | Path | str


class _OfSpec(Metric):
    """What the two kinds share. ``weights`` is a folder of metric networks' files.

    Networks compute on the metric's device, see `torchmetrics.Metric.to`.
    """

    spec: ClassVar[MetricSpec]
    is_differentiable = False
    full_state_update = False

    def __init__(self, *, weights: Path | str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.weights = None if weights is None else Path(weights)
        self._extractor: Extractor | None = None

    @property
    def extractor(self) -> Extractor:
        """Keeps the networks loaded, on the device where this metric is."""
        if self._extractor is None or self._extractor.device != str(self.device):
            self._extractor = Extractor(weights=self.weights, device=str(self.device))
        self._extractor.forget()
        return self._extractor

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_extractor": None}


class VideoMetric(_OfSpec):
    """The mean over videos of ``spec``'s number for each.

    The state is one float64 a video, added up exactly: the result depends neither on the order of
    the videos, nor on how they were split into updates, nor on the number of processes.
    """

    values: list[torch.Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("values", default=[], dist_reduce_fx="cat")

    def update(
        self,
        video: Given,
        reference: Given | None = None,
        prompt: str | Sequence[str] | None = None,
    ) -> None:
        """Add one video, uint8 (T, H, W, 3), or a batch, (B, T, H, W, 3), with its reference.

        A `Video` or the path of a file is one video. ``prompt`` is a video's text; of a batch, a
        sequence of B texts. A latent metric takes one latent, of any shape. Raises Unmeasured as
        `evaluate` does.
        """
        for value in self._numbers(_array(video), _array(reference), prompt):
            self.values.append(torch.tensor([value], dtype=torch.float64, device=self.device))

    def compute(self) -> torch.Tensor:
        """The mean, float64, no dimensions. Raises Unmeasured before the first update."""
        numbers = [n for chunk in _listed(self.values) for n in chunk.tolist()]
        if not numbers:
            raise Unmeasured(f"{self.spec.name}: no video yet; call update() first")
        return torch.tensor(math.fsum(numbers) / len(numbers), dtype=torch.float64)

    def _numbers(self, ours: Any, theirs: Any, prompt: str | Sequence[str] | None) -> list[float]:
        if self.spec.needs == "latent":
            return [evaluate(self.spec, ours, latent=ours, reference_latent=theirs)]
        videos = _batch(ours)
        references = self._each(videos, "references", None if theirs is None else _batch(theirs))
        prompts = self._each(videos, "prompts", [prompt] if isinstance(prompt, str) else prompt)
        extractor = self.extractor
        return [
            evaluate(self.spec, video, reference=reference, prompt=text, extractor=extractor)
            for video, reference, text in zip(videos, references, prompts, strict=True)
        ]

    def _each(self, videos: Sequence[Any], what: str, given: Sequence[Any] | None) -> Sequence[Any]:
        """One of ``given`` for each video of a batch."""
        if given is not None and len(given) != len(videos):
            raise Unmeasured(
                f"{self.spec.name}: {len(videos)} videos and {len(given)} {what}; "
                "give one for each video"
            )
        return [None] * len(videos) if given is None else given


class SetMetric(_OfSpec):
    """``spec``'s number for all videos against all references: no order and no split matters."""

    rows: list[torch.Tensor]
    reference_rows: list[torch.Tensor]
    counts: torch.Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self.add_state("reference_rows", default=[], dist_reduce_fx="cat")
        self.add_state("counts", default=torch.zeros(2, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, video: Given | None = None, reference: Given | None = None) -> None:
        """Add a video or a batch, uint8 ([B,] T, H, W, 3), to either set. Raises Unmeasured."""
        extractor = self.extractor
        (feature,) = self.spec.features
        for side, (given, rows) in enumerate(
            ((video, self.rows), (reference, self.reference_rows))
        ):
            for one in [] if given is None else _batch(_array(given)):
                found = extractor.rows([feature], Video.of(one))[feature.name]
                rows.append(torch.from_numpy(found.copy()).to(self.device))
                self.counts[side] += 1

    def compute(self) -> torch.Tensor:
        """Float64, no dimensions. Raises Unmeasured below ``spec.minimum`` videos on a side."""
        sides = {"videos": self.rows, "reference videos": self.reference_rows}
        if not self.spec.compares:
            sides.pop("reference videos")
        for count, what in zip(self.counts.tolist(), sides, strict=False):
            require_enough(self.spec, count, what)
        rows = [torch.cat(_listed(side)).cpu().numpy() for side in sides.values()]
        result = number(self.spec, self.spec.compute(*rows))
        return torch.tensor(result, dtype=torch.float64)


@cache
def metric_class(spec: MetricSpec) -> type[_OfSpec]:
    """A `torchmetrics.Metric` class of ``spec``, a third party's too.

    ``my_score`` becomes ``MyScore``, ``my_score[resnet50]`` ``MyScoreResnet50``.
    """
    body = {
        "spec": spec,
        "higher_is_better": spec.direction == "higher",
        "__doc__": spec.summary,
        "__module__": __name__,
    }
    kind = SetMetric if spec.of_set else VideoMetric
    return type(class_name(spec), (kind,), body)


def class_name(spec: MetricSpec) -> str:
    return "".join(word.capitalize() for word in re.findall(r"[a-z0-9]+", spec.name))


def __getattr__(name: str) -> type[_OfSpec]:
    """The class of one of the package's metrics."""
    for spec in Metrics():
        if class_name(spec) == name:
            return metric_class(spec)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *map(class_name, Metrics())})


def _batch(value: Any) -> Sequence[Any]:
    """The videos of a batch; of anything else, itself alone."""
    return list(value) if isinstance(value, np.ndarray) and value.ndim == 5 else [value]


def _array(value: Any) -> Any:
    """A tensor as an array; anything else as it is."""
    if not isinstance(value, torch.Tensor):
        return Video(value) if isinstance(value, str | Path) else value
    value = value.detach().cpu()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()


def _listed(values: list[torch.Tensor] | torch.Tensor) -> list[torch.Tensor]:
    return [values] if isinstance(values, torch.Tensor) else values  # one tensor after a sync
