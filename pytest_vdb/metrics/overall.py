"""Whether a video is what its text asks for, and whether two texts mean the same."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pytest_vdb.errors import Unmeasured
from pytest_vdb.metrics.preprocess import (
    CLIP_MEAN,
    CLIP_STD,
    center_crop,
    normalize,
    resize_shorter,
)

if TYPE_CHECKING:
    import torch

    from pytest_vdb.metrics.networks.minilm import MiniLM
    from pytest_vdb.metrics.networks.viclip import ViCLIP


def overall_consistency(video: np.ndarray, text: np.ndarray) -> float:
    """Cosine of the video's vector and its text's, in [−1, 1], higher is better.

    ``video`` and ``text`` are floats (1, D) of one network. VBench's overall consistency (Huang et
    al., CVPR 2024) with ViCLIP; its values lie between 0 and about 0.36. Raises Unmeasured where a
    vector is zero or not finite, and so has no direction.
    """
    return _cosine("overall_consistency", video, text)


def text_similarity(a: str, b: str, weights: Path | None = None) -> float:
    """How alike two texts are in meaning: cosine of their MiniLM vectors, in [−1, 1].

    ``weights`` is the folder of ``--vdb-metric-weights``. Compare a caption with a prompt, or a
    rewritten prompt with the one it was made from. Raises MissingWeights, WrongWeights.
    """
    import torch

    with torch.inference_mode():
        ours, theirs = _minilm(weights)([a, b]).double().numpy()
    return _cosine("text_similarity", ours, theirs)


def video_vector(network: ViCLIP, frames: torch.Tensor) -> torch.Tensor:
    """(1, 768) of 8 frames, uint8 (8, 3, H, W), by a ViCLIP."""
    prepared = prepare(frames)
    result: torch.Tensor = network.video(prepared[None])
    return result


def text_vector(network: ViCLIP, prompt: str) -> torch.Tensor:
    """(1, 768) of a text by a ViCLIP; it reads 32 tokens with start and end, about 25 words."""
    result: torch.Tensor = network.text(prompt)
    return result


def minilm_vector(network: MiniLM, prompt: str) -> torch.Tensor:
    """(1, 384) of a text by a MiniLM, of length 1."""
    result: torch.Tensor = network([prompt])
    return result


def prepare(frames: torch.Tensor, side: int = 224) -> torch.Tensor:
    """uint8 (N, 3, H, W) → float32 (N, 3, side, side), normalised as for CLIP.

    The shorter side bicubic **without** antialiasing, whole grey levels, then the middle: VBench's
    transform, whose numbers would move with a better filter.
    """
    whole = resize_shorter(frames, side, "bicubic", antialias=False).round().clamp(0, 255)
    return normalize(center_crop(whole, side), CLIP_MEAN, CLIP_STD)


def _cosine(name: str, a: np.ndarray, b: np.ndarray) -> float:
    ours, theirs = (np.ravel(x).astype(np.float64) for x in (a, b))
    length = float(np.linalg.norm(ours) * np.linalg.norm(theirs))
    if not (np.isfinite(length) and length > 0):
        raise Unmeasured(f"{name}: a vector of length 0 or with NaN has no direction")
    return float(ours @ theirs) / length


@functools.cache
def _minilm(weights: Path | None) -> MiniLM:
    from pytest_vdb.metrics.catalog.overall import MINILM
    from pytest_vdb.metrics.weights import find

    network: MiniLM = MINILM.load(find(MINILM, weights).path)
    return network
