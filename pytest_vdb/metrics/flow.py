"""Metrics of how a video moves: optical flow between adjacent frames, and interpolated frames.

The flow of a pair is computed once in each direction and reduced at once to a row of numbers that
all metrics share; fields are not kept. Lengths are fractions of the video's shorter side, so they
do not depend on the resolution.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

from pytest_vdb.errors import Unmeasured
from pytest_vdb.metrics.networks.raft import pad_to, require_pyramid, warp

TOP = 0.05  # the share of a frame that moves most
MOVING = 6 / 256  # of the shorter side, between frames 1/8 s apart
STILL = 1e-3  # of the shorter side: a network's flow of equal frames stays below it
CELLS = 8  # a side; the grid of mean motions that a row holds
TOP_FLOW, MEAN_FLOW, ERROR, VISIBLE, MOTIONS = range(5)  # columns; the last one begins the grid


# ---------------------------------------------------------------------------- rows


def flow_rows(network: Any, frames: torch.Tensor) -> torch.Tensor:
    """uint8 (N, 3, H, W) → (N − 1, 132): each adjacent pair's flow, in numbers.

    ``network`` is a `Raft` or a `GMFlow`. The columns are

    - `top_flow` and the mean length of the flow, in shorter sides of the video;
    - the mean of |frame − its successor, warped back| / 255 over pixels that are `visible`, times
      the share of these; and that share;
    - the mean flow, x then y, of 8 × 8 cells of the frame, in shorter sides.

    The first two are of the flow forward. Raises Unmeasured for frames that the network does not
    take.
    """
    small, fraction = _prepared(network, frames)
    rows = []
    for before, after in pairwise(small[:, None]):  # one by one: memory, and the same numbers
        flows = network(before, after), network(after, before)
        rows.append(pair_row(before, after, *flows, fraction))
    return torch.stack(rows)


def pair_row(
    before: torch.Tensor,
    after: torch.Tensor,
    forward: torch.Tensor,
    backward: torch.Tensor,
    fraction: torch.Tensor,
) -> torch.Tensor:
    """One row of `flow_rows`, (132,): of two frames (1, 3, h, w), 0–255, and the flows of these.

    Flows are (1, 2, h, w) in pixels; ``fraction``, (2,), is what one pixel across and one down are
    of the video's shorter side.
    """
    moved = (forward * fraction.view(1, 2, 1, 1)).double()
    seen = visible(forward, backward)
    wrong = (before - warp(after, forward)).abs().mean(1) / 255
    numbers = [
        *top_flow(moved),
        moved.norm(dim=1).mean(),
        (wrong * seen).double().mean(),
        seen.double().mean(),
    ]
    return torch.cat([torch.stack(numbers), adaptive_avg_pool2d(moved, CELLS).flatten()])


def top_flow_rows(network: Any, frames: torch.Tensor) -> torch.Tensor:
    """uint8 (N, 3, H, W) → (N − 1, 1): `top_flow` of each adjacent pair, in shorter sides.

    Half the work of `flow_rows`: flow in one direction.
    """
    small, fraction = _prepared(network, frames)
    flows = (network(before, after) for before, after in pairwise(small[:, None]))
    return torch.stack([top_flow((f * fraction.view(1, 2, 1, 1)).double()) for f in flows])


def _prepared(network: Any, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The frames that the network takes, and one pixel of theirs in shorter sides of the video."""
    small, scale = network.prepare(frames)
    return small, torch.tensor(scale, device=small.device) / min(frames.shape[-2:])


def interpolation_rows(network: Any, frames: torch.Tensor) -> torch.Tensor:
    """uint8 (N, 3, H, W), N odd → (N // 2, 1): |odd frame − its interpolation| / 255.

    ``network`` is an `Amt`: frame 2i + 1 is made from frames 2i and 2i + 2, at the video's own
    size with its edge repeated to a multiple of 16 px, and cut down to whole grey levels, as in
    VBench. Raises Unmeasured for frames under 113 px, which have too few cells to correlate.
    """
    padded, (rows, columns) = pad_to(frames.float() / 255, 16)
    require_pyramid("AMT-S", frames, padded)
    errors = []
    for index in range(1, len(frames) - 1, 2):
        made = network(padded[index - 1 : index], padded[index + 1 : index + 2])
        grey = (made[0, :, rows, columns] * 255).clamp(0, 255).to(torch.uint8)
        errors.append((grey.double() - frames[index].double()).abs().mean() / 255)
    return torch.stack(errors)[:, None]


def top_flow(flow: torch.Tensor) -> torch.Tensor:
    """(N, 2, h, w) → (N,): mean length of the longest 5 % of the flow, in its unit.

    VBench's measure of dynamics. Of int(0.05 · h · w) pixels; one at the least.
    """
    lengths = flow.norm(dim=1).flatten(1)
    count = max(1, int(lengths.shape[1] * TOP))
    return lengths.topk(count, dim=1).values.mean(1)


def visible(forward: torch.Tensor, backward: torch.Tensor) -> torch.Tensor:
    """Flows (N, 2, h, w), in pixels, of a frame to the next and back → bool (N, h, w).

    Whether a pixel of the first frame is seen in the second, by Lai et al. (ECCV 2018), who follow
    Ruder et al. (GCPR 2016). With w the forward and ŵ the backward flow where it leads, neither

    - |w + ŵ|² > 0.01 · (|w|² + |ŵ|²) + 0.5: it does not lead back, so the pixel is occluded;
    - |∇u|² + |∇v|² > 0.01 · |w|² + 0.002: the edge of a moving object, where w is not sure.

    And it must not lead out of the frame, which Lai et al. do not ask.
    """
    there = warp(backward, forward)
    lost = _square(forward + there) > 0.01 * (_square(forward) + _square(there)) + 0.5
    slope = torch.zeros_like(forward[:, 0])
    slope[..., :-1] += _square(forward.diff(dim=3))
    slope[:, :-1, :] += _square(forward.diff(dim=2))
    edge = slope > 0.01 * _square(forward) + 0.002
    return ~(lost | edge) & _inside(forward)


def _inside(flow: torch.Tensor) -> torch.Tensor:
    height, width = flow.shape[-2:]
    x = flow[:, 0] + torch.arange(width, device=flow.device)
    y = flow[:, 1] + torch.arange(height, device=flow.device)[:, None]
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def _square(flow: torch.Tensor) -> torch.Tensor:
    return (flow * flow).sum(1)


# ---------------------------------------------------------------------------- metrics


def flow_magnitude(rows: np.ndarray) -> float:
    """Mean over adjacent pairs of `top_flow`, in shorter sides a frame, [0, ∞), higher is better.

    What dynamic_degree (VBench, Huang et al., CVPR 2024) compares with a threshold. ``rows``:
    float64 (M, 132), of `flow_rows`.
    """
    return float(_finite("flow_magnitude", rows)[:, TOP_FLOW].mean())


def flow_mean(rows: np.ndarray) -> float:
    """Mean length of the flow over pixels and adjacent pairs, in shorter sides a frame, [0, ∞).

    The flow score of EvalCrafter (Liu et al., CVPR 2024), there in pixels. Higher is better.
    ``rows``: float64 (M, 132), of `flow_rows`.
    """
    return float(_finite("flow_mean", rows)[:, MEAN_FLOW].mean())


def warping_error(rows: np.ndarray) -> float:
    """Mean absolute difference between a frame and its successor warped back, [0, 1], lower better.

    Over the pixels that are `visible` in both, in parts of 255, mean over adjacent pairs (Lai et
    al., ECCV 2018, who square the difference). ``rows``: float64 (M, 132), of `flow_rows`. Raises
    Unmeasured where two adjacent frames have no pixel in common: there is a cut.
    """
    rows = _finite("warping_error", rows)
    apart = np.flatnonzero(rows[:, VISIBLE] == 0)
    if len(apart):
        raise Unmeasured(
            f"warping_error: pair {apart[0] + 1} of adjacent frames has no pixel in common, as at "
            "a cut; measure each shot alone"
        )
    return float((rows[:, ERROR] / rows[:, VISIBLE]).mean())


def flow_acceleration(rows: np.ndarray) -> float:
    """How much the flow of a place changes from pair to pair, [0, ∞), lower is better.

    Mean length of the difference between the mean flows of a cell in adjacent pairs, in shorter
    sides a frame²: the acceleration field of FVMD (Liu et al., 2024), on a grid and not on tracked
    points. 0 for steady motion, and for none. ``rows``: float64 (M, 132), of `flow_rows`. Raises
    Unmeasured for two frames, which have one velocity.
    """
    motions = _motions("flow_acceleration", rows)
    if len(motions) < 2:
        raise Unmeasured("flow_acceleration needs 3 frames, and there are 2; give num_frames=3")
    return float(np.linalg.norm(np.diff(motions, axis=0), axis=1).mean())


def flow_straightness(rows: np.ndarray) -> float:
    """How far the motion at a place gets, for the way it makes, [0, 1], higher is better.

    The straightness index of path analysis (Batschelet 1981): length of the sum of a cell's mean
    flows over the sum of their lengths, both summed over cells. 1 for motion in one direction, 0
    for motion back and forth. ``rows``: float64 (M, 132), of `flow_rows`. Raises Unmeasured for a
    video that does not move, whose direction would be the network's noise.
    """
    motions = _motions("flow_straightness", rows)
    way = np.linalg.norm(motions, axis=1)
    if way.mean() < STILL:
        raise Unmeasured(
            f"flow_straightness: the video moves by {way.mean():.1g} of its shorter side a frame, "
            f"and below {STILL:g} a direction means nothing; give one that moves"
        )
    return float(np.linalg.norm(motions.sum(0), axis=0).sum() / way.sum())


def dynamic_degree(rows: np.ndarray) -> float:
    """1 for a video that moves, else 0: VBench's dynamic degree (Huang et al., CVPR 2024).

    Of frames 1/8 s apart: 1 if `top_flow` is above 6/256 of the shorter side in round(N / 4) pairs
    or more (N frames; halves are rounded to even). ``rows``: float64 (N − 1, 1), of
    `top_flow_rows`. Raises Unmeasured for two such frames, which VBench calls moving in any case.
    """
    rows = _finite("dynamic_degree", rows)
    frames = len(rows) + 1
    needed = round(frames / 4)
    if not needed:
        raise Unmeasured(
            f"dynamic_degree: {frames} frames at 8 a second are too few to tell; it needs 3, "
            "which is 0.25 s of video"
        )
    return float((rows[:, 0] > MOVING).sum() >= needed)


def motion_smoothness(rows: np.ndarray) -> float:
    """1 − mean |odd frame − its interpolation| / 255, [0, 1], higher is better.

    VBench's motion smoothness (Huang et al., CVPR 2024): every odd frame, but for a last one, is
    interpolated from its neighbours by AMT-S. A frozen video scores 1. ``rows``: float64 (M, 1), of
    `interpolation_rows`.
    """
    return float(1 - _finite("motion_smoothness", rows)[:, 0].mean())


def _motions(name: str, rows: np.ndarray) -> np.ndarray:
    """(M, 132) → (M, 2, 64)."""
    return _finite(name, rows)[:, MOTIONS:].reshape(len(rows), 2, CELLS**2)


def _finite(name: str, rows: np.ndarray) -> np.ndarray:
    """A NaN would pass as "does not move"."""
    if not np.isfinite(rows).all():
        raise Unmeasured(f"{name}: the network gave a NaN or an infinity; check its weights")
    return rows
