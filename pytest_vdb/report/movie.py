"""A preview for the page: candidate, baseline and their difference beside each other in one WebM.

One file holds all three panels, so that no player can show two of them at different frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from pytest_vdb.records import Json

LARGEST = 640
"""Pixels of a panel's longer side at most."""
SMALLEST = 128
"""A panel whose longer side has fewer pixels is enlarged by a whole factor: VP9 halves colour."""
FPS = 8.0
"""Of a video that does not say its rate."""
ENCODER = {
    # libvpx at its quickest; "crf" with a bit rate of 0 is constant quality, of 0 (best) to 63
    "deadline": "realtime",
    "cpu-used": "8",
    "row-mt": "1",
    "crf": "20",
    "b": "0",
    # a frame that a viewer jumps to is decoded from the key frame before it
    "g": "12",
}
SHOWN_DIFFERENCE = np.sqrt(np.arange(256) * 255).round().astype(np.uint8)
"""A difference of grey levels as it is shown: by its square root, so that 1 of 255 is seen."""


@dataclass(frozen=True)
class Movie:
    """What was written. ``size`` is (width, height) of one of its ``panels``, which lie in a row.

    ``frames`` counts those of each side; ``distances`` are mean absolute differences of grey levels
    (0 to 255) by frame, over the frames that both sides have, at ``compared`` (width, height).
    """

    panels: int
    size: tuple[int, int]
    fps: float
    frames: tuple[int, int]
    distances: tuple[float, ...] = ()
    compared: tuple[int, int] | None = None

    def to_json(self) -> dict[str, Json]:
        return {**self.__dict__}


def write(
    path: Path, ours: Iterable[np.ndarray], theirs: Iterable[np.ndarray] | None, fps: float | None
) -> Movie:
    """Write a VP9 WebM of both sides' frames, uint8 RGB (H, W, 3), at ``fps`` (default `FPS`).

    Without ``theirs`` it has one panel. Where one side is shorter its panel is black at the end.
    Where they differ in size, they are compared at that of the smaller one. Frames are read one at
    a time. Raises OSError and av.FFmpegError.
    """
    rate = Fraction(fps or FPS).limit_denominator(1000)
    stage = _Stage()
    with av.open(str(path), "w", format="webm") as container:
        stream: Any = None
        for picture in stage.pictures(ours, theirs):
            if stream is None:
                stream = container.add_stream("libvpx-vp9", rate=rate, options=ENCODER)
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuv420p"
                # what the conversion below makes, said so that no player has to guess
                stream.codec_context.colorspace = 6  # SMPTE 170M
                stream.codec_context.color_range = 1  # limited
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        if stream is not None:
            container.mux(stream.encode())
    return Movie(
        3 if theirs is not None else 1,
        stage.size,
        float(rate),
        (stage.ours, stage.theirs),
        tuple(stage.distances),
        stage.compared,
    )


class _Stage:
    """Lays the panels out, and keeps what is learnt on the way."""

    def __init__(self) -> None:
        self.size = (0, 0)
        self.ours = self.theirs = 0
        self.distances: list[float] = []
        self.compared: tuple[int, int] | None = None

    def pictures(
        self, ours: Iterable[np.ndarray], theirs: Iterable[np.ndarray] | None
    ) -> Iterator[np.ndarray]:
        for mine, other in zip_longest(ours, theirs if theirs is not None else ()):
            self.ours += mine is not None
            self.theirs += other is not None
            if not any(self.size):
                self.size = panel_size(*(mine if mine is not None else other).shape[:2])
            panels = [mine] if theirs is None else [mine, other, self._difference(mine, other)]
            yield np.concatenate([self._panel(one) for one in panels], axis=1)

    def _difference(self, mine: np.ndarray | None, other: np.ndarray | None) -> np.ndarray | None:
        if mine is None or other is None:
            return None
        small = min((mine.shape[:2], other.shape[:2]), key=lambda shape: shape[0] * shape[1])
        self.compared = (small[1], small[0])
        a, b = (resized(frame, self.compared) for frame in (mine, other))
        difference = np.where(a > b, a - b, b - a)  # uint8, without a wrap
        self.distances.append(round(float(difference.mean()), 4))
        return SHOWN_DIFFERENCE[difference]

    def _panel(self, frame: np.ndarray | None) -> np.ndarray:
        if frame is None:
            return np.zeros((self.size[1], self.size[0], 3), np.uint8)
        return resized(frame, self.size)


def panel_size(height: int, width: int) -> tuple[int, int]:
    """(width, height) of a panel: even, within `LARGEST`, enlarged by a whole factor if tiny."""
    longer = max(height, width)
    scale = LARGEST / longer if longer > LARGEST else max(1, SMALLEST // longer)
    width, height = (max(2, 2 * round(side * scale / 2)) for side in (width, height))
    return width, height


def resized(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``frame`` at (width, height): pixels stay pixels where it grows."""
    if (frame.shape[1], frame.shape[0]) == size:
        return np.asarray(frame)
    grows = size[0] >= frame.shape[1] and size[1] >= frame.shape[0]
    how = Image.Resampling.NEAREST if grows else Image.Resampling.BOX
    return np.asarray(Image.fromarray(np.ascontiguousarray(frame)).resize(size, how))
