"""Whether a video file is all there, by what its container says of itself."""

from __future__ import annotations

import warnings
from pathlib import Path

import av

MATROSKA, SEGMENT = b"\x1aE\xdf\xa3", b"\x18S\x80g"  # identifiers of EBML's head and of all else
UNTIMED = 0x80
"""AVFMT_NOTIMESTAMPS: a bare stream, such as .h264. Its rate is the demuxer's guess."""
UNENDED = UNTIMED | 0x200
"""And AVFMT_TS_DISCONT: made to be joined in the middle, such as MPEG-TS."""


class Damaged(Exception):
    """What is wrong with a clip, without its name."""


def require_size(path: Path) -> None:
    """Raise Damaged for a Matroska or WebM file that is shorter than its head says."""
    said, size = _matroska_size(path), path.stat().st_size
    if said and size < said:
        raise Damaged(f"truncated: {size} bytes of {said}")


def require_end(
    path: Path,
    container: av.container.InputContainer,
    stream: av.video.stream.VideoStream,
    count: int,
    last: float | None,
) -> None:
    """Raise Damaged unless ``count`` frames, the last shown at ``last`` s, are all there are.

    Warns where the file does not say: what was streamed has no length, and neither its frames nor
    its headers show that its end was cut off.
    """
    if stream.frames and count != stream.frames:
        raise Damaged(f"{count} frames, and the container says {stream.frames}")
    rate = float(stream.average_rate) if stream.average_rate else None
    seconds = length(container, stream)
    ended = rate and seconds and last is not None and last >= seconds - 2.5 / rate
    few = rate and seconds and count < seconds * rate - 1.5
    if few and not stream.frames and not ended:  # else the rate varies
        raise Damaged(
            f"truncated: {count} frames at {rate:.4g} fps, and the container says "
            f"{seconds:.4g} seconds"
        )
    kind = container.format
    derived = int(kind.flags) & UNENDED or kind.name == "yuv4mpegpipe"  # from the file's own size
    if not (stream.frames or _matroska_size(path) or (seconds and not derived)):
        warnings.warn(
            f"{path} does not say how long it is: {count} frames could be read, and if its end was "
            "cut off, nothing shows it; write it as .mp4, .mkv or .webm to a file, not to a stream",
            stacklevel=2,
        )


def rate(container: av.container.InputContainer, stream: av.video.stream.VideoStream) -> float:
    """Frames a second by the headers, 0 where they do not say."""
    if not stream.average_rate or int(container.format.flags) & UNTIMED:
        return 0.0
    return float(stream.average_rate)


def length(
    container: av.container.InputContainer,
    stream: av.video.stream.VideoStream | av.audio.stream.AudioStream,
) -> float | None:
    """How many seconds a stream lasts by the container's own word, or None."""
    if said := stream.metadata.get("DURATION"):  # Matroska: 00:00:01.062000000
        hours, minutes, seconds = said.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.duration and len(container.streams) == 1:  # else another stream may be longer
        return container.duration / av.time_base
    return None


def _matroska_size(path: Path) -> int | None:
    """The bytes that a Matroska file's head says (RFC 8794, RFC 9559).

    None for other formats, and where the size is unknown, as in what was streamed.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    at, size = _number(head, 4)
    segment = at + size
    if head[:4] != MATROSKA or head[segment : segment + 4] != SEGMENT:
        return None
    at, size = _number(head, segment + 4)
    digits = 7 * (at - segment - 4)
    return None if size == (1 << digits) - 1 else at + size


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Where a number of EBML ends, and the number: leading zero bits say how long it is."""
    length = 9 - int.from_bytes(data[at : at + 1]).bit_length()
    value = int.from_bytes(data[at : at + length])
    return at + length, value & ((1 << 7 * length) - 1)
