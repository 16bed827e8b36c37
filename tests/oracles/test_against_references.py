"""Every metric against a hand-written float64 form, on patterns and on natural video."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import convolve, convolve1d

from pytest_vdb.errors import Unmeasured
from pytest_vdb.metrics import faults
from pytest_vdb.metrics.registry import Metrics, evaluate

METRICS = Metrics()
DAMAGES = (faults.noise, faults.blur, faults.colour_shift)
SMALL = 3  # frames: the oracles are slow


def value(name, frames, reference=None):
    return evaluate(METRICS.find(name), frames, reference=reference)


def luma(frames):
    return frames @ np.array([0.299, 0.587, 0.114])


def gaussian():
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    return taps / taps.sum()


def filtered(image):
    """11×11 Gaussian of sigma 1.5, mirrored at the border without repeating the edge pixel."""
    for axis in (0, 1):
        image = convolve1d(image, gaussian(), axis=axis, mode="mirror")
    return image


def ssim_maps(a, b):
    """(SSIM, contrast-structure) maps of two float64 (H, W, 3) images in 0 to 255."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_a, mean_b = filtered(a), filtered(b)
    var_a, var_b = filtered(a * a) - mean_a**2, filtered(b * b) - mean_b**2
    contrast = (2 * (filtered(a * b) - mean_a * mean_b) + c2) / (var_a + var_b + c2)
    return (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1) * contrast, contrast


def halved(image):
    height, width = (length // 2 * 2 for length in image.shape[:2])
    image = image[:height, :width]
    return (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) / 4


def oracle_ssim(a, b):
    return ssim_maps(a, b)[0].mean()


def oracle_ms_ssim(a, b):
    product = 1.0
    for beta in (0.0448, 0.2856, 0.3001, 0.2363):
        product *= max(0.0, ssim_maps(a, b)[1][5:-5, 5:-5].mean()) ** beta
        a, b = halved(a), halved(b)
    return product * max(0.0, oracle_ssim(a, b)) ** 0.1333


def oracle_psnr(a, b):
    return 10 * math.log10(255**2 / np.mean((a - b) ** 2))


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    ("name", "oracle", "tolerance"),
    # float32 convolutions in torchmetrics; PSNR is float64 but for the logarithm of 255
    [("psnr", oracle_psnr, 1e-4), ("ssim", oracle_ssim, 2e-5), ("ms_ssim", oracle_ms_ssim, 2e-5)],
)
def test_full_reference(clip, name, oracle, tolerance, damage):
    clip = clip[:SMALL]
    damaged = damage(clip)
    if name == "ms_ssim" and min(clip.shape[1:3]) < 176:
        with pytest.raises(Unmeasured, match="144×176 px are too small; it needs 176×176 px"):
            value(name, damaged, clip)
        return
    expected = [
        oracle(a, b) for a, b in zip(damaged.astype(float), clip.astype(float), strict=True)
    ]
    assert value(name, damaged, clip) == pytest.approx(np.mean(expected), abs=tolerance)
    assert value(f"{name}_worst_frame", damaged, clip) == pytest.approx(
        min(expected), abs=tolerance
    )


def test_odd_sizes_agree_too(clip):
    clip = np.ascontiguousarray(clip[:1, :141, :171])
    damaged = faults.noise(clip)
    assert value("ssim", damaged, clip) == pytest.approx(
        oracle_ssim(damaged[0].astype(float), clip[0].astype(float)), abs=2e-5
    )


def test_odd_sizes_agree_in_ms_ssim():
    clip = np.random.Generator(np.random.PCG64(2)).integers(0, 256, (1, 177, 183, 3), np.uint8)
    damaged = faults.blur(clip, 0.5)
    expected = oracle_ms_ssim(damaged[0].astype(float), clip[0].astype(float))
    assert value("ms_ssim", damaged, clip) == pytest.approx(expected, abs=2e-5)


def test_temporal_flickering(clip):
    differences = [
        np.abs(clip[t + 1].astype(float) - clip[t].astype(float)).mean()
        for t in range(len(clip) - 1)
    ]
    expected = (255 - np.mean(differences)) / 255
    assert value("temporal_flickering", clip) == pytest.approx(expected, abs=1e-12)


def test_motion_energy(clip):
    expected = np.abs(np.diff(luma(clip), axis=0)).mean() / 255
    assert value("motion_energy", clip) == pytest.approx(expected, abs=1e-12)


def test_sharpness(clip):
    kernel = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    inside = [convolve(luma(frame), kernel)[1:-1, 1:-1] for frame in clip]
    expected = np.mean([np.var(laplacian) for laplacian in inside])
    assert value("sharpness", clip) == pytest.approx(expected, rel=1e-9)


def test_latent_cosine():
    random = np.random.Generator(np.random.PCG64(1))
    latent = random.normal(size=(1, 16, 5, 8, 8)).astype(np.float32)
    other = latent + 0.05 * random.normal(size=latent.shape).astype(np.float32)
    a, b = (v.astype(np.float16).astype(np.float64).ravel() for v in (other, latent))
    expected = 1 - a @ b / math.sqrt((a @ a) * (b @ b))
    stored = latent.astype(np.float16)
    got = evaluate(METRICS.find("latent_cosine"), None, latent=other, reference_latent=stored)
    assert got == pytest.approx(expected, abs=1e-14)
    assert 1e-3 < got < 2e-3  # about sigma²/2
