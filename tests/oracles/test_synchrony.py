"""The lag between sound and picture, on claps whose lag is known and on sound that has none."""

from __future__ import annotations

from itertools import pairwise

import av
import numpy as np
import pytest

from pytest_vdb.errors import Unmeasured
from pytest_vdb.metrics import synchrony
from pytest_vdb.metrics.catalog.audio import METRICS
from pytest_vdb.metrics.engine import Extractor
from pytest_vdb.metrics.faults import shifted_audio
from pytest_vdb.metrics.registry import evaluate
from pytest_vdb.metrics.video import Audio, Video

SPECS = {spec.name: spec for spec in METRICS}
RATE = 16000


def random(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


def claps(offset=0.0, fps=25, rate=RATE, fade=0.6, count=60, when=(7, 21, 34, 49)):
    """A light that flashes at frames ``when`` and fades, and a click ``offset`` ms later."""
    light, samples = np.zeros(count), random().normal(size=round(count / fps * rate)) * 1e-4
    length = round(0.06 * rate)
    click = random(1).normal(size=length) * np.exp(-np.arange(length) / (0.01 * rate)) / 2
    for frame in when:
        light[frame:] = np.maximum(light[frame:], fade ** np.arange(count - frame))
        at = round((frame / fps + offset / 1000) * rate)
        samples[at : at + length] += click
    frames = np.ones((1, 16, 16, 3)) * (40 + 200 * light)[:, None, None, None]
    return Video(
        frames.round().astype(np.uint8), fps=fps, audio=Audio(samples[None].astype("f4"), rate)
    )


def lag(video):
    return synchrony.av_sync(np.stack(list(video.frames())), video.fps, video.audio).lag


@pytest.mark.parametrize("offset", [-120, -40, 0, 40, 200])
@pytest.mark.parametrize(("fps", "rate"), [(25, 44100), (24, 16000), (16, 48000)])
def test_the_lag_of_a_clap_is_found(offset, fps, rate):
    video = claps(offset, fps, rate)
    assert lag(video) == pytest.approx(offset, abs=5.001)  # the resolution
    assert evaluate(SPECS["av_sync"], video) == pytest.approx(abs(offset), abs=5.001)
    assert evaluate(SPECS["av_sync_peak"], video) > 0.8


def test_offsets_within_a_frame_are_told_apart():
    assert lag(claps(10)) - lag(claps(0)) == pytest.approx(10, abs=1e-9)
    assert lag(claps(25)) - lag(claps(0)) == pytest.approx(25, abs=1e-9)


def test_late_sound_is_worse_than_the_intact():
    intact = claps()
    late = Video(np.stack(list(intact.frames())), fps=intact.fps, audio=shifted_audio(intact.audio))
    assert evaluate(SPECS["av_sync"], intact) <= 5
    assert evaluate(SPECS["av_sync"], late) == pytest.approx(200, abs=5)


def test_a_flash_of_one_frame_is_half_a_frame_later():
    assert lag(claps(fade=0)) == pytest.approx(-20, abs=5.001)


def test_a_real_file_is_measured_as_its_frames_and_sound_are(tmp_path):
    video, path = claps(80, rate=48000), tmp_path / "clip.mp4"
    with av.open(str(path), "w") as file:
        pictures = file.add_stream("libx264", rate=25)
        pictures.height, pictures.width, pictures.pix_fmt = 16, 16, "yuv420p"
        track = file.add_stream("aac", rate=48000, layout="mono")
        for frame in video.frames():
            file.mux(pictures.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(pictures.encode())
        for at in range(0, video.audio.samples.shape[1], 1024):
            part = np.ascontiguousarray(video.audio.samples[:, at : at + 1024])
            piece = av.AudioFrame.from_ndarray(part, "fltp", "mono")
            piece.sample_rate, piece.pts = 48000, at
            file.mux(track.encode(piece))
        file.mux(track.encode())
    spec = SPECS["av_sync"]
    assert evaluate(spec, Video(path)) == pytest.approx(80, abs=10)
    batches = [evaluate(spec, Video(path), extractor=Extractor(batch=b)) for b in (1, 7)]
    assert batches[0] == batches[1] == evaluate(spec, Video(path))


def test_onsets_are_the_spectral_flux():
    audio = Audio(claps(rate=11025).audio.samples * [[1], [0.3]], 11025)
    rows, width = synchrony.onset_strength(audio), round(0.02 * 11025)
    n = np.arange(width)
    fourier = np.exp(-2j * np.pi * np.outer(np.arange(width // 2 + 1), n) / width)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * n / (width - 1))
    edges = sorted({round(2 * (width // 2 / 2) ** (k / 32)) for k in range(33)})
    levels = []
    for row in range(3, len(rows)):
        end = round((row + 1) * 0.005 * 11025)
        power = sum(np.abs(fourier @ (c[end - width : end] * hann)) ** 2 for c in audio.samples)
        spans = zip(edges, [*edges[1:], None], strict=True)
        levels.append([power[low:high].sum() for low, high in spans])
    decibels = np.maximum(10 * np.log10(np.array(levels) / np.max(levels)), -60)
    flux = [np.clip(b - a, 0, None).mean() for a, b in pairwise(decibels)]
    assert rows[4:, 0] == pytest.approx(flux, abs=1e-9)
    assert not rows[:4].any(), "the start of the track is no onset"


def test_the_peak_is_that_of_the_correlation():
    draw = random(3)
    difference = np.stack([draw.gamma(1, size=70) * 255, np.ones(70)], 1)
    onsets = draw.gamma(1, size=(580, 1)) * 3
    times, shown = (np.arange(580) + 0.5) * 0.005, np.arange(1, 71) / 25
    weights = np.clip(1 - np.abs(times[:, None] - times) * 25, 0, None)
    both = (times >= shown[0]) & (times <= shown[-1])
    picture = np.interp(times[both], shown, difference[:, 0] / 255)
    heard = (weights @ onsets[:, 0])[both]
    picture, heard = (x - x.mean() for x in (picture, heard))
    norm = np.sqrt((picture**2).sum() * (heard**2).sum())
    heights = {
        k: sum(p * heard[i + k] for i, p in enumerate(picture) if 0 <= i + k < len(heard)) / norm
        for k in range(-120, 121)
    }
    found, best = synchrony.synchrony(difference, onsets, 25), max(heights, key=heights.__getitem__)
    assert found.lag == pytest.approx(best * 5)
    assert found.peak == pytest.approx(heights[best], abs=1e-9)


def changed(video, **fields):
    whole = {"source": np.stack(list(video.frames())), "fps": video.fps, "audio": video.audio}
    return Video(**whole | fields)


def test_what_has_no_lag_is_unmeasured():
    video = claps()
    frames, mute = np.stack(list(video.frames())), np.zeros_like(video.audio.samples)
    tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(mute.shape[1]) / RATE)[None]
    for broken, match in (
        (changed(video, source=np.repeat(frames[:1], 60, 0)), "the video does not move"),
        (changed(video, source=frames[:1]), "2 frames"),
        (changed(video, audio=Audio(mute, RATE)), "silent or steady"),
        (changed(video, audio=Audio(tone, RATE)), "silent or steady"),
        (changed(video, audio=Audio(mute[:, :0], RATE)), "silent or steady"),
        (changed(video, audio=Audio(mute * np.nan, RATE)), "finite"),
        (changed(video, audio=Audio(video.audio.samples, 4000)), "8000 Hz or more"),
        (changed(video, audio=None), "has no audio"),
        (changed(video, fps=None), "give fps"),
        (changed(video, source=frames[:20]), "need 1.2 s"),
    ):
        for name in ("av_sync", "av_sync_peak"):
            with pytest.raises(Unmeasured, match=f"^av_sync.*{match}"):
                evaluate(SPECS[name], broken)


def test_sound_that_has_nothing_to_do_with_the_picture_has_no_lag():
    video = claps()
    noise = random(4).normal(size=video.audio.samples.shape)
    other = changed(video, audio=Audio(noise, RATE))
    assert evaluate(SPECS["av_sync_peak"], other) < 0.5
    with pytest.raises(Unmeasured, match="sound and picture do not go together"):
        evaluate(SPECS["av_sync"], other)
