"""How far the sound of a video is from its picture."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pytest_vdb.errors import Unmeasured
from pytest_vdb.metrics.no_reference import difference_rows
from pytest_vdb.metrics.video import Audio, Video

HOP = 0.005
"""Seconds between rows of `onset_strength`: the resolution of `av_sync`."""
WINDOW = 4  # hops of a short-time spectrum: 20 ms
BANDS, LOWEST = 32, 2  # spaced by logarithm, from the second bin: 100 Hz
FLOOR = 1e-6  # of the loudest band: -60 dB, below which nothing is heard beside it
ONSET_LEAST = 1.0  # dB, mean over bands: what rises less is a steady sound
MOTION_LEAST = 1e-4  # of full scale: 0.03 grey levels
UNEVEN_MOST = 0.01
"""Seconds: more than the whole milliseconds of Matroska, and a quarter of what `av_sync` gates."""
LAG_MOST = 0.6  # s, both ways: the ±15 frames at 25 fps of SyncNet (Chung, Zisserman 2016)
CHANCE = 4.0
"""Over the root of the number of frame pairs: what a peak must exceed to say where it is."""


class Synchrony(NamedTuple):
    """``lag``: ms by which the sound follows the picture, negative where it comes first.
    ``peak``: height of the correlation there, in [-1, 1]."""

    lag: float
    peak: float


def av_sync(frames: np.ndarray, fps: float, audio: Audio) -> Synchrony:
    """How far the sound is from the picture.

    The lag at the peak of the cross-correlation of motion energy (mean absolute difference of
    adjacent frames, at the time when the second of them appears) and `onset_strength`, both spread
    linearly over a frame to each side, zero-mean and of unit norm over the time that both last.
    Lags are multiples of 5 ms up to ±600 ms. An event that falls between two frames is seen at the
    later one, so the picture is up to a frame late by itself; a flash of a single frame is two
    changes, and counts as half a frame later.

    ``frames``: uint8 (T, H, W, 3). Raises Unmeasured for a video that does not move or a sound
    without onset, and where they last less than 1.2 s together.
    """
    return synchrony(difference_rows(frames), onset_strength(audio), fps)


def synchrony(difference: np.ndarray, onsets: np.ndarray, fps: float) -> Synchrony:
    """`av_sync` of `difference_rows`, (T − 1, 2), and `onset_strength`, (K, 1)."""
    from scipy.signal import correlate

    motion, strength = difference[:, 0] / (255 * difference[:, 1]), onsets[:, 0]
    if np.ptp(motion) < MOTION_LEAST:
        raise Unmeasured(
            "av_sync: the video does not move, or moves evenly: there is nothing to hear"
        )
    if not len(strength) or strength.max() < ONSET_LEAST:
        raise Unmeasured("av_sync: the audio is silent or steady: nothing in it begins")
    reach = round(1 / (fps * HOP))
    spread = np.maximum(0, 1 - np.abs(np.arange(-reach, reach + 1)) * HOP * fps)
    strength = np.convolve(strength, spread)[reach : reach + len(strength)]
    times = (np.arange(len(strength)) + 0.5) * HOP
    shown = np.arange(1, len(motion) + 1) / fps  # when the second frame of each pair appears
    both = (times >= shown[0]) & (times <= shown[-1])
    if both.sum() * HOP < 2 * LAG_MOST:
        raise Unmeasured(
            f"av_sync: motion and sound last {both.sum() * HOP:.3g} s together; lags of up to "
            f"{LAG_MOST * 1000:g} ms need {2 * LAG_MOST:g} s"
        )
    picture, sound = (_unit(x) for x in (np.interp(times[both], shown, motion), strength[both]))
    most = round(LAG_MOST / HOP)
    middle = len(picture) - 1
    heights = correlate(sound, picture)[middle - most : middle + most + 1]
    best = int(heights.argmax())
    return Synchrony((best - most) * HOP * 1000, float(heights[best]))


def onset_strength(audio: Audio) -> np.ndarray:
    """(K, 1): by how many dB the sound rises, every 5 ms; row k is of the time (k + ½)·5 ms.

    Spectral flux (Bello et al. 2005; the form of librosa's ``onset_strength``): power spectra of
    20 ms Hann windows that end at (k + 1)·5 ms, summed over channels and in 32 bands spaced by
    logarithm from 100 Hz on, in dB from 60 below the loudest; increase over the window before,
    decrease as 0, mean over bands. The start of the track is no onset. Rates from 8 kHz on.

    Raises Unmeasured for less, and for samples that are not finite or not (channels, N).
    """
    samples = np.asarray(audio.samples, dtype=np.float64)
    if samples.ndim != 2 or not np.isfinite(samples).all():
        raise Unmeasured(
            f"audio is finite numbers of shape (channels, N); this is {samples.shape}, finite: "
            f"{bool(np.isfinite(samples).all())}"
        )
    if audio.rate < 8000:
        raise Unmeasured(f"onsets need audio at 8000 Hz or more; this has {audio.rate}")
    count, width = int(samples.shape[1] / (HOP * audio.rate)), round(WINDOW * HOP * audio.rate)
    ends = np.round(np.arange(WINDOW, count + 1) * HOP * audio.rate).astype(int)
    strength = np.zeros((count, 1))
    if len(ends) < 2:
        return strength
    edges = np.unique(np.round(np.geomspace(LOWEST, width // 2, BANDS + 1)).astype(int))
    window = np.hanning(width)
    bands = np.array(
        [
            np.add.reduceat(
                (np.abs(np.fft.rfft(samples[:, end - width : end] * window)) ** 2).sum(0), edges
            )
            for end in ends
        ]
    )
    if bands.max() > 0:
        level = 10 * np.log10(np.maximum(bands / bands.max(), FLOOR))
        strength[WINDOW:, 0] = np.maximum(np.diff(level, axis=0), 0).mean(1)
    return strength


def rate_rows(video: Video) -> np.ndarray:
    """(1, 1): frames a second. Raises Unmeasured where the video does not say, or they vary."""
    if not video.fps:
        raise Unmeasured(f"{video.name} does not say how many frames a second it has; give fps")
    if video.unevenness > UNEVEN_MOST:
        raise Unmeasured(
            f"{video.name} has a variable frame rate: a frame is up to "
            f"{1000 * video.unevenness:.0f} ms off its turn at {video.fps:.4g} a second, so a lag "
            "in ms would be wrong; make the rate even: ffmpeg -i IN -fps_mode cfr OUT"
        )
    return np.array([[video.fps]])


def av_sync_of(difference: np.ndarray, onsets: np.ndarray, rate: np.ndarray) -> float:
    """The absolute lag of `synchrony`, in ms.

    Raises Unmeasured for a peak that chance makes too, 4/√(T − 1) or lower: the lag of sound that
    has nothing to do with the picture is an arbitrary number.
    """
    found, chance = (
        synchrony(difference, onsets, float(rate[0, 0])),
        CHANCE / len(difference) ** 0.5,
    )
    if found.peak <= chance:
        raise Unmeasured(
            f"av_sync: sound and picture do not go together: their correlation peaks at "
            f"{found.peak:.2f}, and chance makes up to {chance:.2f} of {len(difference)} pairs of "
            "frames; av_sync_peak is that height, and longer videos need less"
        )
    return abs(found.lag)


def av_sync_peak_of(difference: np.ndarray, onsets: np.ndarray, rate: np.ndarray) -> float:
    """The height of the peak of `synchrony`."""
    return synchrony(difference, onsets, float(rate[0, 0])).peak


def _unit(series: np.ndarray) -> np.ndarray:
    centred = series - series.mean()
    norm = np.linalg.norm(centred)
    if norm == 0:
        raise Unmeasured("av_sync: nothing moves or nothing sounds while both last")
    unit: np.ndarray = centred / norm
    return unit
