"""Every fault that a metric claims to see ranks below the intact video, on every clip."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_vdb.metrics import faults, sanity
from pytest_vdb.metrics.registry import Metrics, evaluate
from pytest_vdb.scenes import scenes

METRICS = Metrics()
# Networks and vmaf take seconds a clip: their families have tests of their own.
QUICK = [m for m in METRICS if not m.networks and m.package != "imageio-ffmpeg"]
CLAIMS = [
    (m.name, fault)
    for m in QUICK
    if m.needs in ("frames", "reference", "latent")
    for fault in m.sees
]
PROMPT_CLAIMS = [(m.name, fault) for m in METRICS if m.needs == "prompt" for fault in m.sees]


def as_latent(frames):
    """Centred means of 8×8 pixels: a latent that follows the picture, (T, H/8, W/8, 3)."""
    t, h, w, _ = frames.shape
    blocks = frames[:, : h // 8 * 8, : w // 8 * 8].reshape(t, h // 8, 8, w // 8, 8, 3)
    return blocks.mean((2, 4)) / 127.5 - 1


def value(spec, frames, intact):
    if spec.name.startswith("ms_ssim") and min(intact.shape[1:3]) < 176:
        pytest.skip("MS-SSIM is not defined below 176 px")
    return evaluate(
        spec,
        frames,
        reference=intact,
        latent=as_latent(frames),
        reference_latent=as_latent(intact).astype(np.float16),
    )


def badness(spec, frames, intact):
    sign = -1 if spec.direction == "higher" else 1
    return sign * value(spec, frames, intact)


@pytest.mark.parametrize(("name", "fault"), CLAIMS, ids=lambda v: v)
def test_a_claimed_fault_is_worse_than_the_intact_video(clip, name, fault):
    spec = METRICS.find(name)
    clip = clip[:4] if spec.needs == "reference" else clip  # SSIM is the slow one
    damaged = faults.FAULTS[fault](clip)
    assert badness(spec, damaged, clip) > badness(spec, clip, clip)


@pytest.mark.parametrize(("name", "fault"), PROMPT_CLAIMS, ids=lambda v: v)
def test_a_claimed_fault_is_worse_for_its_prompt(render, name, fault):
    rng = np.random.Generator(np.random.PCG64(6))
    asked = [scene for scene in scenes()[::23] if scene.background != "black"]
    for scene in asked:  # a black video is a black background
        clip, text = render(scene, rng), scene.caption()
        damaged = faults.FAULTS[fault](clip)
        worse, intact = (evaluate(METRICS.find(name), v, prompt=text) for v in (damaged, clip))
        assert worse < intact


@pytest.mark.parametrize("name", ["psnr", "ssim", "ms_ssim"])
@pytest.mark.parametrize(
    ("fault", "levels"),
    [(faults.noise, (3, 6, 12)), (faults.blur, (0.7, 1.5, 3)), (faults.colour_shift, (0.1, 0.2))],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_more_of_a_fault_is_worse(clip, name, fault, levels):
    spec, clip = METRICS.find(name), clip[:2]
    ranks = [badness(spec, fault(clip, level), clip) for level in levels]
    assert ranks == sorted(set(ranks))


def test_more_blur_and_more_noise_move_the_metrics_that_claim_them(clip):
    sharp = [badness(METRICS.find("sharpness"), faults.blur(clip, s), clip) for s in (0.7, 1.5, 3)]
    calm = [
        badness(METRICS.find("temporal_flickering"), faults.noise(clip, s), clip)
        for s in (3, 6, 12, 24)
    ]
    assert sharp == sorted(set(sharp))
    assert calm == sorted(set(calm))


def test_every_claim_names_a_fault_that_exists():
    assert {fault for _, fault in CLAIMS + PROMPT_CLAIMS} == set(faults.FAULTS)


@pytest.mark.parametrize("fault", faults.FAULTS)
def test_a_fault_keeps_shape_and_type_and_changes_the_video(clip, fault):
    damaged = faults.FAULTS[fault](clip)
    assert damaged.shape == clip.shape
    assert damaged.dtype == np.uint8
    assert not np.array_equal(damaged, clip)
    assert np.array_equal(damaged, faults.FAULTS[fault](clip))


def test_sanity_passes_the_clip_and_catches_black_and_frozen(clip):
    assert sanity.check(clip, expected={"num_frames": len(clip)}) == ()
    for fault in ("black", "frozen"):
        found = sanity.check(faults.FAULTS[fault](clip), expected={})
        assert fault in [f.name for f in found]
