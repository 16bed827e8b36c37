"""Clips: everything or an error."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pytest_vdb.errors import UnreadableClip
from pytest_vdb.models.clips import read_clip, write_webp


def moving(count: int = 12, height: int = 48, width: int = 64) -> np.ndarray:
    """A smooth coloured pattern that drifts: codecs keep it well."""
    t, y, x = np.meshgrid(np.arange(count), np.arange(height), np.arange(width), indexing="ij")
    planes = [128 + 100 * np.sin((x + k * y) / 9 + t / 3 + k) for k in range(3)]
    return np.stack(planes, -1).astype(np.uint8)


def encode(path: Path, frames: np.ndarray, codec: str, pix_fmt: str, **options: str) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(24), options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


CODECS = {"mp4": "libx264", "mkv": "libx264", "webm": "libvpx-vp9"}


@pytest.mark.parametrize("suffix", CODECS)
def test_a_video_is_read_whole(tmp_path: Path, suffix: str) -> None:
    frames = moving()
    path = encode(tmp_path / f"clip.{suffix}", frames, CODECS[suffix], "yuv420p")
    clip = read_clip(path)
    assert clip.frames.shape == frames.shape
    assert clip.frames.dtype == np.uint8
    assert clip.fps == 24
    assert np.abs(clip.frames.astype(int) - frames).mean() < 12


def test_a_lossless_video_is_exact(tmp_path: Path) -> None:
    frames = moving()
    path = encode(tmp_path / "clip.mkv", frames, "libx264rgb", "rgb24", qp="0")
    assert np.array_equal(read_clip(path).frames, frames)


@pytest.mark.parametrize("suffix", CODECS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_video_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    flags = {"movflags": "faststart"} if suffix == "mp4" else {}
    whole = tmp_path / f"whole.{suffix}"
    with av.open(str(whole), "w", options=flags) as container:
        stream = container.add_stream(CODECS[suffix], rate=24)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for pixels in moving(48):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    data = whole.read_bytes()
    assert len(read_clip(whole).frames) == 48
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UnreadableClip, match=rf"cut\.{suffix}"):
        read_clip(cut)


@pytest.mark.parametrize("format", ["WEBP", "GIF"])
def test_a_truncated_animation_is_refused(tmp_path: Path, format: str) -> None:
    pictures = [Image.fromarray(frame) for frame in moving()]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    pictures[0].save(whole, format, save_all=True, append_images=pictures[1:], duration=50)
    assert len(read_clip(whole).frames) == 12
    assert read_clip(whole).fps == 20
    data = whole.read_bytes()
    for length in (20, len(data) // 3, len(data) // 2, len(data) - 20, len(data) - 2):
        cut.write_bytes(data[:length])
        with pytest.raises(UnreadableClip, match="cut cannot be decoded"):
            read_clip(cut)


@pytest.mark.parametrize("content", [b"", b"no video at all", b"RIFF\x04\0\0\0WEBP", b"GIF89a;"])
def test_what_is_no_clip_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(UnreadableClip, match=r"clip\.mp4 cannot be decoded"):
        read_clip(path)


def test_a_missing_clip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableClip, match="nowhere"):
        read_clip(tmp_path / "nowhere.mp4")


def test_a_video_without_pictures_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.sample_rate = 8000
        container.mux(stream.encode(silence))
        container.mux(stream.encode())
    with pytest.raises(UnreadableClip, match="no video stream"):
        read_clip(path)


def test_transparency_is_composited_on_black_and_said(tmp_path: Path) -> None:
    pixels = np.full((3, 16, 16, 4), 200, np.uint8)
    pixels[:, :8, :, 3] = 0
    pixels[:, 8:, :, 3] = 255
    pixels[:, :, :, 0] = np.array([10, 90, 200]).reshape(3, 1, 1)
    pictures = [Image.fromarray(p) for p in pixels]
    path = tmp_path / "clip.webp"
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], lossless=True, exact=True, duration=100
    )
    with pytest.warns(UserWarning, match=r"clip\.webp has transparent pixels"):
        frames = read_clip(path).frames
    assert np.array_equal(frames[:, 8:], pixels[:, 8:, :, :3])
    assert not frames[:, :8].any()


@pytest.mark.parametrize("fps", [8, 16, 23.976, 60])
def test_a_lossless_webp_gives_back_exactly_what_was_written(tmp_path: Path, fps: float) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (9, 20, 31, 3), dtype=np.uint8)
    frames[4] = frames[3]  # repeats that the encoder merges
    frames[5] = frames[3]
    frames[8] = frames[7]
    write_webp(tmp_path / "clip", frames, fps, lossless=True)
    clip = read_clip(tmp_path / "clip")
    assert np.array_equal(clip.frames, frames)
    assert clip.fps == fps


@pytest.mark.parametrize("count", [1, 7])
def test_a_frozen_video_keeps_its_length(tmp_path: Path, count: int) -> None:
    frames = np.repeat(moving(1), count, axis=0)
    write_webp(tmp_path / "clip.webp", frames, 16, lossless=True)
    clip = read_clip(tmp_path / "clip.webp")
    assert np.array_equal(clip.frames, frames)
    assert clip.fps == 16


def test_the_same_frames_make_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.webp", "b.webp"):
        write_webp(tmp_path / name, moving(), 16, lossless=True)
    assert (tmp_path / "a.webp").read_bytes() == (tmp_path / "b.webp").read_bytes()


def test_a_preview_is_smaller_and_as_long(tmp_path: Path) -> None:
    write_webp(tmp_path / "clip.webp", moving(10, 48, 96), 16, lossless=False, max_side=32)
    assert read_clip(tmp_path / "clip.webp").frames.shape == (10, 16, 32, 3)
