"""Known-bad versions of a video: what a metric must rank below the intact one.

Every fault takes and gives uint8 (T, H, W, 3) RGB frames of the same shape, or, in AUDIO_FAULTS,
an Audio of the same shape, and is the same on every call. `wrong_prompt` is of the text instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pytest_vdb.metrics.video import Audio

Fault = Callable[[np.ndarray], np.ndarray]


def black(frames: np.ndarray) -> np.ndarray:
    """Nothing but zeros, as a NaN that was cast to uint8."""
    return np.zeros_like(frames)


def frozen(frames: np.ndarray) -> np.ndarray:
    """The first frame for the whole length."""
    return np.repeat(frames[:1], len(frames), axis=0)


def noise(frames: np.ndarray, sigma: float = 12.0) -> np.ndarray:
    """White Gaussian noise of ``sigma`` grey levels, new in every frame."""
    random = np.random.Generator(np.random.PCG64(0))
    return _uint8(frames + random.normal(0, sigma, frames.shape))


def shuffled(frames: np.ndarray) -> np.ndarray:
    """The same frames in another order: every second one, then the others backwards."""
    order = np.arange(len(frames))
    return np.take(frames, np.concatenate([order[1::2], order[0::2][::-1]]), axis=0)


def blur(frames: np.ndarray, sigma: float = 1.5) -> np.ndarray:
    """A spatial Gaussian of ``sigma`` pixels."""
    from scipy.ndimage import gaussian_filter

    return _uint8(gaussian_filter(frames.astype(np.float64), (0, sigma, sigma, 0)))


def colour_shift(frames: np.ndarray, gain: float = 0.15) -> np.ndarray:
    """Red raised and blue lowered by the share ``gain``."""
    return _uint8(frames * np.array([1 + gain, 1, 1 - gain]))


def half_resolution(frames: np.ndarray) -> np.ndarray:
    """Averaged over 2×2 pixels and brought back to size bilinearly."""
    from scipy.ndimage import zoom

    height, width = frames.shape[1:3]
    even = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    rows = even[:, 0::2].astype(np.float64) + even[:, 1::2]
    small = (rows[:, :, 0::2] + rows[:, :, 1::2]) / 4
    large = zoom(small, (1, 2, 2, 1), order=1, mode="nearest", grid_mode=True)
    return _uint8(large[:, :height, :width])


def dropped_frames(frames: np.ndarray, every: int = 3) -> np.ndarray:
    """Every ``every``-th frame is lost and the one before it is shown again."""
    index = np.arange(len(frames))
    return np.take(frames, np.where(index % every == every - 1, index - 1, index), axis=0)


def spliced(frames: np.ndarray, other: np.ndarray | None = None) -> np.ndarray:
    """A hard cut in the middle: from there on the frames of ``other``, another scene.

    ``other`` has the shape of ``frames``; by default it is the scene itself, upside down and with
    red and blue exchanged. Raises ValueError for another shape.
    """
    other = frames[:, ::-1, :, ::-1] if other is None else other
    if other.shape != frames.shape:
        raise ValueError(f"spliced: a scene of shape {other.shape} into one of {frames.shape}")
    half = len(frames) // 2
    return np.concatenate([frames[:half], other[half:]])


def wrong_prompt(prompt: str, others: Sequence[str]) -> str:
    """Of ``others``, the first that shares the fewest words with ``prompt``."""
    words = set(prompt.lower().split())
    return min(others, key=lambda other: len(words & set(other.lower().split())))


def shifted_audio(audio: Audio, seconds: float = 0.2) -> Audio:
    """The sound comes ``seconds`` late: silence before it, and its end is lost."""
    lead = min(round(seconds * audio.rate), audio.samples.shape[1])
    late = np.pad(audio.samples, ((0, 0), (lead, 0)))[:, : audio.samples.shape[1]]
    return replace(audio, samples=late)


def noisy_audio(audio: Audio, decibels: float = 20.0) -> Audio:
    """White Gaussian noise, ``decibels`` below the root mean square of the whole track."""
    random = np.random.Generator(np.random.PCG64(0))
    level = np.sqrt(np.mean(np.square(audio.samples, dtype=np.float64))) * 10 ** (-decibels / 20)
    noisy = audio.samples + level * random.normal(size=audio.samples.shape)
    return replace(audio, samples=np.clip(noisy, -1, 1).astype(audio.samples.dtype))


def silent_audio(audio: Audio) -> Audio:
    """No sound for the whole length."""
    return replace(audio, samples=np.zeros_like(audio.samples))


FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        black,
        frozen,
        noise,
        shuffled,
        blur,
        colour_shift,
        half_resolution,
        dropped_frames,
        spliced,
    )
}

AUDIO_FAULTS: dict[str, Callable[[Audio], Audio]] = {
    fault.__name__: fault for fault in (shifted_audio, noisy_audio, silent_audio)
}


def _uint8(values: np.ndarray) -> np.ndarray:
    whole: np.ndarray = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return whole
