"""The package's own metrics, as data. Definitions and sources are in docs/metrics.md."""

from __future__ import annotations

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


def _alone(
    name: str, unit: str, top: float, summary: str, how: str, sees: tuple[str, ...]
) -> MetricSpec:
    return MetricSpec(
        name=name,
        unit=unit,
        direction="higher",
        kind=Kind.SCORE,
        needs="frames",
        version="1",
        range=(0.0, top),
        summary=summary,
        how=how,
        compute=lazy(f"pytest_vdb.metrics.no_reference:{name}"),
        sees=sees,
        package="numpy",
    )


def _against(name: str, unit: str, bounds: tuple[float, float], title: str, how: str) -> MetricSpec:
    worst = name.endswith("_worst_frame")
    return MetricSpec(
        name=name,
        unit=unit,
        direction="higher",
        kind=Kind.DISTANCE,
        needs="reference",
        version="1",
        range=bounds,
        summary=f"{title} against the baseline's video, {'worst frame' if worst else 'mean'}",
        how=f"{how}; {'the worst frame' if worst else 'mean over frames'}",
        compute=lazy(f"pytest_vdb.metrics.full_reference:{name}"),
        sees=ALL_FAULTS,
        package="torchmetrics",
    )


_PSNR = "10 log10(255^2 / MSE) of each RGB frame in dB, at most 100 dB (identical frames)"
_SSIM = (
    "SSIM of each RGB frame: 11x11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03, range 255, "
    "mean of the whole reflect-padded map"
)
_MS_SSIM = (
    "MS-SSIM of each RGB frame: five scales, SSIM's window, negative terms set to 0; "
    "defined from 176x176 px"
)

BUILTIN: tuple[MetricSpec, ...] = (
    _alone(
        "temporal_flickering",
        "score",
        1.0,
        "how little adjacent frames differ (VBench); a frozen video scores 1",
        "(255 - mean absolute difference of adjacent RGB frames) / 255, as VBench defines it",
        ("noise", "shuffled"),
    ),
    _alone(
        "motion_energy",
        "fraction",
        1.0,
        "how much adjacent frames differ: the floor beside any consistency metric",
        "mean absolute difference of the BT.601 luma of adjacent frames, in parts of 255",
        ("black", "frozen", "dropped_frames"),
    ),
    _alone(
        "sharpness",
        "grey levels^2",
        1020.0**2,
        "variance of the Laplacian of the luma",
        "variance of the 4-neighbour Laplacian of the BT.601 luma (0-255) over a frame's interior, "
        "mean over frames",
        ("black", "blur", "half_resolution"),
    ),
    _against("psnr", "dB", (0.0, 100.0), "PSNR", _PSNR),
    _against("psnr_worst_frame", "dB", (0.0, 100.0), "PSNR", _PSNR),
    _against("ssim", "score", (-1.0, 1.0), "SSIM", _SSIM),
    _against("ssim_worst_frame", "score", (-1.0, 1.0), "SSIM", _SSIM),
    _against("ms_ssim", "score", (0.0, 1.0), "MS-SSIM", _MS_SSIM),
    _against("ms_ssim_worst_frame", "score", (0.0, 1.0), "MS-SSIM", _MS_SSIM),
    MetricSpec(
        name="latent_cosine",
        unit="distance",
        direction="lower",
        kind=Kind.DISTANCE,
        needs="latent",
        version="1",
        range=(0.0, 2.0),
        summary="cosine distance of the pre-VAE latent from the baseline's",
        how="1 - cos of the pre-VAE latents in float64, both rounded to fp16 first",
        compute=lazy("pytest_vdb.metrics.latent:latent_cosine"),
        sees=("frozen", "noise", "shuffled", "blur", "half_resolution", "dropped_frames"),
        package="numpy",
    ),
)
