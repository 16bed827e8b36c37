"""CLIP (Radford et al., ICML 2021): transformers' classes, with the features that metrics share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_vdb.errors import WrongWeights
from pytest_vdb.metrics.networks.vit import pretrained, read_config
from pytest_vdb.metrics.weights import read_state


def load(path: Path) -> Clip:
    """CLIP of the weights ``path``, with ``config.json`` and the tokenizer's files beside them.

    Raises WrongWeights for files that are damaged or of another network.
    """
    from transformers import AutoTokenizer, CLIPConfig, CLIPModel

    model = pretrained(CLIPModel, path, read_config(CLIPConfig, path), read_state(path))
    try:
        tokenizer = AutoTokenizer.from_pretrained(path.parent, local_files_only=True)
    except (OSError, ValueError) as error:
        raise WrongWeights(f"the tokenizer in {path.parent} cannot be read: {error}") from None
    return Clip(model, tokenizer)


def load_vision(path: Path) -> Any:
    """The image half of the CLIP at ``path``: `transformers.CLIPVisionModelWithProjection`."""
    from transformers import CLIPConfig, CLIPVisionModelWithProjection

    config = read_config(CLIPConfig, path)
    vision = config.vision_config
    vision.projection_dim = config.projection_dim
    parts = ("vision_model.", "visual_projection.")
    half = {name: value for name, value in read_state(path).items() if name.startswith(parts)}
    return pretrained(CLIPVisionModelWithProjection, path, vision, half)


class Clip(nn.Module):
    """Pixels (N, 3, side, side) → (N, D), and a text → (1, D): projected, not normalised."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__()
        self.model, self.tokenizer = model, tokenizer

    @property
    def side(self) -> int:
        return int(self.model.config.vision_config.image_size)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return image_features(self.model, pixels)

    def text(self, prompt: str) -> torch.Tensor:
        """(1, D). What is longer than the context loses its tail and keeps the end token."""
        ids = self.tokenizer(
            prompt,
            truncation=True,
            max_length=self.model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).input_ids
        device = self.model.text_projection.weight.device
        pooled = self.model.text_model(input_ids=ids.to(device)).pooler_output
        return self.model.text_projection(pooled)


def image_features(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    """(N, D) of a CLIPModel or a CLIPVisionModelWithProjection."""
    return model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
