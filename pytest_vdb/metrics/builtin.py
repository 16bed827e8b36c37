"""The package's own metrics, as data. Definitions and sources are in docs/metrics.md."""

from __future__ import annotations

from functools import partial
from typing import Any

from pytest_vdb.metrics.registry import MetricSpec, lazy
from pytest_vdb.records import Kind

ALL_FAULTS = (
    "black",
    "frozen",
    "noise",
    "shuffled",
    "blur",
    "colour_shift",
    "half_resolution",
    "dropped_frames",
)


def _metric(module: str, name: str, summary: str, how: str, **fields: Any) -> MetricSpec:
    usual = {"unit": "score", "range": (0.0, 1.0), "direction": "higher", "kind": Kind.SCORE}
    compute = lazy(f"pytest_vdb.metrics.{module}:{name}")
    return MetricSpec(
        name=name, summary=summary, how=how, version="1", compute=compute, **usual | fields
    )


_alone = partial(_metric, "no_reference", needs="frames", package="numpy")
_shapes = partial(_metric, "shapes", needs="prompt", package="scipy")


def _against(name: str, title: str, how: str, **fields: Any) -> tuple[MetricSpec, MetricSpec]:
    """A metric of frames: their mean, and the worst of them."""
    summary, module = f"{title} against the baseline's video", "full_reference"
    fields |= {"kind": Kind.DISTANCE, "needs": "reference"}
    fields |= {"sees": ALL_FAULTS, "package": "torchmetrics"}
    worst = f"{name}_worst_frame"
    return (
        _metric(module, name, f"{summary}, mean", f"{how}; mean over frames", **fields),
        _metric(module, worst, f"{summary}, worst frame", f"{how}; the worst frame", **fields),
    )


BUILTIN: tuple[MetricSpec, ...] = (
    _alone(
        "temporal_flickering",
        "how little adjacent frames differ (VBench); a frozen video scores 1",
        "(255 - mean absolute difference of adjacent RGB frames) / 255, as VBench defines it",
        sees=("noise", "shuffled"),
    ),
    _alone(
        "motion_energy",
        "how much adjacent frames differ: the floor beside any consistency metric",
        "mean absolute difference of the BT.601 luma of adjacent frames, in parts of 255",
        unit="fraction",
        sees=("black", "frozen", "dropped_frames"),
    ),
    _alone(
        "sharpness",
        "variance of the Laplacian of the luma",
        "variance of the 4-neighbour Laplacian of the BT.601 luma (0-255) over a frame's interior, "
        "mean over frames",
        unit="grey levels^2",
        range=(0.0, 1020.0**2),
        sees=("black", "blur", "half_resolution"),
    ),
    _shapes(
        "shapes_color",
        "how much of the shape has the prompt's color",
        "share of the pixels that stand out from the background, without the shape's edge, that "
        "have the prompt's color (nearest of six, within 60 in sRGB), mean over frames",
        sees=("black",),
    ),
    _shapes(
        "shapes_background",
        "how much of what surrounds the shape has the prompt's background",
        "share of the pixels more than 2 px off the shape that have the prompt's background "
        "(nearest of four, within 60 in sRGB), mean over frames",
        sees=("black",),  # unless the prompt asks for a black background
    ),
    _shapes(
        "shapes_shape",
        "how many frames show the prompt's shape, and nothing beside it",
        "share of the frames whose one region overlaps most with the prompt's ideal shape, by an "
        "intersection over union of at least 0.85, and keeps its size",
        sees=("black",),
    ),
    _shapes(
        "shapes_direction",
        "whether the shape moves where the prompt says",
        "1 if the shape's centroid moves that way by 0.15 of the shorter side or more, twice as "
        "far as across, and by 0.8 of its path or more; else 0",
        sees=("black", "frozen", "shuffled"),
    ),
    _shapes(
        "shapes_adherence",
        "mean of shapes_color, shapes_background, shapes_shape and shapes_direction",
        "mean of shapes_color, shapes_background, shapes_shape and shapes_direction",
        sees=("black", "frozen", "shuffled"),
    ),
    *_against(
        "psnr",
        "PSNR",
        "10 log10(255^2 / MSE) of each RGB frame in dB, at most 100 dB (identical frames)",
        unit="dB",
        range=(0.0, 100.0),
    ),
    *_against(
        "ssim",
        "SSIM",
        "SSIM of each RGB frame: 11x11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03, "
        "range 255, mean of the whole reflect-padded map",
        range=(-1.0, 1.0),
    ),
    *_against(
        "ms_ssim",
        "MS-SSIM",
        "MS-SSIM of each RGB frame: five scales, SSIM's window, negative terms set to 0; "
        "defined from 176x176 px",
    ),
    _metric(
        "latent",
        "latent_cosine",
        "cosine distance of the pre-VAE latent from the baseline's",
        "1 - cos of the pre-VAE latents in float64, both rounded to fp16 first",
        unit="distance",
        range=(0.0, 2.0),
        direction="lower",
        kind=Kind.DISTANCE,
        needs="latent",
        sees=("frozen", "noise", "shuffled", "blur", "half_resolution", "dropped_frames"),
        package="numpy",
    ),
)
