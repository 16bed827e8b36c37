"""EfficientNet-Lite0 (Tan & Le, ICML 2019; Google's Lite variant), trained on ImageNet."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_vdb.errors import MissingWeights, WrongWeights
from pytest_vdb.metrics.weights import read_state

CODE = "efficientnet_lite_pytorch"


def load(path: Path) -> EfficientNetLite0:
    """The network of the weights ``path``.

    Raises MissingWeights without the package that has its class, WrongWeights for another file.
    """
    try:
        kind = import_module(CODE).EfficientNet
    except ImportError:
        raise MissingWeights(
            f"efficientnet_lite0: the package {CODE} is not installed; "
            "pip install --no-deps efficientnet-lite-pytorch"
        ) from None
    model = kind.from_name("efficientnet-lite0")
    try:
        model.load_state_dict(read_state(path))
    except RuntimeError as error:
        raise WrongWeights(f"{path} holds no EfficientNet-Lite0: {error}") from None
    return EfficientNetLite0(model.eval())


class EfficientNetLite0(nn.Module):
    """Pixels (N, 3, H, W) of any size → (N, 1280): the last convolution's mean over the picture."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model.extract_features(pixels).mean((2, 3))
