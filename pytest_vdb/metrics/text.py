"""How well a video shows what its prompt asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_vdb.errors import Unmeasured
from pytest_vdb.metrics.consistency import unit

if TYPE_CHECKING:
    import torch


def clip_text(network: Any, prompt: str) -> torch.Tensor:
    """(1, D): a CLIP network of the text.

    CLIP reads 77 tokens, the begin and end token among them. A longer prompt loses its tail and
    keeps the end token, where CLIP reads its feature. Raises Unmeasured for an empty prompt.
    """
    if not prompt.strip():
        raise Unmeasured("the prompt is empty, so there is nothing to compare the video with")
    return network.text(prompt)


def clip_score(images: np.ndarray, text: np.ndarray) -> float:
    """Mean over frames of 100 · max(0, cos(image, text)), in [0, 100]; higher is better.

    ``images``: (T, D), a row a frame; ``text``: (1, D). CLIPScore (Hessel et al., EMNLP 2021) with
    the weight 100 of torchmetrics where the paper has 2.5; clipped at 0 for each frame, as in the
    paper. Raises Unmeasured for a feature that is zero or not finite.
    """
    cosines = unit(images) @ unit(text)[0]
    return float(100 * np.mean(np.maximum(cosines, 0)))
