"""DINO's vision transformer (Caron et al., ICCV 2021), and how transformers' classes are loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import interpolate

from pytest_vdb.errors import WrongWeights
from pytest_vdb.metrics.weights import read_state

EPS = 1e-6  # of DINO's layer norms; the hub's config.json has transformers' default, 1e-12


def load(path: Path) -> Dino:
    """DINO of the weights ``path`` and the ``config.json`` beside them.

    Raises WrongWeights for files that are damaged or of another network.
    """
    from transformers import ViTConfig, ViTModel

    config = read_config(ViTConfig, path)
    config.layer_norm_eps = EPS
    return Dino(pretrained(ViTModel, path, config, read_state(path), add_pooling_layer=False))


class Dino(nn.Module):
    """Pixels (N, 3, H, W), normalised, of any size → (N, D): the last layer's class token."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        model.embeddings = DinoEmbeddings(model.embeddings)
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model(pixel_values=pixels).last_hidden_state[:, 0]


class DinoEmbeddings(nn.Module):
    """Tokens of a picture, with DINO's positions.

    For another number of patches than it was trained with, DINO interpolates them with scale
    factors made 0.1 patch too large; transformers takes the exact ones, and another number comes
    out.
    """

    def __init__(self, loaded: Any) -> None:
        super().__init__()
        self.cls_token = loaded.cls_token
        self.position_embeddings = loaded.position_embeddings
        self.patch_embeddings = loaded.patch_embeddings

    def forward(self, pixel_values: torch.Tensor, **_unused: Any) -> torch.Tensor:
        patches = self.patch_embeddings.projection(pixel_values)
        tokens = patches.flatten(2).transpose(1, 2)
        classes = self.cls_token.expand(len(tokens), -1, -1)
        rows, columns = patches.shape[-2:]
        return torch.cat([classes, tokens], 1) + self.positions(rows, columns)

    def positions(self, rows: int, columns: int) -> torch.Tensor:
        """(1, 1 + rows · columns, D)."""
        first, rest = self.position_embeddings[:, :1], self.position_embeddings[:, 1:]
        side = int(rest.shape[1] ** 0.5)
        if rows == columns == side:
            return self.position_embeddings
        grid = rest.reshape(1, side, side, -1).permute(0, 3, 1, 2)
        scale = ((rows + 0.1) / side, (columns + 0.1) / side)
        grid = interpolate(grid, scale_factor=scale, mode="bicubic")
        return torch.cat([first, grid.flatten(2).transpose(1, 2)], 1)


def read_config(kind: Any, path: Path) -> Any:
    """The configuration beside the weights ``path``. Raises WrongWeights."""
    try:
        return kind.from_pretrained(path.parent, local_files_only=True)
    except (OSError, ValueError) as error:
        raise WrongWeights(f"{path.parent / 'config.json'} cannot be read: {error}") from None


def pretrained(kind: Any, path: Path, config: Any, state: dict[str, Any], **options: Any) -> Any:
    """A model ``kind`` of transformers with exactly the parameters ``state``, read from ``path``.

    Raises WrongWeights where one is missing, too many, or of another shape.
    """
    # Buffers that older versions stored; they hold 0, 1, 2, ...
    state = {name: value for name, value in state.items() if not name.endswith("position_ids")}
    try:
        with _silent():
            model, report = kind.from_pretrained(
                None, config=config, state_dict=state, output_loading_info=True, **options
            )
    except RuntimeError as error:
        raise WrongWeights(f"{path} does not fit its config.json: {error}") from None
    wrong = sorted(
        {str(name) for key in ("missing_keys", "unexpected_keys") for name in report[key]}
    )
    if wrong:
        raise WrongWeights(
            f"{path} is not a {kind.__name__} of its config.json: {len(wrong)} parameters are "
            f"missing or too many, such as {', '.join(wrong[:3])}"
        )
    return model.float().eval()


@contextmanager
def _silent() -> Iterator[None]:
    from transformers.utils import logging as untyped

    logging: Any = untyped
    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # what is wrong is raised
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()
