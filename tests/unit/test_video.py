"""A video as metrics see it: what files of every kind give, and what they are refused for."""

from __future__ import annotations

import struct
import weakref
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pytest_vdb.errors import BadSetting, Unmeasured, UnreadableClip
from pytest_vdb.metrics.video import Audio, Video
from pytest_vdb.models import clips

RATE = 16000


def moving(count: int = 6, height: int = 48, width: int = 64) -> np.ndarray:
    t, y, x = np.meshgrid(np.arange(count), np.arange(height), np.arange(width), indexing="ij")
    planes = [128 + 100 * np.sin((x + k * y) / 9 + t / 3 + k) for k in range(3)]
    return np.stack(planes, -1).astype(np.uint8)


def tone(seconds: float, channels: int = 2) -> np.ndarray:
    """Float32 (channels, N): 440 Hz, the second channel half as loud."""
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE)
    return np.stack([wave / (1 + c) for c in range(channels)]).astype(np.float32)


def write(
    path: Path,
    frames: np.ndarray,
    codec: str = "libx264rgb",
    pix_fmt: str = "rgb24",
    times: list[int] | None = None,
    audio: np.ndarray | None = None,
    audio_codec: str = "pcm_s16le",
    late: float = 0.0,
) -> Path:
    """A lossless video of 25 fps, or with frames at ``times`` (ms); audio ``late`` seconds."""
    fast = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=fast) as file:
        video = file.add_stream(codec, rate=25, options={"qp": "0"} if "264" in codec else {})
        video.height, video.width, video.pix_fmt = *frames.shape[1:3], pix_fmt
        if times is not None:
            video.time_base = video.codec_context.time_base = Fraction(1, 1000)
        track = file.add_stream(audio_codec, rate=RATE, layout="stereo") if audio is not None else 0
        for index, pixels in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times is not None:
                picture.pts, picture.time_base = times[index], Fraction(1, 1000)
            file.mux(video.encode(picture))
        file.mux(video.encode())
        if track:
            assert audio is not None
            for start in range(0, audio.shape[1], 1024):
                piece = np.ascontiguousarray(audio[:, start : start + 1024])
                if audio_codec.startswith("pcm"):
                    packed = np.rint(piece.T * 32767).astype(np.int16).reshape(1, -1)
                    sound = av.AudioFrame.from_ndarray(packed, "s16", "stereo")
                else:
                    sound = av.AudioFrame.from_ndarray(piece, "fltp", "stereo")
                sound.sample_rate, sound.pts = RATE, start + round(late * RATE)
                sound.time_base = Fraction(1, RATE)
                file.mux(track.encode(sound))
            file.mux(track.encode())
    return path


@pytest.mark.parametrize(
    ("count", "height", "width"), [(1, 48, 64), (1, 1, 1), (3, 1, 40), (3, 33, 17), (3, 40, 1)]
)
@pytest.mark.parametrize("suffix", ["mkv", "webp", "array"])
def test_any_size_comes_as_it_is(
    tmp_path: Path, suffix: str, count: int, height: int, width: int
) -> None:
    frames = moving(count, height, width)
    path = tmp_path / f"clip.{suffix}"
    if suffix == "mkv":
        write(path, frames)
    elif suffix == "webp":
        clips.write_webp(path, frames, 25, lossless=True)
    video = Video(frames, fps=25) if suffix == "array" else Video(path)
    assert np.array_equal(np.stack(list(video.frames())), frames)
    assert np.array_equal(np.stack(list(video.frames())), frames), "the second pass begins anew"
    assert video.count == count
    assert video.fps == 25


def test_ten_bits_are_rounded_to_eight(tmp_path: Path) -> None:
    frames = moving()
    eight = write(tmp_path / "8.mkv", frames, "ffv1", "yuv444p")
    ten = write(tmp_path / "10.mkv", frames, "ffv1", "yuv444p10le")
    with av.open(str(ten)) as file:
        assert file.streams.video[0].format.components[0].bits == 10
    difference = np.stack(list(Video(ten).frames())).astype(int) - list(Video(eight).frames())
    assert np.abs(difference).max() <= 3
    assert next(Video(ten).frames()).dtype == np.uint8


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_variable_rate_gives_each_frame_once_and_the_mean_rate(
    tmp_path: Path, suffix: str
) -> None:
    frames = moving(6)
    times = [0, 40, 80, 280, 320, 360]
    path = write(tmp_path / f"clip.{suffix}", frames, times=times)
    assert np.array_equal(np.stack(list(Video(path).frames())), frames)
    assert Video(path).fps == clips.read_clip(path).fps
    assert Video(path).fps == pytest.approx(6 / 0.4, rel=0.01), "declared was 25"


def test_a_rotation_in_the_metadata_is_not_applied(tmp_path: Path) -> None:
    frames = moving()
    path = write(tmp_path / "clip.mp4", frames)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    with av.open(str(path)) as file:
        assert abs(next(file.decode(video=0)).rotation) == 90, "players turn it"
    assert np.array_equal(np.stack(list(Video(path).frames())), frames)


@pytest.mark.parametrize("suffix", ["webp", "mkv"])
def test_transparency_is_composited_on_black_and_said_once(tmp_path: Path, suffix: str) -> None:
    pixels = np.full((3, 16, 16, 4), 200, np.uint8)
    pixels[:, :8, :, 3] = 0
    pixels[:, 8:, :, 3] = 255
    path = tmp_path / f"clip.{suffix}"
    if suffix == "webp":
        first, *others = [Image.fromarray(p) for p in pixels]
        first.save(path, save_all=True, append_images=others, lossless=True, exact=True)
    else:
        with av.open(str(path), "w") as file:
            stream = file.add_stream("ffv1", rate=25)
            stream.height, stream.width, stream.pix_fmt = 16, 16, "bgra"
            for p in pixels:
                file.mux(stream.encode(av.VideoFrame.from_ndarray(p, format="rgba")))
            file.mux(stream.encode())
    with pytest.warns(UserWarning, match="has transparent pixels") as said:
        frames = np.stack(list(Video(path).frames()))
    assert len(said) == 1
    assert not frames[:, :8].any()
    assert (frames[:, 8:] == 200).all()


@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webp", "gif"])
def test_a_truncated_file_never_ends_quietly(tmp_path: Path, suffix: str, share: float) -> None:
    whole, frames = tmp_path / f"whole.{suffix}", moving(12)
    if suffix in ("webp", "gif"):
        first, *others = [Image.fromarray(frame) for frame in frames]
        first.save(whole, save_all=True, append_images=others, duration=50)
    else:
        write(whole, frames)
    data = whole.read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UnreadableClip, match=rf"cut\.{suffix} cannot be decoded"):
        list(Video(cut).frames())


def test_frames_before_the_damage_are_given_and_then_the_error(tmp_path: Path) -> None:
    whole = write(tmp_path / "clip.mp4", moving(48)).read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: len(whole) * 3 // 4])
    seen: list[np.ndarray] = []
    with pytest.raises(UnreadableClip, match="the container says 48"):
        seen.extend(Video(cut).frames())
    assert 0 < len(seen) < 48


def test_frames_that_change_size_are_refused(tmp_path: Path) -> None:
    parts = [write(tmp_path / f"{h}.h264", moving(3, h, 64)).read_bytes() for h in (48, 32)]
    path = tmp_path / "clip.h264"
    path.write_bytes(b"".join(parts))
    with pytest.raises(UnreadableClip, match=r"different sizes: \[\(32, 64, 3\), \(48, 64, 3\)\]"):
        list(Video(path).frames())
    with pytest.raises(UnreadableClip, match="different sizes"):
        clips.read_clip(path)


@pytest.mark.parametrize("source", ["missing", "empty", "text"])
def test_what_is_no_video_is_refused_whatever_is_asked(tmp_path: Path, source: str) -> None:
    path = tmp_path / "clip.mp4"
    if source != "missing":
        path.write_bytes(b"" if source == "empty" else b"no video at all")
    for ask in (lambda v: list(v.frames()), lambda v: v.fps, lambda v: v.audio, lambda v: v.count):
        with pytest.raises(UnreadableClip, match=r"clip\.mp4 cannot be decoded"):
            ask(Video(path))


@pytest.mark.parametrize("durations", [[50] * 6, [40, 80, 120, 40, 40, 200]])
@pytest.mark.parametrize("suffix", ["webp", "gif"])
def test_the_rate_of_an_animation_comes_from_its_headers(
    tmp_path: Path, suffix: str, durations: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *others = [Image.fromarray(frame) for frame in moving(6)]
    path = tmp_path / f"clip.{suffix}"
    first.save(path, save_all=True, append_images=others, duration=durations)
    assert clips.read_clip(path).fps == pytest.approx(6000 / sum(durations))
    monkeypatch.delattr(Image, "open")  # nothing is decoded for it
    assert Video(path).fps == pytest.approx(6000 / sum(durations))


def test_a_still_has_no_rate(tmp_path: Path) -> None:
    for suffix in ("webp", "gif"):
        Image.fromarray(moving(1)[0]).save(tmp_path / f"still.{suffix}")
        assert Video(tmp_path / f"still.{suffix}").fps is None
        assert Video(tmp_path / f"still.{suffix}").count == 1


@pytest.mark.parametrize("repeats", [1, 2])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm", "webp", "noted.webp", "gif"])
def test_the_headers_say_how_many_frames_there_are(
    tmp_path: Path, suffix: str, repeats: int
) -> None:
    """Right in all of these, and checked by whoever relies on it."""
    frames, path = moving(7).repeat(repeats, axis=0), tmp_path / f"clip.{suffix}"
    if suffix == "noted.webp":
        clips.write_webp(path, frames, 25, lossless=True)
    elif suffix in ("webp", "gif"):
        first, *others = [Image.fromarray(frame) for frame in frames]
        first.save(path, save_all=True, append_images=others, duration=50)
    elif suffix == "webm":
        write(path, frames, "libvpx-vp9", "yuv420p")
    else:
        write(path, frames)
    video = Video(path)
    assert video.expected == len(list(video.frames())) == video.count
    held = Video(path).held()
    assert held.expected == video.count
    assert (held.sha256, held.fps, held.name) == (video.sha256, video.fps, video.name)
    assert np.array_equal(list(held.frames()), list(video.frames()))


def test_the_frames_of_a_long_video_are_not_kept(tmp_path: Path) -> None:
    path, alive, most = write(tmp_path / "clip.mkv", moving(100)), [], 0
    for frame in Video(path).frames():
        alive = [kept for kept in alive if kept() is not None] + [weakref.ref(frame)]
        most = max(most, len(alive))
    assert most <= 2


# ------------------------------------------------------------------------------------------ audio


def test_audio_comes_whole_with_its_channels_and_rate(tmp_path: Path) -> None:
    sound = tone(0.24)
    audio = Video(write(tmp_path / "clip.mkv", moving(), audio=sound)).audio
    assert audio.rate == RATE
    assert audio.samples.dtype == np.float32
    assert audio.samples.shape == sound.shape
    assert np.abs(audio.samples - sound).max() < 1e-4  # 16 bits


def test_lossy_audio_is_in_place(tmp_path: Path) -> None:
    """AAC puts 1024 samples before the first; they are left out."""
    sound = tone(0.512)
    path = write(tmp_path / "clip.mp4", moving(), audio=sound, audio_codec="aac")
    samples = Video(path).audio.samples
    assert abs(samples.shape[1] - sound.shape[1]) <= 1024
    overlap = slice(2048, 6000)
    assert np.abs(samples[:, overlap] - sound[:, overlap]).max() < 0.05


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_audio_that_begins_later_has_silence_before_it(tmp_path: Path, suffix: str) -> None:
    sound, codec = tone(0.512), "aac" if suffix == "mp4" else "pcm_s16le"
    path = tmp_path / f"clip.{suffix}"
    write(path, moving(), audio=sound, audio_codec=codec, late=0.4)
    samples = Video(path).audio.samples
    first = np.flatnonzero(np.abs(samples[0]) > 0.1)[0] / RATE
    assert first == pytest.approx(0.4, abs=0.002)  # Matroska counts ms
    assert samples.shape[1] == pytest.approx(0.912 * RATE, abs=1024)


def test_a_gap_in_the_audio_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as file:
        track = file.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for at in (0, 8000):
            frame = av.AudioFrame.from_ndarray(np.ones((1, 1600), np.int16), "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, at, Fraction(1, RATE)
            file.mux(track.encode(frame))
        file.mux(track.encode())
    with pytest.raises(UnreadableClip, match=r"gap of 0\.4 s at 0\.5 s"):
        clips.read_audio(path)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_truncated_audio_is_refused(tmp_path: Path, suffix: str) -> None:
    codec = "aac" if suffix == "mp4" else "pcm_s16le"
    path = tmp_path / f"clip.{suffix}"
    write(path, moving(), audio=tone(2), audio_codec=codec)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    with pytest.raises(UnreadableClip, match=r"clip\.m.. cannot be decoded"):
        clips.read_audio(path)


@pytest.mark.parametrize("suffix", ["mkv", "webp", "array"])
def test_a_video_without_audio_is_unmeasured(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clip.{suffix}"
    if suffix == "webp":
        clips.write_webp(path, moving(), 25, lossless=True)
    elif suffix == "mkv":
        write(path, moving())
    video = Video(moving(), name="clip.array") if suffix == "array" else Video(path)
    with pytest.raises(Unmeasured, match=rf"clip\.{suffix} has no audio"):
        _ = video.audio


# --------------------------------------------------------------------------------------- in memory


@pytest.mark.parametrize(
    "frames",
    [
        np.full((2, 4, 4, 3), np.nan, np.float32),
        np.zeros((4, 4, 3), np.uint8),
        np.zeros((0, 4, 4, 3), np.uint8),
        np.zeros((2, 4, 4, 4), np.uint8),
    ],
)
def test_an_array_of_another_kind_is_unmeasured(frames: np.ndarray) -> None:
    with pytest.raises(Unmeasured, match="a video is uint8 of shape"):
        list(Video(frames).frames())


def test_what_is_neither_array_nor_path_is_a_mistake() -> None:
    with pytest.raises(BadSetting, match="a video of a list"):
        Video.of([1, 2])


def test_the_digest_is_of_what_is_measured(tmp_path: Path) -> None:
    frames, sound = moving(), Audio(tone(0.1), RATE)
    path = write(tmp_path / "clip.mkv", frames)
    copy = tmp_path / "copy.mkv"
    copy.write_bytes(path.read_bytes())
    changed = frames.copy()
    changed[-1, -1, -1, -1] ^= 1
    assert Video(path).sha256 == Video(copy).sha256
    assert Video(frames).sha256 == Video(np.asfortranarray(frames)).sha256
    different = [
        Video(frames),
        Video(changed),
        Video(frames.reshape(12, 24, 64, 3)),
        Video(frames, fps=8),
        Video(frames, audio=sound),
        Video(frames, audio=Audio(sound.samples, 8000)),
        Video(frames, audio=Audio(-sound.samples, RATE)),
        Video(path),
        Video(path, fps=8),
        Video(path, audio=sound),
    ]
    assert len({video.sha256 for video in different}) == len(different)
