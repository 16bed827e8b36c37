"""Sources: where videos come from. A source declares what can be measured of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pytest_vdb.records import Json, ModelSpec, Prompt

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Output:
    """One generated video, before anything is quantised or written.

    ``frames``: (T, H, W, 3), RGB, float32 in [0, 1] or uint8. ``latent``: float32, the pre-VAE
    latent as the VAE's ``decode`` received it, or None. ``fps``: frames a second, or None.
    ``original``: the clip's own file, for a recorded video.
    """

    frames: np.ndarray
    latent: np.ndarray | None = None
    fps: float | None = None
    original: str | None = None


class Source(Protocol):
    """A loaded model, or a folder of recorded videos."""

    def generate(self, prompt: Prompt, seed: int, call: Mapping[str, Json]) -> Output: ...

    def close(self) -> None: ...


PROVIDES: dict[str, frozenset[str]] = {
    "factory": frozenset({"latency", "load", "memory", "latent"}),
    "recorded": frozenset(),
}
"""What each kind of source can measure; the rest is NOT_APPLICABLE, never a red test."""


def provides(spec: ModelSpec) -> frozenset[str]:
    """What can be measured of ``spec``, known without loading it."""
    return PROVIDES[spec.source]
