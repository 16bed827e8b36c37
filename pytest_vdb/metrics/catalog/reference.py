"""Metrics against the baseline's video, as data. Definitions: docs/metrics/reference.md."""

from __future__ import annotations

import math
from typing import Any

from pytest_vdb.metrics.features import Feature
from pytest_vdb.metrics.registry import MetricSpec, lazy
from pytest_vdb.metrics.weights import Network
from pytest_vdb.records import Kind

# fmt: off
FAULTS = (
    "black", "frozen", "noise", "shuffled", "blur", "colour_shift", "half_resolution",
    "dropped_frames", "spliced",
)
# fmt: on
LUMA_FAULTS = tuple(fault for fault in FAULTS if fault != "colour_shift")

ALEXNET = Network(
    name="alexnet",
    files=("alexnet-owt-7be5be79.pth",),
    load=lazy("pytest_vdb.metrics.networks.trunks:load_alexnet"),
    url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    licence="BSD-3-Clause (torchvision)",
    sha256="7be5be79",
)
VGG16 = Network(
    name="vgg16",
    files=("vgg16-397923af.pth",),
    load=lazy("pytest_vdb.metrics.networks.trunks:load_vgg16"),
    url="https://download.pytorch.org/models/vgg16-397923af.pth",
    licence="BSD-3-Clause (torchvision)",
    sha256="397923af",
)


def _shift_tolerant(name: str, kind: str, sha256: str) -> Network:
    return Network(
        name=name,
        files=(f"{kind}_shift_tolerant.pth",),
        load=lazy(f"pytest_vdb.metrics.networks.shift_tolerant:load_{kind}"),
        url="https://pypi.org/project/stlpips-pytorch",
        licence="BSD-2-Clause",
        sha256=sha256,
        package="stlpips-pytorch",
        inside="stlpips_pytorch/weights/vST0.0",
        install="pip install --no-deps stlpips-pytorch==0.0.2",
    )


ST_ALEX = _shift_tolerant(
    "st_lpips", "alex", "b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee"
)
ST_VGG = _shift_tolerant(
    "st_lpips_vgg", "vgg", "44597da68f49c1837c100ff52299050f274d102eb102e5837178c79be6f0e250"
)
NETWORKS: tuple[Network, ...] = (ALEXNET, VGG16, ST_ALEX, ST_VGG)


def _feature(name: str, function: str, network: Network | None = None) -> Feature:
    rows = lazy(f"pytest_vdb.metrics.{function}")
    return Feature(name=name, rows=rows, of="reference", network=network)


PSNR = _feature("psnr", "full_reference:psnr_rows")
SSIM = _feature("ssim", "full_reference:ssim_rows")
MS_SSIM = _feature("ms_ssim", "full_reference:ms_ssim_rows")
DIFFERENCES = _feature("reference_differences", "full_reference:difference_rows")
LPIPS = _feature("lpips", "perceptual:lpips", ALEXNET)
LPIPS_VGG = _feature("lpips_vgg", "perceptual:lpips_vgg", VGG16)
ST_LPIPS = _feature("st_lpips", "perceptual:st_lpips", ST_ALEX)
ST_LPIPS_VGG = _feature("st_lpips_vgg", "perceptual:st_lpips", ST_VGG)
DISTS = _feature("dists", "perceptual:dists", VGG16)


def _metric(name: str, summary: str, how: str, compute: str, **fields: Any) -> MetricSpec:
    usual = {"kind": Kind.DISTANCE, "needs": "reference", "version": "1", "sees": FAULTS}
    function = lazy(f"pytest_vdb.metrics.{compute}")
    return MetricSpec(name=name, summary=summary, how=how, compute=function, **usual | fields)


def _frames(feature: Feature, title: str, how: str, **fields: Any) -> tuple[MetricSpec, MetricSpec]:
    """A metric of frames: their mean, and the worst of them."""
    name = feature.name
    fields = {"direction": "higher", "unit": "score", "package": "torchmetrics"} | fields
    fields["features"] = (feature,)
    worst = "lowest" if fields["direction"] == "higher" else "highest"
    return (
        _metric(
            name,
            f"{title} against the baseline's video, mean",
            f"{how}; mean over frames",
            "full_reference:mean",
            **fields,
        ),
        _metric(
            f"{name}_worst_frame",
            f"{title} against the baseline's video, worst frame",
            f"{how}; the worst frame",
            f"full_reference:{worst}",
            **fields,
        ),
    )


def _deep(feature: Feature, title: str, how: str, **fields: Any) -> tuple[MetricSpec, MetricSpec]:
    """``sees`` is empty where the published weights were not there to try it."""
    usual = {"direction": "lower", "unit": "distance", "range": (0.0, math.inf), "sees": ()}
    return _frames(feature, title, how, **usual | fields)


def _lpips_how(network: str) -> str:
    return (
        f"{network}: squared differences of unit-length features after five ReLUs, weighted by "
        "channel with the published heads, mean over places, sum over stages; frames keep their "
        "size"
    )


VMAF = Feature("vmaf", lazy("pytest_vdb.metrics.vmaf:scored"), of="stream_reference")


def _vmaf(name: str, which: str, how: str) -> MetricSpec:
    return _metric(
        name,
        f"VMAF against the baseline's video, {which}",
        "libvmaf's vmaf_v0.6.1 of 8-bit BT.601 luma (limited range, yuv444p, chroma 128), by the "
        f"ffmpeg of imageio-ffmpeg; {how}",
        f"full_reference:{'mean' if name == 'vmaf' else 'lowest'}",
        features=(VMAF,),
        unit="score",
        range=(0.0, 100.0),
        direction="higher",
        sees=LUMA_FAULTS,
        package="imageio-ffmpeg",
    )


METRICS: tuple[MetricSpec, ...] = (
    *_frames(
        PSNR,
        "PSNR",
        "10 log10(255^2 / MSE) of each RGB frame in dB, at most 100 dB (identical frames)",
        unit="dB",
        range=(0.0, 100.0),
    ),
    *_frames(
        SSIM,
        "SSIM",
        "SSIM of each RGB frame: 11x11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03, "
        "range 255, mean of the whole reflect-padded map",
        range=(-1.0, 1.0),
    ),
    *_frames(
        MS_SSIM,
        "MS-SSIM",
        "MS-SSIM of each RGB frame: five scales, SSIM's window, negative terms set to 0; "
        "defined from 176x176 px",
        range=(0.0, 1.0),
    ),
    _metric(
        "mad",
        "mean absolute difference from the baseline's video",
        "mean absolute difference of all 8-bit RGB values of all frames",
        "full_reference:mean_difference",
        unit="grey levels",
        range=(0.0, 255.0),
        direction="lower",
        features=(DIFFERENCES,),
        package="numpy",
    ),
    _metric(
        "p99_difference",
        "99th percentile of the absolute difference from the baseline's video",
        "99th percentile (linear between ranks) of the absolute differences of all 8-bit RGB "
        "values of all frames",
        "full_reference:percentile_99",
        unit="grey levels",
        range=(0.0, 255.0),
        direction="lower",
        features=(DIFFERENCES,),
        package="numpy",
        sees=tuple(fault for fault in FAULTS if fault != "dropped_frames"),
    ),
    *_deep(LPIPS, "LPIPS (AlexNet)", _lpips_how("LPIPS 0.1 over torchvision's AlexNet")),
    *_deep(LPIPS_VGG, "LPIPS (VGG16)", _lpips_how("LPIPS 0.1 over torchvision's VGG16")),
    *_deep(
        ST_LPIPS,
        "shift-tolerant LPIPS (AlexNet)",
        _lpips_how("ST-LPIPS (stlpips-pytorch 0.0.2, net='alex')"),
        sees=FAULTS,
        package="torch",
    ),
    *_deep(
        ST_LPIPS_VGG,
        "shift-tolerant LPIPS (VGG16)",
        _lpips_how("ST-LPIPS (stlpips-pytorch 0.0.2, net='vgg')"),
        sees=FAULTS,
        package="torch",
    ),
    *_deep(
        DISTS,
        "DISTS",
        "DISTS over torchvision's VGG16 with L2 pooling, published alpha and beta; frames keep "
        "their size",
        range=(0.0, 2.0),
    ),
    _vmaf("vmaf", "mean", "mean over frames"),
    _vmaf("vmaf_worst_frame", "worst frame", "the worst frame"),
)
