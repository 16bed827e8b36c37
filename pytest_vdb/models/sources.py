"""Sources: where videos come from. A source declares what can be measured of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pytest_vdb.records import Json, ModelSpec, Prompt

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Rank:
    """What one process of an engine of several says of its part of a generation.

    ``seconds``: its own time; ``memory``: its peak in bytes; ``energy``: joules.
    """

    seconds: float | None = None
    memory: int | None = None
    energy: float | None = None


@dataclass(frozen=True)
class Output:
    """One generated video, before anything is quantised or written.

    ``frames``: (T, H, W, 3), RGB, float32 in [0, 1] or uint8. ``latent``: float32, the pre-VAE
    latent as the VAE's ``decode`` received it, or None. ``fps``: frames a second, or None.
    ``original``: the clip's own file, for a recorded video. ``audio``: float32 (channels, samples)
    in [-1, 1] at ``sampling_rate`` Hz, or None.

    What an engine or a server says of itself, where it does: ``seconds`` of the generation (in
    place of the wall clock around the call), ``queue`` seconds before it began, ``stages``
    (exclusive seconds by name: ``text_encode``, ``denoise``, ``decode``, ...), ``steps`` (seconds
    of each denoise step), ``memory`` (peak bytes by name: ``allocated``, ``reserved``), ``ranks``
    (one entry a process).
    """

    frames: np.ndarray
    latent: np.ndarray | None = None
    fps: float | None = None
    original: str | None = None
    audio: np.ndarray | None = None
    sampling_rate: int | None = None
    seconds: float | None = None
    queue: float | None = None
    stages: Mapping[str, float] = field(default_factory=dict)
    steps: tuple[float, ...] = ()
    memory: Mapping[str, int] = field(default_factory=dict)
    ranks: tuple[Rank, ...] = ()


class Source(Protocol):
    """A loaded model, a server, or a folder of recorded videos."""

    @property
    def provides(self) -> frozenset[str]:
        """What this source can measure, now that it is loaded: a subset of ``PROVIDES``."""

    @property
    def nbytes(self) -> int:
        """Bytes of weights that it holds in this process."""

    def generate(self, prompt: Prompt, seed: int, call: Mapping[str, Json]) -> Output: ...

    def close(self) -> None: ...


SERVE = "serve:"
"""How the location of an endpoint begins that is a command to start, not a URL."""

PIPELINE = frozenset(
    {"latency", "cpu_time", "stages", "load", "memory", "energy", "latent", "quality"}
)

PROVIDES: dict[str, frozenset[str]] = {
    "diffusers": PIPELINE,
    "factory": PIPELINE,
    "endpoint": frozenset({"latency", "throughput", "load", "stages", "memory", "quality"}),
    "recorded": frozenset({"quality"}),
}
"""What each kind of source can measure at most; the rest is NOT_APPLICABLE, never a red test."""


def provides(spec: ModelSpec) -> frozenset[str]:
    """What can be measured of ``spec`` at most, known without loading it.

    The loaded source may provide less: an engine or a server says nothing of its memory unless it
    reports it.
    """
    quality = frozenset({"latent", "quality"}) if spec.weights == "random" else frozenset()
    return PROVIDES[spec.source] - quality
