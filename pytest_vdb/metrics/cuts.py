"""Cuts: how often one shot ends and another begins. A generated clip of one prompt has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from pytest_vdb.errors import Unmeasured
from pytest_vdb.metrics.features import Stream
from pytest_vdb.metrics.preprocess import require_like, resize

if TYPE_CHECKING:
    import torch

WINDOW, MARGIN = 100, 25
"""The network sees 100 frames; what it says of the 25 at either end is left to the next window."""
STEP = WINDOW - 2 * MARGIN


def transitions(network: Callable[[torch.Tensor], torch.Tensor]) -> Stream:
    """(T, 2) in [0, 1]: that a shot ends at a frame, and that it lies in a transition.

    A generator of a feature of a stream: frames, uint8 (3, H, W), are sent to it. ``network`` is a
    TransNetV2. Frames are brought to 48 × 27 px as they come and the network gets 100 at a time,
    every window 50 later, so memory does not grow with length. As in the reference, the first and
    the last frame are repeated beyond the ends.
    """
    import torch

    window: list[torch.Tensor] = []
    seen: list[torch.Tensor] = []
    given = 0
    while (sent := (yield)) is not None:
        window += [_small(sent[0])] * (1 if window else MARGIN + 1)
        given += 1
        if len(window) == WINDOW:
            seen.append(network(torch.stack(window)[None])[0, MARGIN : MARGIN + STEP])
            window = window[STEP:]
    if not given:
        raise Unmeasured("cuts: a video without frames")
    while len(seen) * STEP < given:
        window += window[-1:] * (WINDOW - len(window))
        seen.append(network(torch.stack(window)[None])[0, MARGIN : MARGIN + STEP])
        window = window[STEP:]
    return torch.cat(seen)[:given]


def cuts(probabilities: np.ndarray, threshold: float = 0.5) -> float:
    """The number of cuts and other transitions between shots, ≥ 0, lower is better.

    ``probabilities`` are (T, D) floats; the first column is that a shot ends at a frame. A run of
    frames above ``threshold`` is one transition, if there are frames before and after it: one less
    than the scenes that the reference's post-processing finds (Souček & Lokoč 2020). Raises
    Unmeasured below 3 frames, where there can be none.
    """
    if len(probabilities) < 3:
        raise Unmeasured(f"cuts: {len(probabilities)} frames cannot hold a cut; it needs 3")
    likely = np.concatenate([probabilities[:, 0] > threshold, [True]])
    begins = int(np.count_nonzero(likely[1:] & ~likely[:-1]))
    return float(max(0, begins - 1))


def _small(frame: torch.Tensor) -> torch.Tensor:
    """uint8 (3, H, W) → uint8 (3, 27, 48), bicubic, as ffmpeg scales for the reference.

    Raises Unmeasured for frames more than ``LONGEST`` times as long as they are wide.
    """
    import torch

    from pytest_vdb.metrics.networks.transnet import HEIGHT, WIDTH

    require_like(frame)
    return resize(frame[None], HEIGHT, WIDTH, "bicubic")[0].round().to(torch.uint8)
