"""The metrics as `torchmetrics.Metric`: state over many videos, for loops and distributed runs.

`from pytest_vdb.metrics.stateful import Ssim` costs the import of torchmetrics (some seconds);
the plugin itself calls the functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torchmetrics import Metric

from pytest_vdb.errors import Unmeasured
from pytest_vdb.metrics.registry import Metrics, MetricSpec, evaluate


class VideoMetric(Metric):
    """The mean over videos of ``spec``'s number for each.

    The state is one float64 a video, added up exactly: the result depends neither on the order of
    the videos, nor on how they were split into updates, nor on the number of processes.
    """

    spec: ClassVar[MetricSpec]
    is_differentiable = False
    full_state_update = False
    values: list[torch.Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("values", default=[], dist_reduce_fx="cat")

    def update(
        self,
        video: np.ndarray | torch.Tensor,
        reference: np.ndarray | torch.Tensor | None = None,
        prompt: str | Sequence[str] | None = None,
    ) -> None:
        """Add one video, uint8 (T, H, W, 3), or a batch, (B, T, H, W, 3), with its reference.

        ``prompt`` is a video's text; of a batch, a sequence of B texts. A latent metric takes one
        latent, of any shape. Raises Unmeasured as `evaluate` does.
        """
        ours = _array(video)
        theirs = None if reference is None else _array(reference)
        for number in self._numbers(ours, theirs, prompt):
            self.values.append(torch.tensor([number], dtype=torch.float64))

    def compute(self) -> torch.Tensor:
        """The mean, float64, no dimensions. Raises Unmeasured before the first update."""
        numbers = [n for chunk in _listed(self.values) for n in chunk.tolist()]
        if not numbers:
            raise Unmeasured(f"{self.spec.name}: no video yet; call update() first")
        return torch.tensor(math.fsum(numbers) / len(numbers), dtype=torch.float64)

    def _numbers(
        self, ours: np.ndarray, theirs: np.ndarray | None, prompt: str | Sequence[str] | None
    ) -> list[float]:
        if self.spec.needs == "latent":
            return [evaluate(self.spec, ours, latent=ours, reference_latent=theirs)]
        if ours.ndim == 4:
            ours, theirs = ours[None], None if theirs is None else theirs[None]
        references = self._each(ours, "references", None if theirs is None else list(theirs))
        prompts = self._each(ours, "prompts", [prompt] if isinstance(prompt, str) else prompt)
        return [
            evaluate(self.spec, video, reference=reference, prompt=text)
            for video, reference, text in zip(ours, references, prompts, strict=True)
        ]

    def _each(self, videos: np.ndarray, what: str, given: Sequence[Any] | None) -> Sequence[Any]:
        """One of ``given`` for each video of a batch."""
        if given is not None and len(given) != len(videos):
            raise Unmeasured(
                f"{self.spec.name}: {len(videos)} videos of shape {videos.shape[1:]} "
                f"and {len(given)} {what}; give one for each video"
            )
        return [None] * len(videos) if given is None else given


def metric_class(spec: MetricSpec) -> type[VideoMetric]:
    """A `VideoMetric` class of ``spec``, a third party's too: ``my_score`` becomes ``MyScore``."""
    name = "".join(word.capitalize() for word in spec.name.split("_"))
    body = {
        "spec": spec,
        "higher_is_better": spec.direction == "higher",
        "__doc__": spec.summary,
        "__module__": __name__,
    }
    return type(name, (VideoMetric,), body)


def _array(value: np.ndarray | torch.Tensor) -> np.ndarray:
    if not isinstance(value, torch.Tensor):
        return np.asarray(value)
    value = value.detach().cpu()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()


def _listed(values: list[torch.Tensor] | torch.Tensor) -> list[torch.Tensor]:
    return [values] if isinstance(values, torch.Tensor) else values  # one tensor after a sync


_metrics = Metrics()
TemporalFlickering = metric_class(_metrics.find("temporal_flickering"))
MotionEnergy = metric_class(_metrics.find("motion_energy"))
Sharpness = metric_class(_metrics.find("sharpness"))
ShapesColor = metric_class(_metrics.find("shapes_color"))
ShapesBackground = metric_class(_metrics.find("shapes_background"))
ShapesShape = metric_class(_metrics.find("shapes_shape"))
ShapesDirection = metric_class(_metrics.find("shapes_direction"))
ShapesAdherence = metric_class(_metrics.find("shapes_adherence"))
Psnr = metric_class(_metrics.find("psnr"))
PsnrWorstFrame = metric_class(_metrics.find("psnr_worst_frame"))
Ssim = metric_class(_metrics.find("ssim"))
SsimWorstFrame = metric_class(_metrics.find("ssim_worst_frame"))
MsSsim = metric_class(_metrics.find("ms_ssim"))
MsSsimWorstFrame = metric_class(_metrics.find("ms_ssim_worst_frame"))
LatentCosine = metric_class(_metrics.find("latent_cosine"))
