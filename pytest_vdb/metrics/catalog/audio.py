"""Metrics of a video's sound. Only data."""

from __future__ import annotations

from typing import Any

from pytest_vdb.metrics.catalog import define
from pytest_vdb.metrics.features import Feature
from pytest_vdb.metrics.registry import MetricSpec, lazy
from pytest_vdb.metrics.weights import Network

NETWORKS: tuple[Network, ...] = ()

# The same rows that temporal_flickering is made of: one pass serves both
DIFFERENCE = Feature(
    "difference", lazy("pytest_vdb.metrics.no_reference:difference_rows"), window=2
)
ONSETS = Feature("onset_strength", lazy("pytest_vdb.metrics.synchrony:onset_strength"), of="audio")
RATE = Feature("frame_rate", lazy("pytest_vdb.metrics.synchrony:rate_rows"), of="video")

_MEAN = "of each channel, without those that are silent in both; mean over channels"
_LAG = (
    "of the cross-correlation, within 600 ms, of motion energy (mean absolute difference of "
    "adjacent frames) and onset strength (spectral flux, 20 ms windows, 5 ms hops)"
)


def _against(name: str, summary: str, how: str, **fields: Any) -> MetricSpec:
    rows = Feature(
        f"{name}_channels", lazy(f"pytest_vdb.metrics.audio:{name}_rows"), of="audio_reference"
    )
    return define(
        *(name, "audio:channel_mean", rows),
        summary=f"{summary} against the reference's audio",
        how=f"{how} {_MEAN}",
        needs="audio_reference",
        sees=("shifted_audio", "noisy_audio"),
        **fields,
    )


def _sync(name: str, summary: str, how: str, **fields: Any) -> MetricSpec:
    return define(
        *(name, f"synchrony:{name}_of", DIFFERENCE, ONSETS, RATE),
        summary=summary,
        how=how,
        needs="audio",
        package="scipy",
        **fields,
    )


METRICS: tuple[MetricSpec, ...] = (
    _against(
        "si_snr",
        "scale-invariant signal-to-noise ratio",
        "10 log10(|at|^2 / |e - at|^2) in dB, a = <e, t> / |t|^2, zero-mean, -100 to 100,",
        unit="dB",
        range=(-100.0, 100.0),
        package="numpy",
    ),
    _against(
        "sdr",
        "signal-to-distortion ratio",
        "SDR of bss_eval with a filter of 512 taps in dB, -100 to 100,",
        unit="dB",
        range=(-100.0, 100.0),
        package="torchmetrics",
    ),
    _against(
        "stoi",
        "short-time objective intelligibility of speech",
        "STOI (Taal et al. 2011) at 10 kHz",
        unit="score",
        range=(-1.0, 1.0),
        package="pystoi",
    ),
    _against(
        "pesq",
        "PESQ of speech",
        "PESQ, wide band at 16 kHz (ITU-T P.862.2), as MOS-LQO",
        unit="MOS",
        range=(1.0, 4.65),
        package="pesq",
    ),
    _sync(
        "av_sync",
        "how far the sound is from the picture; gate it at 40 ms, with av_sync_peak beside it",
        f"absolute lag of the peak {_LAG}",
        unit="ms",
        range=(0.0, 600.0),
        direction="lower",
    ),
    _sync(
        "av_sync_peak",
        "how much sound and picture have to do with each other at av_sync's lag",
        f"height of the peak {_LAG}",
        unit="score",
        range=(-1.0, 1.0),
        direction="higher",
    ),
)
