"""Clips: decoding a video file completely or not at all, and writing reference media.

Videos go through PyAV, animated pictures through Pillow. All frames are uint8 RGB (T, H, W, 3).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from PIL import Image

from pytest_vdb.errors import UnreadableClip
from pytest_vdb.models.sources import Output

# Written into a WebP's XMP field, because the encoder merges frames that are equal to the one
# before, and because the file itself holds whole milliseconds.
NOTE = "pytest-vdb frames={} fps={!r}"
NOTED = re.compile(rb"pytest-vdb frames=(\d+) fps=([0-9.e+-]+)")
QUALITY = 80  # of lossy WebP


def read_clip(path: Path | str) -> Output:
    """Decode mp4, webm, mkv, animated WebP or GIF: uint8 frames (T, H, W, 3), fps, no latent.

    The content decides the format, not the suffix. ``fps`` is the mean rate, or None where the
    file does not say. Pixels that are transparent are composited on black, with a warning.

    Raises UnreadableClip, naming the file, for one that is missing, empty, truncated or damaged:
    fewer frames than the file says are never given.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(16)
        if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
            frames, fps = _read_webp(path, head)
        elif head[:4] == b"GIF8":
            frames, fps = _read_gif(path)
        elif head:
            frames, fps = _read_video(path)
        else:
            raise _Damaged("the file is empty")
        if not frames:
            raise _Damaged("it has no frame")
        if len(shapes := {frame.shape for frame in frames}) > 1:
            raise _Damaged(f"its frames have different sizes: {sorted(shapes)}")
    except (_Damaged, OSError, EOFError, ValueError, SyntaxError, av.error.FFmpegError) as exc:
        raise UnreadableClip(f"{path} cannot be decoded: {exc or type(exc).__name__}") from exc
    if any(frame.shape[2] == 4 and frame[..., 3].min() < 255 for frame in frames):
        warnings.warn(f"{path} has transparent pixels: composited on black", stacklevel=2)
    return Output(np.stack([_on_black(frame) for frame in frames]), fps=fps)


def write_webp(
    path: Path | str, frames: np.ndarray, fps: float, lossless: bool, max_side: int | None = None
) -> None:
    """Write uint8 RGB ``frames`` (T, H, W, 3) as an animated WebP, whatever the suffix.

    Lossless: `read_clip` gives exactly the same frames and fps, also where frames repeat; the
    same frames make the same bytes with the same Pillow. Otherwise lossy at quality 80.
    ``max_side`` (pixels) shrinks the longer side to at most this, keeping the aspect ratio.
    """
    pictures = [Image.fromarray(frame) for frame in frames]
    if max_side is not None and max(pictures[0].size) > max_side:
        scale = max_side / max(pictures[0].size)
        width, height = (max(1, round(side * scale)) for side in pictures[0].size)
        pictures = [p.resize((width, height), Image.Resampling.LANCZOS) for p in pictures]
    pictures[0].save(
        path,
        "WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=max(1, round(1000 / fps)),
        lossless=lossless,
        quality=QUALITY,
        method=4,
        xmp=NOTE.format(len(pictures), float(fps)).encode(),
    )


class _Damaged(Exception):
    """What is wrong with a clip, without its name."""


def _read_webp(path: Path, head: bytes) -> tuple[list[np.ndarray], float | None]:
    said = int.from_bytes(head[4:8], "little") + 8
    if (size := path.stat().st_size) < said:
        raise _Damaged(f"truncated: {size} bytes of {said}")
    frames, durations, xmp = _read_pictures(path)
    note = NOTED.match(xmp)
    if not note:
        return frames, _rate(durations)
    count, fps = int(note[1]), float(note[2])
    # A single frame is stored without a time; equal frames in a row as one that lasts longer.
    duration = max(1, round(1000 / fps))
    repeats = [count] if len(frames) == 1 else [round(d / duration) for d in durations]
    if sum(repeats) != count:
        raise _Damaged(f"{sum(repeats)} frames, and it was written with {count}")
    return [f for f, times in zip(frames, repeats, strict=True) for _ in range(times)], fps


def _read_gif(path: Path) -> tuple[list[np.ndarray], float | None]:
    if not path.read_bytes().rstrip(b"\0").endswith(b";"):
        raise _Damaged("truncated: the end mark of a GIF is missing")
    frames, durations, _ = _read_pictures(path)
    return frames, _rate(durations)


def _read_pictures(path: Path) -> tuple[list[np.ndarray], list[float], bytes]:
    """RGB or RGBA frames, the milliseconds of each, and the XMP field of an animated picture."""
    frames, durations = [], []
    with Image.open(path) as picture:
        for index in range(getattr(picture, "n_frames", 1)):
            picture.seek(index)
            picture.load()  # a frame's duration is known only now
            durations.append(float(picture.info.get("duration") or 0))
            mode = "RGBA" if picture.has_transparency_data else "RGB"
            frames.append(np.asarray(picture.convert(mode)))
        xmp = picture.info.get("xmp") or b""
    if len({frame.shape[2] for frame in frames}) > 1:  # transparency in some frames alone
        frames = [_on_black(frame) for frame in frames]
    return frames, durations, xmp


def _rate(durations: list[float]) -> float | None:
    return 1000 * len(durations) / sum(durations) if sum(durations) > 0 else None


def _read_video(path: Path) -> tuple[list[np.ndarray], float | None]:
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise _Damaged("it has no video stream")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        frames = list(_decoded(container, stream))
        rate = float(stream.average_rate) if stream.average_rate else None
        if stream.frames and len(frames) != stream.frames:
            raise _Damaged(f"{len(frames)} frames, and the container says {stream.frames}")
        seconds = _seconds(container, stream)
        if not stream.frames and rate and seconds and len(frames) < seconds * rate - 1.5:
            raise _Damaged(
                f"truncated: {len(frames)} frames at {rate:.4g} fps, and the container says "
                f"{seconds:.4g} seconds"
            )
    return frames, rate


def _decoded(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream
) -> Iterator[np.ndarray]:
    for frame in container.decode(stream):
        if frame.is_corrupt:
            raise _Damaged(f"the frame at {frame.time} s is damaged")
        alpha = any(component.is_alpha for component in frame.format.components)
        yield frame.to_ndarray(format="rgba" if alpha else "rgb24")


def _seconds(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream
) -> float | None:
    """How long the video lasts by the container's own word, or None."""
    if said := stream.metadata.get("DURATION"):  # Matroska: 00:00:01.062000000
        hours, minutes, seconds = said.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.duration and len(container.streams) == 1:  # else another stream may be longer
        return container.duration / av.time_base
    return None


def _on_black(frame: np.ndarray) -> np.ndarray:
    """RGB of an RGB or RGBA frame: colour × alpha, rounded."""
    if frame.shape[2] == 3:
        return frame
    rgb, alpha = frame[..., :3].astype(np.uint16), frame[..., 3:].astype(np.uint16)
    return ((rgb * alpha + 127) // 255).astype(np.uint8)
