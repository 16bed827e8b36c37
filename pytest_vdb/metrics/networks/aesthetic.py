"""LAION's aesthetic predictor, version 1: a linear layer on CLIP ViT-L/14's image features."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import normalize

from pytest_vdb.errors import WrongWeights
from pytest_vdb.metrics.networks.clip import image_features, load_vision
from pytest_vdb.metrics.weights import read_state

HEAD = "sa_0_4_vit_l_14_linear.pth"
HEAD_SHA256 = "2cd4e60f4f24ae3bcd57b847b13c1f3ba27edc28cc1a7f9ce74ee9f421243cba"


def load(path: Path) -> Aesthetic:
    """The predictor of CLIP's weights ``path``, its ``config.json``, and ``HEAD`` beside them.

    Raises WrongWeights, also for a head of another digest than the published one.
    """
    head = path.parent / HEAD
    digest = hashlib.sha256(head.read_bytes()).hexdigest()
    if digest != HEAD_SHA256:
        raise WrongWeights(
            f"{head} is not LAION's: its sha256 is {digest} and should be {HEAD_SHA256}; fetch it "
            "from https://github.com/LAION-AI/aesthetic-predictor"
        )
    return assemble(path)


def assemble(path: Path) -> Aesthetic:
    """As `load`, with whatever head lies there."""
    model = load_vision(path)
    head = nn.Linear(model.config.projection_dim, 1)
    try:
        head.load_state_dict(read_state(path.parent / HEAD))
    except RuntimeError as error:
        raise WrongWeights(f"{path.parent / HEAD} does not fit {path}: {error}") from None
    return Aesthetic(model, head.eval())


class Aesthetic(nn.Module):
    """Pixels (N, 3, side, side) → (N, 1): the predicted rating, about 1 to 10."""

    def __init__(self, model: Any, head: nn.Linear) -> None:
        super().__init__()
        self.model, self.head = model, head

    @property
    def side(self) -> int:
        return int(self.model.config.image_size)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.head(normalize(image_features(self.model, pixels), dim=-1))
