"""Every fault that a metric claims to see ranks below the intact video, on every clip; and the
tables of known-bad.md have every metric and bold what it claims."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from pytest_vdb.metrics import faults, sanity
from pytest_vdb.metrics.catalog.routing import ROUTING
from pytest_vdb.metrics.listing import available
from pytest_vdb.metrics.registry import Metrics, evaluate
from pytest_vdb.metrics.video import Audio
from pytest_vdb.scenes import read, scenes

METRICS = Metrics()
# Networks and vmaf take seconds a clip: their families have tests of their own.
QUICK = [m for m in METRICS if not m.networks and m.package != "imageio-ffmpeg"]
CLAIMS = [
    (m.name, fault)
    for m in QUICK
    if m.needs in ("frames", "reference", "latent")
    for fault in m.sees
]
PAGE = Path(__file__).parents[2] / "docs" / "metrics" / "known-bad.md"
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


@pytest.fixture(scope="session")
def made(clip):
    """``made(fault, count)``: the first frames with a fault. ``made(metric, count)``: the badness
    of the intact ones. Each once a clip, since many tests need it."""

    @cache
    def make(what, count=None):
        if what in faults.FAULTS:
            return faults.FAULTS[what](clip[:count])
        return badness(METRICS.find(what), clip[:count], clip[:count])

    return make


@pytest.mark.parametrize(("name", "fault"), CLAIMS, ids=lambda v: v)
def test_a_claimed_fault_is_worse_than_the_intact_video(clip, made, name, fault):
    spec = METRICS.find(name)
    count = 4 if spec.needs == "reference" else None  # SSIM is the slow one
    assert badness(spec, made(fault, count), clip[:count]) > made(name, count)


@pytest.mark.parametrize(("name", "fault"), PROMPT_CLAIMS, ids=lambda v: v)
def test_a_claimed_fault_is_worse_for_its_prompt(render, name, fault):
    rng = np.random.Generator(np.random.PCG64(6))
    every = [scene.caption() for scene in scenes()]
    asked = [scene for scene in scenes()[::23] if scene.background != "black"]
    for scene in asked:  # a black video is a black background
        clip, text = render(scene, rng), scene.caption()
        wrong = faults.wrong_prompt(text, every)
        damaged, said = clip, text
        if fault == "wrong_prompt":
            said = wrong
        elif fault == "spliced":
            damaged = faults.spliced(clip, render(read(wrong), rng))
        else:
            damaged = faults.FAULTS[fault](clip)
        pair = ((damaged, said), (clip, text))
        worse, intact = (evaluate(METRICS.find(name), v, prompt=p) for v, p in pair)
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
    routers = {"collapsed_router", "dead_router"}
    known = {*faults.FAULTS, *faults.AUDIO_FAULTS, "wrong_prompt"}
    assert {fault for spec in METRICS for fault in spec.sees} <= known
    assert {fault for spec in ROUTING for fault in spec.sees} <= routers
    assert {fault for _, fault in CLAIMS + PROMPT_CLAIMS} == {*faults.FAULTS, "wrong_prompt"}


def page_rows() -> Iterator[tuple[str, dict[str, str]]]:
    """Metric, and its cells by fault, of every row of the tables."""
    head: list[str] = []
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    for line in (one for one in lines if one.startswith("|")):
        first, *rest = (cell.strip() for cell in line.strip("|").split("|"))
        if first == "metric":
            head = [cell.replace(" ", "_") for cell in rest[1:]]
        elif first.startswith("`") and head:
            yield first.strip("`"), dict(zip(head, rest[1:], strict=True))


def test_every_metric_has_a_row_whose_bold_cells_are_its_claims():
    rows = dict(page_rows())
    assert len(rows) == len(list(page_rows())), "a metric has two rows"
    here = {m.name for m in METRICS if available(m)[0] == "available"} | {m.name for m in ROUTING}
    assert here <= set(rows), f"no row: {sorted(here - set(rows))}; run tools/metric_faults.py"
    for spec in (*METRICS, *ROUTING):
        cells = rows.get(spec.name, {})
        bold = {fault for fault, cell in cells.items() if cell.startswith("**")}
        assert bold == set(spec.sees), f"{spec.name}: run tools/metric_faults.py --marks"
        unseen = [fault for fault in bold if not float(cells[fault].strip("*")) >= 95]
        assert not unseen, f"{spec.name} claims {unseen}, and sees them on less than 95 %"


@pytest.mark.parametrize("fault", faults.FAULTS)
def test_a_fault_keeps_shape_and_type_and_changes_the_video(clip, fault):
    damaged = faults.FAULTS[fault](clip)
    assert damaged.shape == clip.shape
    assert damaged.dtype == np.uint8
    assert not np.array_equal(damaged, clip)
    assert np.array_equal(damaged, faults.FAULTS[fault](clip))


def test_a_splice_is_a_cut_to_the_other_scene(clip):
    other = 255 - clip
    cut = faults.spliced(clip, other)
    half = len(clip) // 2
    assert np.array_equal(cut[:half], clip[:half])
    assert np.array_equal(cut[half:], other[half:])
    with pytest.raises(ValueError, match="spliced: a scene of shape"):
        faults.spliced(clip, other[1:])


@pytest.mark.parametrize("fault", faults.AUDIO_FAULTS)
def test_a_fault_of_sound_keeps_shape_and_type_and_changes_the_sound(fault):
    noise = np.random.Generator(np.random.PCG64(7)).normal(scale=0.1, size=(2, 4000))
    audio = Audio(noise.astype(np.float32), 8000)
    damaged = faults.AUDIO_FAULTS[fault](audio)
    assert (damaged.rate, damaged.samples.shape) == (8000, (2, 4000))
    assert damaged.samples.dtype == np.float32
    assert not np.array_equal(damaged.samples, audio.samples)
    assert np.array_equal(damaged.samples, faults.AUDIO_FAULTS[fault](audio).samples)


def test_noise_in_the_sound_is_as_loud_as_it_says():
    audio = Audio(np.full((1, 40000), 0.1, np.float32), 8000)
    added = faults.noisy_audio(audio, decibels=20).samples - audio.samples
    assert added.std() == pytest.approx(0.01, rel=0.02)


def test_the_wrong_prompt_shares_the_fewest_words():
    others = ["a red ball rolls", "A red box falls", "the sea", "the sky"]
    assert faults.wrong_prompt("a red box falls", others) == "the sea"


def test_sanity_passes_the_clip_and_catches_black_and_frozen(clip):
    assert sanity.check(clip, expected={"num_frames": len(clip)}) == ()
    for fault in ("black", "frozen"):
        found = sanity.check(faults.FAULTS[fault](clip), expected={})
        assert fault in [f.name for f in found]
