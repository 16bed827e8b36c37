"""How well a video shows what its prompt asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_vdb.errors import Unmeasured
from pytest_vdb.metrics import preprocess
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


def scaled_text(network: Any, prompt: str) -> torch.Tensor:
    """(1, D): as `clip_text`, of the length that the network scales its cosines with."""
    text = clip_text(network, prompt)
    return network.model.logit_scale.exp() * text / text.norm(dim=1, keepdim=True)


def whole_frame(network: Any, frames: torch.Tensor) -> torch.Tensor:
    """uint8 (N, 3, H, W) → (N, D): a CLIP network of the whole frame on a black square.

    The longer side becomes the network's, bicubic with antialiasing, neither rounded nor clipped,
    and black is put around: as HPS v2's code does.
    """
    from torch.nn.functional import pad

    side = network.side
    sizes = frames.shape[-2:]
    height, width = (max(1, round(length * side / max(sizes))) for length in sizes)
    small = preprocess.resize(frames.float(), height, width, "bicubic")
    top, left = (side - height) // 2, (side - width) // 2
    square = pad(small, (left, side - width - left, top, side - height - top))
    return network(preprocess.normalize(square, preprocess.CLIP_MEAN, preprocess.CLIP_STD))


def clip_score(images: np.ndarray, text: np.ndarray) -> float:
    """Mean over frames of 100 · max(0, cos(image, text)), in [0, 100]; higher is better.

    ``images``: (T, D), a row a frame; ``text``: (1, D). CLIPScore (Hessel et al., EMNLP 2021) with
    the weight 100 of torchmetrics where the paper has 2.5; clipped at 0 for each frame, as in the
    paper. Raises Unmeasured for a feature that is zero or not finite.
    """
    cosines = unit(images) @ unit(text)[0]
    return float(100 * np.mean(np.maximum(cosines, 0)))


def pick_score(images: np.ndarray, text: np.ndarray) -> float:
    """Mean over frames of exp(logit scale) · cos(image, text); higher is better.

    ``images``: (T, D), a row a frame; ``text``: (1, D) of `scaled_text`. PickScore (Kirstain et
    al., NeurIPS 2023) of each frame as a picture. Raises Unmeasured for a feature that is zero or
    not finite.
    """
    return float(np.mean(unit(images) @ unit(text)[0]) * np.linalg.norm(text[0]))


def hps(images: np.ndarray, text: np.ndarray) -> float:
    """Mean over frames of cos(image, text), in [−1, 1]; higher is better.

    ``images``: (T, D), a row a frame; ``text``: (1, D). Human Preference Score v2 (Wu et al., 2023)
    of each frame as a picture. Raises as `pick_score` does.
    """
    return float(np.mean(unit(images) @ unit(text)[0]))
