"""Exact values, caps and bounds of the package's metrics, and what they are not defined for."""

from __future__ import annotations

import time

import numpy as np
import pytest

from pytest_vdb.errors import Unmeasured
from pytest_vdb.metrics.registry import Metrics, evaluate

METRICS = Metrics()
RANDOM = np.random.Generator(np.random.PCG64(3))
VIDEO = RANDOM.integers(0, 256, (5, 24, 32, 3), np.uint8)


def value(name, frames, reference=None, **latents):
    return evaluate(METRICS.find(name), frames, reference=reference, **latents)


def flat(*levels, side=16):
    return np.stack([np.full((side, side, 3), level, np.uint8) for level in levels])


def test_flicker_and_motion_of_known_steps():
    video = flat(10, 61, 10)  # two steps of 51 = 255/5
    assert value("temporal_flickering", video) == pytest.approx(0.8, abs=1e-15)
    assert value("motion_energy", video) == pytest.approx(0.2, abs=1e-15)


def test_the_extremes_are_exact():
    assert value("temporal_flickering", flat(0, 255)) == 0.0
    assert value("motion_energy", flat(255, 0)) == 1.0
    assert value("temporal_flickering", flat(7, 7)) == 1.0
    assert value("motion_energy", flat(7, 7)) == 0.0


def test_motion_weighs_green_most():
    still = np.zeros((2, 4, 4, 3), np.uint8)
    moved = []
    for channel in range(3):
        video = still.copy()
        video[1, ..., channel] = 255
        moved.append(value("motion_energy", video))
    assert moved == pytest.approx([0.299, 0.587, 0.114], abs=1e-12)


@pytest.mark.parametrize("name", ["temporal_flickering", "motion_energy"])
def test_one_frame_has_no_motion_to_measure(name):
    with pytest.raises(Unmeasured, match="a video of one frame"):
        value(name, VIDEO[:1])


def test_sharpness_of_one_frame_and_of_a_checkerboard():
    board = (np.indices((8, 8)).sum(0) % 2 * 255).astype(np.uint8)
    video = np.repeat(board[None, ..., None], 3, axis=-1)
    assert value("sharpness", video) == pytest.approx(1020.0**2)  # ±4·255 everywhere
    assert value("sharpness", flat(90)) == 0.0
    with pytest.raises(Unmeasured, match="2×8 px"):
        value("sharpness", video[:, :2])


@pytest.mark.parametrize(("name", "best"), [("psnr", 100.0), ("ssim", 1.0), ("ms_ssim", 1.0)])
def test_identical_videos_have_exactly_the_best_value(name, best):
    video = RANDOM.integers(0, 256, (2, 176, 176, 3), np.uint8)
    video[1] = 255  # a flat frame, where float32 is worst
    assert value(name, video, video.copy()) == best
    assert value(f"{name}_worst_frame", video, video.copy()) == best


def test_psnr_of_one_grey_level_and_its_cap():
    assert value("psnr", flat(100), flat(101)) == pytest.approx(48.1308, abs=1e-4)
    large = np.zeros((1, 600, 600, 3), np.uint8)
    almost = large.copy()
    almost[0, 0, 0, 0] = 1  # 108 dB, above the cap
    assert value("psnr", almost, large) == 100.0


@pytest.mark.parametrize("name", ["psnr", "ssim"])
def test_one_bad_frame_shows_in_the_worst_frame(name):
    damaged = VIDEO.copy()
    damaged[3] = 0
    alone = value(name, damaged[3:4], VIDEO[3:4])
    best = value(name, VIDEO, VIDEO)
    assert value(f"{name}_worst_frame", damaged, VIDEO) == alone
    assert value(name, damaged, VIDEO) == pytest.approx((4 * best + alone) / 5)


@pytest.mark.parametrize("name", ["psnr", "ssim"])
def test_a_video_that_was_changed_in_place_is_measured_again(name):
    damaged = VIDEO.copy()
    before = value(name, damaged, VIDEO)
    damaged[2] = 0
    assert value(name, damaged, VIDEO) < before


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("ms_ssim", (175, 200), "175×200 px are too small; it needs 176×176 px"),
        ("ms_ssim_worst_frame", (200, 175), "200×175 px are too small; it needs 176×176 px"),
        ("ssim", (10, 64), "10×64 px are too small; it needs 11×11 px"),
    ],
)
def test_frames_below_the_window_are_unmeasured(name, size, message):
    video = np.zeros((1, *size, 3), np.uint8)
    with pytest.raises(Unmeasured, match=message):
        value(name, video, video)


def test_the_smallest_frames_are_measured():
    for name, side in (("ms_ssim", 176), ("ssim", 11)):
        video = RANDOM.integers(0, 256, (1, side, side, 3), np.uint8)
        assert 0 < value(name, video // 2, video) < 1


def distance(latent, reference):
    return value("latent_cosine", None, latent=latent, reference_latent=reference)


def test_latent_cosine_is_exactly_zero_for_the_stored_form_of_itself():
    for seed in range(20):
        latent = np.random.Generator(np.random.PCG64(seed)).normal(size=(1, 16, 5, 8, 8))
        latent = latent.astype(np.float32)
        assert distance(latent, latent.astype(np.float16)) == 0.0


def test_latent_cosine_of_known_angles():
    x, y = np.array([3.0, 0.0]), np.array([0.0, 5.0])
    assert distance(x, y) == pytest.approx(1.0)
    assert distance(x, -x) == pytest.approx(2.0)
    assert distance(x, np.array([2.0, 2.0])) == pytest.approx(1 - 0.5**0.5)


@pytest.mark.parametrize(
    ("latent", "message"),
    [
        (np.array([1.0, np.nan]), "1 of 2 values of the latent are NaN"),
        (np.array([1e5, 1.0]), "above 65504"),
        (np.zeros(2), "the latent is all zero"),
    ],
)
def test_a_latent_without_a_direction_is_unmeasured(latent, message):
    with pytest.raises(Unmeasured, match=message):
        distance(latent, np.ones(2))
    with pytest.raises(Unmeasured, match="the reference latent"):
        distance(np.ones(2), latent)


def test_metrics_of_the_video_alone_take_milliseconds():
    video = RANDOM.integers(0, 256, (17, 64, 64, 3), np.uint8)
    alone = [m for m in METRICS if m.needs == "frames" and not m.networks]
    best = min(_seconds(alone, video) for _ in range(5))
    assert best < 0.05


def _seconds(metrics, video):
    start = time.perf_counter()
    for metric in metrics:
        evaluate(metric, video)
    return time.perf_counter() - start
