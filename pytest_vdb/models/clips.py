"""Clips: decoding a video file completely or not at all, and writing reference media.

Videos go through PyAV, animated pictures through Pillow. All frames are uint8 RGB (H, W, 3).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, NamedTuple

import av
import numpy as np
from PIL import Image

from pytest_vdb.errors import UnreadableClip
from pytest_vdb.models import decoding, endings
from pytest_vdb.models.endings import Damaged
from pytest_vdb.models.sources import Output

# Written into a WebP's XMP field, because the encoder merges frames that are equal to the one
# before, and because the file itself holds whole milliseconds.
NOTE = "pytest-vdb frames={} fps={!r}"
NOTED = re.compile(rb"pytest-vdb frames=(\d+) fps=([0-9.e+-]+)")
QUALITY = 80  # of lossy WebP
AUDIO_SLACK = 0.1
"""Seconds by which a track may be shorter than its container says: codecs pad their last block."""


def read_clip(path: Path | str) -> Output:
    """Decode mp4, webm, mkv, animated WebP or GIF: uint8 frames (T, H, W, 3), fps, no latent.

    The same frames, rate and errors as `stream`, all frames at once.
    """
    clip = stream(path)
    return Output(np.stack(list(clip.frames)), fps=clip.fps)


def stream(path: Path | str) -> Stream:
    """The clip at ``path``, decoded as its frames are read. Opens nothing yet."""
    return Stream(Path(path))


@dataclass(frozen=True)
class Stream:
    """A clip that is decoded one frame at a time. The content decides the format, not the suffix.

    Memory does not grow with the length of a video. Of an animated WebP or GIF the encoded file
    is held, and one frame of it.
    """

    path: Path

    @property
    def fps(self) -> float | None:
        """The mean rate, also where it varies; None where the file does not say. From its headers.

        Raises UnreadableClip for a file without such headers.
        """
        return self._heads.fps

    @cached_property
    def unevenness(self) -> float:
        """Seconds by which a frame is shown at most before or after its turn at an even rate.

        Raises UnreadableClip. Of an animated picture it is not looked at: 0.
        """
        with _named(self.path):
            of_video = _format(self.path).heads is _video_heads
            return decoding.unevenness(self.path) if of_video else 0.0

    @property
    def count(self) -> int | None:
        """How many frames the headers say there are; None where they do not. Nothing is decoded.

        Raises UnreadableClip for a file without such headers.
        """
        return self._heads.frames

    @cached_property
    def _heads(self) -> _Heads:
        with _named(self.path):
            return _format(self.path).heads(self.path)

    @property
    def frames(self) -> Iterator[np.ndarray]:
        """Each frame, uint8 (H, W, 3), in order and as stored; every call begins anew.

        More than 8 bits are rounded to 8; a rotation that the metadata ask players for is not
        applied; frames of a variable rate come one by one, none repeated to fill the time. Pixels
        that are transparent are composited on black, with a warning.

        Raises UnreadableClip, naming the file, for one that is missing, empty, truncated or
        damaged, at the latest after the last frame that can be decoded: who reads to the end gets
        all the frames that the file says it has. Warns where it does not say, as in MPEG-TS.
        """
        with _named(self.path):
            shape = None
            for frame in _composited(self.path):
                if frame.shape != (shape := shape or frame.shape):
                    sizes = sorted({shape, frame.shape})
                    raise Damaged(f"its frames have different sizes: {sizes}")
                yield frame
            if shape is None:
                raise Damaged("it has no frame")


def read_audio(path: Path | str) -> tuple[np.ndarray, int] | None:
    """The first audio track, whole: float32 (channels, N) in [-1, 1], and its rate in Hz.

    None for a file without audio. Sample 0 sounds as the first frame is shown: a track that begins
    later has silence before it, and what sounds before the first frame is left out. Decoders of
    lossy codecs exceed 1 at peaks; those are clipped, as players do.

    Raises UnreadableClip, naming the file, for one that is missing, truncated or damaged, and for
    audio with gaps.
    """
    path = Path(path)
    with _named(path):
        if _format(path).heads is not _video_heads:
            return None  # animated pictures are mute
        with av.open(str(path)) as container:
            if not container.streams.audio:
                return None
            lead, samples = _sound(container, container.streams.audio[0])
            samples = np.pad(samples, ((0, 0), (max(0, lead), 0)))[:, max(0, -lead) :]
            if not samples.size:
                raise Damaged("its audio track has no samples")
            return samples.clip(-1, 1), int(container.streams.audio[0].rate)


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


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises into an error that names the file."""
    try:
        yield
    except (
        *(Damaged, OSError, EOFError, ValueError, SyntaxError),
        *(ArithmeticError, av.error.FFmpegError, Image.DecompressionBombError),
    ) as exc:
        raise UnreadableClip(f"{path} cannot be decoded: {exc or type(exc).__name__}") from exc


class _Heads(NamedTuple):
    frames: int | None
    fps: float | None


class _Format(NamedTuple):
    frames: Callable[[Path], Iterator[np.ndarray]]  # RGB or RGBA
    heads: Callable[[Path], _Heads]


def _format(path: Path) -> _Format:
    with path.open("rb") as file:
        head = file.read(12)
    if head[:4] == b"RIFF" and head[8:] == b"WEBP":
        return _Format(_webp_frames, _webp_heads)
    if head[:4] == b"GIF8":
        return _Format(_gif_frames, _gif_heads)
    if not head:
        raise Damaged("the file is empty")
    return _Format(_video_frames, _video_heads)


def _composited(path: Path) -> Iterator[np.ndarray]:
    said = False
    for frame in _format(path).frames(path):
        if not said and frame.shape[2] == 4 and frame[..., 3].min() < 255:
            said = True
            warnings.warn(f"{path} has transparent pixels: composited on black", stacklevel=4)
        yield _on_black(frame)


# ---------------------------------------------------------------------------- animated pictures


def _webp_frames(path: Path) -> Iterator[np.ndarray]:
    with path.open("rb") as file:
        said = int.from_bytes(file.read(8)[4:], "little") + 8
    if (size := path.stat().st_size) < said:
        raise Damaged(f"truncated: {size} bytes of {said}")
    with Image.open(path) as picture:
        note = NOTED.match(picture.info.get("xmp") or b"")
        if not note:
            yield from (frame for frame, _ in _pictures(picture))
            return
        yield from _noted(picture, int(note[1]), float(note[2]))


def _noted(picture: Image.Image, count: int, fps: float) -> Iterator[np.ndarray]:
    """The ``count`` frames that were written at ``fps``.

    A single frame is stored without a time; equal frames in a row as one that lasts longer.
    """
    shown, duration = 0, max(1, round(1000 / fps))
    alone = getattr(picture, "n_frames", 1) == 1
    for frame, lasts in _pictures(picture):
        times = count if alone else round(lasts / duration)
        shown += times
        if shown > count:
            break
        yield from (frame for _ in range(times))
    if shown != count:
        raise Damaged(f"{shown} frames, and it was written with {count}")


def _pictures(picture: Image.Image) -> Iterator[tuple[np.ndarray, float]]:
    """Each RGB or RGBA frame of an animated picture and its milliseconds."""
    for index in range(getattr(picture, "n_frames", 1)):
        picture.seek(index)
        picture.load()  # a frame's duration is known only now
        mode = "RGBA" if picture.has_transparency_data else "RGB"
        yield np.asarray(picture.convert(mode)), float(picture.info.get("duration") or 0)


def _gif_frames(path: Path) -> Iterator[np.ndarray]:
    if not path.read_bytes().rstrip(b"\0").endswith(b";"):
        raise Damaged("truncated: the end mark of a GIF is missing")
    with Image.open(path) as picture:
        yield from (frame for frame, _ in _pictures(picture))


def _webp_heads(path: Path) -> _Heads:
    """From the heads of its chunks (WebP Container Specification)."""
    durations, xmp = [], b""
    with path.open("rb") as file:
        at = 12
        while file.seek(at) and len(head := file.read(8)) == 8:
            size = int.from_bytes(head[4:], "little")
            if head[:4] == b"ANMF":
                durations.append(int.from_bytes(file.read(15)[12:], "little"))
            elif head[:4] == b"XMP ":
                xmp = file.read(min(size, 100))
            at += 8 + size + size % 2
    note = NOTED.match(xmp)
    if note:
        return _Heads(int(note[1]), float(note[2]))
    return _Heads(len(durations) or 1, _rate(durations))  # a still has no such chunk


def _gif_heads(path: Path) -> _Heads:
    """From the heads of its blocks (GIF89a): each image, and the delay that was given before it."""
    durations, delay = [], 0
    with path.open("rb") as file:
        _skip_palette(file, file.read(13)[10:])
        while (mark := file.read(1)) in (b"!", b","):
            if mark == b",":
                durations.append(delay)
                delay = 0
                _skip_palette(file, file.read(9)[8:])
                file.read(1)  # the size of the codes
            elif file.read(1) == b"\xf9":  # graphic control
                delay = 10 * int.from_bytes(file.read(5)[2:4], "little")
            while (length := file.read(1)) > b"\0":
                file.seek(length[0], 1)
    return _Heads(len(durations), _rate(durations))


def _skip_palette(file: BinaryIO, flags: bytes) -> None:
    if flags and flags[0] & 0x80:
        file.seek(3 << (flags[0] % 8 + 1), 1)


def _rate(durations: list[int]) -> float | None:
    return 1000 * len(durations) / sum(durations) if sum(durations) > 0 else None


# ---------------------------------------------------------------------------------------- videos


def _video_heads(path: Path) -> _Heads:
    with av.open(str(path)) as container:
        stream = _pictured(container)
        rate = endings.rate(container, stream) or None
        if stream.frames:
            return _Heads(stream.frames, rate)
        seconds = endings.length(container, stream)
        # Matroska says the rate that was meant, also where frames were left out, and when the
        # stream ends rather than how long it is
        packets = [packet.pts for packet in container.demux(stream) if packet.size]
        times = [time for time in packets if time is not None]
        if not rate or not seconds:
            return _Heads(len(packets), rate)
        if times and stream.time_base and "DURATION" in stream.metadata:
            seconds -= float(min(times) * stream.time_base)
        few = 0 < len(times) < seconds * rate - 1.5
        return _Heads(len(packets), len(times) / seconds if few else rate)


def _video_frames(path: Path) -> Iterator[np.ndarray]:
    endings.require_size(path)
    with av.open(str(path)) as container:
        stream, count, last = _pictured(container), 0, None
        stream.thread_type = "AUTO"
        for frame in decoding.decoded(container, stream):
            if frame.is_corrupt:
                raise Damaged(f"the frame at {frame.time} s is damaged")
            alpha = any(component.is_alpha for component in frame.format.components)
            count, last = count + 1, frame.time
            yield decoding.eight_bit(frame).to_ndarray(format="rgba" if alpha else "rgb24")
        endings.require_end(path, container, stream, count, last)


def _pictured(container: av.container.InputContainer) -> av.video.stream.VideoStream:
    if not container.streams.video:
        raise Damaged("it has no video stream")
    return container.streams.video[0]


def _sound(
    container: av.container.InputContainer, track: av.audio.stream.AudioStream
) -> tuple[int, np.ndarray]:
    """How many samples after the first frame a track begins, and float32 (channels, N)."""
    starts: dict[str, float] = {}
    length, blocks, parts = 0, 0, []
    planar = av.AudioResampler(format="fltp")  # nothing else is changed
    for packet in container.demux(track, *container.streams.video[:1]):
        if packet.stream.type == "video":
            # Not the stream's start_time: the demuxer's guess may be that of another stream
            if packet.pts is not None and not packet.is_discard:
                at = float(packet.pts * packet.time_base)
                starts["video"] = min(at, starts.get("video", at))
            continue
        blocks += bool(packet.size)
        for frame in track.decode(packet):
            if frame.is_corrupt:
                raise Damaged(f"the audio at {frame.time} s is damaged")
            start = starts.setdefault("audio", frame.time or 0.0)
            gap = 0 if frame.time is None else frame.time - start - length / track.rate
            if abs(gap) > AUDIO_SLACK:
                raise Damaged(f"its audio has a gap of {gap:.3g} s at {frame.time:.4g} s")
            parts += [piece.to_ndarray() for piece in planar.resample(frame)]
            length += frame.samples
    start, seconds = starts.get("audio", 0.0), endings.length(container, track)
    end = length / track.rate + (start if "DURATION" in track.metadata else 0.0)
    if track.frames and blocks != track.frames:
        raise Damaged(f"{blocks} blocks of audio, and the container says {track.frames}")
    if seconds and end < seconds - AUDIO_SLACK:
        raise Damaged(f"truncated: {end:.4g} s of audio, and the container says {seconds:.4g}")
    samples = np.concatenate(parts, axis=1) if parts else np.zeros((1, 0), np.float32)
    if not np.isfinite(samples).all():
        raise Damaged("its audio has samples that are not finite")
    return round((start - starts.get("video", start)) * track.rate), samples


def _on_black(frame: np.ndarray) -> np.ndarray:
    """RGB of an RGB or RGBA frame: colour × alpha, rounded."""
    if frame.shape[2] == 3:
        return frame
    rgb, alpha = frame[..., :3].astype(np.uint16), frame[..., 3:].astype(np.uint16)
    return ((rgb * alpha + 127) // 255).astype(np.uint8)
