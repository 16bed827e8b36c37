"""Imaging quality by MUSIQ, as data. Definitions and sources are in docs/metrics/imaging.md."""

from __future__ import annotations

import math

from pytest_vdb.metrics.catalog import define
from pytest_vdb.metrics.features import Feature
from pytest_vdb.metrics.registry import MetricSpec, lazy
from pytest_vdb.metrics.weights import Network

MUSIQ = Network(
    name="musiq_spaq",
    files=("musiq_spaq_ckpt-358bb6af.pth",),
    load=lazy("pytest_vdb.metrics.networks.musiq:load"),
    url="https://huggingface.co/chaofengc/IQA-PyTorch-Weights",
    licence="Apache-2.0 (google-research); converted by IQA-PyTorch (non-commercial)",
    sha256="358bb6af",
    hub="chaofengc/IQA-PyTorch-Weights",
)

QUALITY = Feature(
    name="musiq_spaq",
    rows=lazy("pytest_vdb.metrics.imaging:quality"),
    network=MUSIQ,
)

NETWORKS: tuple[Network, ...] = (MUSIQ,)

METRICS: tuple[MetricSpec, ...] = (
    define(
        *("imaging_quality", "imaging:imaging_quality", QUALITY),
        # The last layer is linear: what lies a little outside 0 to 1 is a value all the same.
        range=(-math.inf, math.inf),
        summary="technical quality of the frames: noise, blur, exposure (VBench); about 0 to 1",
        how="MUSIQ trained on SPAQ, frames with a longer side of at most 512 px (bilinear, not "
        "antialiased), mean over frames / 100, as VBench defines it",
    ),
)
