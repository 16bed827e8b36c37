"""Cuts: how often one shot ends and another begins. A generated clip of one prompt has none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from pytest_vdb.errors import Unmeasured
from pytest_vdb.metrics.preprocess import resize

if TYPE_CHECKING:
    import torch

    from pytest_vdb.metrics.video import Video

WINDOW, MARGIN = 100, 25
"""The network sees 100 frames; what it says of the 25 at either end is left to the next window."""


def transitions(network: torch.nn.Module, video: Video) -> np.ndarray:
    """(T, 2) float64 in [0, 1]: that a shot ends at a frame, and that it lies in a transition.

    ``network`` is a TransNetV2. Frames are brought to 48 × 27 px as they are read and the network
    gets 100 at a time, every window 50 later, so memory does not grow with length. As in the
    reference, the first and the last frame are repeated beyond the ends.
    """
    import torch

    device = next(network.parameters()).device
    small = (_small(frame, device) for frame in video.frames())
    seen = [network(window[None])[0, MARGIN:][:count] for window, count in _windows(small)]
    if not seen:
        raise Unmeasured(f"cuts: {video.name} has no frames")
    return torch.cat(seen).double().cpu().numpy()


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


def _small(frame: np.ndarray, device: torch.device) -> torch.Tensor:
    """uint8 (H, W, 3) → uint8 (3, 27, 48), bicubic, as ffmpeg scales for the reference."""
    import torch

    from pytest_vdb.metrics.networks.transnet import HEIGHT, WIDTH

    planes = torch.from_numpy(np.ascontiguousarray(frame.transpose(2, 0, 1))).to(device)
    return resize(planes[None], HEIGHT, WIDTH, "bicubic")[0].round().to(torch.uint8)


def _windows(frames: Iterable[torch.Tensor]) -> Iterator[tuple[torch.Tensor, int]]:
    """(100, 3, 27, 48) each, and how many of its middle 50 are frames of the video."""
    import torch

    step = WINDOW - 2 * MARGIN
    window: list[torch.Tensor] = []
    given = covered = 0
    for frame in frames:
        window += [frame] * (1 if window else MARGIN + 1)
        given += 1
        if len(window) == WINDOW:
            yield torch.stack(window), step
            window, covered = window[step:], covered + step
    while covered < given:
        window += window[-1:] * (WINDOW - len(window))
        yield torch.stack(window), min(step, given - covered)
        window, covered = window[step:], covered + step
