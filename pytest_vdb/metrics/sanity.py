"""What nobody would accept of a video, whatever the metrics say. Thresholds: docs/metrics.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from pytest_vdb.records import FRAME_COUNTS, Json

VISIBLE = 10.0
"""Grey levels: at or below it a pixel is black. 0.3 % of white's light on an sRGB screen."""
STRUCTURE = 8.0
"""Grey levels between the darkest and brightest pixels of a frame that shows something."""
STRAY = 0.1
"""Per cent of pixels that may be anything at either end: hot pixels, ringing, a border."""
STILL_MEAN, STILL_BLOCK = 0.25, 4.0
"""Grey levels: mean absolute difference, and largest change of a 16×16 block's mean, up to which
two frames are the same picture. Lossy coding of a still stays below both."""
REFRESH_BLOCK, REFRESH_RATIO, REFRESH_SHARE = 12.0, 12.0, 0.4
"""A codec's key frame redraws a still picture: all of it changes a little (largest block change
up to 12 grey levels and 12 times the mean difference), in at most 40 % of the pairs."""
TAIL_SHARE, TAIL_PAIRS = 0.5, 4
"""A video whose last half stands still, for 4 pairs or more, is frozen too."""
BLOCK = 16  # px


@dataclass(frozen=True)
class Fault:
    """``name`` is for machines; ``message`` gives measured against expected."""

    name: str
    message: str

    def __str__(self) -> str:
        return f"{self.name}: {self.message}"


def check(
    frames: np.ndarray, *, nonfinite: int = 0, expected: Mapping[str, Json]
) -> tuple[Fault, ...]:
    """The faults of one video, none for a sane one.

    ``frames`` is uint8 (T, H, W, 3), RGB. ``nonfinite`` counts NaN and infinite values before
    quantisation. ``expected`` holds what the workload asks for: ``num_frames`` (or
    ``video_length``), ``height``, ``width``; a key that is absent or None is not checked. Names:
    ``nonfinite``, ``frames``, ``size``, ``black``, ``blank``, ``frozen``.
    """
    return tuple(_faults(frames, nonfinite, expected))


def _faults(frames: np.ndarray, nonfinite: int, expected: Mapping[str, Json]) -> Iterator[Fault]:
    if nonfinite:
        yield Fault("nonfinite", f"{nonfinite} values were NaN or infinite before quantisation")
    yield from _count(frames, expected)
    yield from _size(frames, expected)
    if frames.size:
        yield from _nothing_to_see(frames)
        yield from _no_motion(frames)


def _count(frames: np.ndarray, expected: Mapping[str, Json]) -> Iterator[Fault]:
    key = next((key for key in FRAME_COUNTS if expected.get(key) is not None), "")
    wanted = expected.get(key)
    if wanted is not None and len(frames) != wanted:
        yield Fault(
            "frames",
            f"the video has {len(frames)} frames where {key}={wanted} was asked for; "
            "where the pipeline rounds it, ask for a number that it keeps",
        )
    elif not len(frames):
        yield Fault("frames", "the video has no frames")


def _size(frames: np.ndarray, expected: Mapping[str, Json]) -> Iterator[Fault]:
    measured = dict(zip(("height", "width"), frames.shape[1:3], strict=True))
    wrong = [
        f"{side} {pixels} where {side}={expected[side]} was asked for"
        for side, pixels in measured.items()
        if expected.get(side) not in (None, pixels)
    ]
    if wrong:
        advice = "where the pipeline rounds it, ask for a size that it keeps"
        yield Fault("size", f"{', '.join(wrong)}; {advice}")


def _nothing_to_see(frames: np.ndarray) -> Iterator[Fault]:
    """``black`` or ``blank``; stops at the first frame that shows something."""
    brightest = widest = 0.0
    for frame in frames:
        low, high = np.percentile(frame, (STRAY, 100 - STRAY), axis=(0, 1))
        brightest = max(brightest, float(high.max()))
        widest = max(widest, float((high - low).max()))
        if widest > STRUCTURE and brightest > VISIBLE:
            return
    share = f"{100 - STRAY:g} % of the pixels of every frame"
    if brightest <= VISIBLE:
        yield Fault("black", f"{share} are at most {brightest:g} of 255; visible is {VISIBLE:g}")
    else:
        yield Fault(
            "blank",
            f"every frame is of one colour, within {widest:g} of 255; "
            f"a picture spans {STRUCTURE:g} and more",
        )


def _no_motion(frames: np.ndarray) -> Iterator[Fault]:
    """``frozen``: walks back from the end, and stops at the first motion."""
    pairs = len(frames) - 1
    still, largest = _still_tail(frames)
    if not pairs or (still < pairs and still < max(TAIL_PAIRS, TAIL_SHARE * pairs)):
        return
    which = f"the {pairs} adjacent differences are"
    if still < pairs:
        which = f"the last {still} of {pairs} adjacent differences are"
    yield Fault("frozen", f"{which} at most {largest:.2g} of 255: one still picture")


def _still_tail(frames: np.ndarray) -> tuple[int, float]:
    """Pairs in the longest motionless end, and the largest mean difference among them."""
    refreshes, still, seen, largest, result = 0, 0, 0, 0.0, 0.0
    after, after_blocks = frames[-1], _block_means(frames[-1])
    for before in frames[-2::-1]:
        blocks = _block_means(before)
        mean = float(np.abs(np.subtract(after, before, dtype=np.int16)).mean())
        block = float(np.abs(after_blocks - blocks).max())
        calm = mean <= STILL_MEAN and block <= STILL_BLOCK
        if not calm and block > min(REFRESH_BLOCK, REFRESH_RATIO * mean):
            break
        seen, refreshes, largest = seen + 1, refreshes + (not calm), max(largest, mean)
        if refreshes <= REFRESH_SHARE * seen:
            still, result = seen, largest
        after, after_blocks = before, blocks
    return still, result


def _block_means(frame: np.ndarray) -> np.ndarray:
    """(H, W, 3) → (⌊H/16⌋, ⌊W/16⌋, 3): means of blocks of 16 to 31 px a side that tile it."""
    sums: np.ndarray = frame.astype(np.int64)
    sides = []
    for axis in (0, 1):
        length = frame.shape[axis]
        count = max(1, length // BLOCK)
        starts = np.arange(count) * length // count
        sums = np.add.reduceat(sums, starts, axis=axis)
        sides.append(np.diff(np.append(starts, length)))
    areas: np.ndarray = sides[0][:, None] * sides[1]
    means: np.ndarray = sums / areas[..., None]
    return means
