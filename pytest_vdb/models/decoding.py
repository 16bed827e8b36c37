"""Decoded pictures and their times, as they come out of a container by PyAV."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

DEEP = re.compile(r"(yuva?4(?!44)\d\dp)(\d+)([lb]e)")  # without 4:4:4, which has no filter
WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


def decoded(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream
) -> Iterator[av.VideoFrame]:
    """Every frame, with its alpha: a WebM's is a second picture, which ffmpeg's decoders drop."""
    name = stream.codec_context.name
    if stream.metadata.get("alpha_mode") != "1" or name not in WITH_ALPHA:
        yield from container.decode(stream)
        return
    decoder = av.CodecContext.create(WITH_ALPHA[name], "r")
    assert isinstance(decoder, av.VideoCodecContext)
    for packet in container.demux(stream):
        yield from decoder.decode(packet)


def eight_bit(frame: av.VideoFrame) -> av.VideoFrame:
    """Subsampled YUV of more bits as that of 8, rounded: a picture gives one RGB at any depth.

    swscale brings the chroma of the two to the size of the luma by different filters, and by itself
    it would dither, which a metric of sharpness sees.
    """
    deep = DEEP.fullmatch(frame.format.name)
    if not deep:
        return frame
    small = av.VideoFrame(frame.width, frame.height, deep[1])
    small.pts, small.time_base = frame.pts, frame.time_base
    small.colorspace, small.color_range = frame.colorspace, frame.color_range
    bits, kind = int(deep[2]), np.dtype("<u2" if deep[3] == "le" else ">u2")
    full = frame.color_range == av.video.reformatter.ColorRange.JPEG
    top = (1 << bits) - 1 if full else 255 << bits - 8  # what becomes 255
    for ours, theirs in zip(small.planes, frame.planes, strict=True):
        values = np.frombuffer(bytes(theirs), kind).reshape(theirs.height, -1)[:, : theirs.width]
        rounded = np.minimum((values.astype(np.uint32) * 255 + top // 2) // top, 255)
        rows = np.zeros((ours.height, ours.line_size), np.uint8)
        rows[:, : ours.width] = rounded
        ours.update(rows.tobytes())
    return small


def unevenness(path: Path) -> float:
    """Seconds by which a frame comes at most before or after its turn at an even rate.

    From the times of the packets; nothing is decoded. 0 where they say no times.
    """
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        shown = sorted(
            float(packet.pts * packet.time_base)
            for packet in container.demux(stream)
            if packet.pts is not None and not packet.is_discard
        )
    if len(shown) < 3:
        return 0.0
    step = (shown[-1] - shown[0]) / (len(shown) - 1)
    return max(abs(time - shown[0] - turn * step) for turn, time in enumerate(shown))
