"""VMAF, computed by the libvmaf of the ffmpeg that imageio-ffmpeg ships (model vmaf_v0.6.1).

The model looks at luma alone. It gets 8-bit BT.601 luma of limited range, 16 + 219·Y/255 rounded,
as yuv444p with both chroma planes at 128. One raw stream goes through a pipe, each frame with the
reference's frame below it: nothing is coded, no file of frames is written, and memory does not grow
with length.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import IO

import numpy as np

from pytest_vdb.errors import Unmeasured
from pytest_vdb.metrics.features import Stream, stream_rows
from pytest_vdb.metrics.video import Video

MODEL = "vmaf_v0.6.1"
LEAST = 17  # px: four scales of libvmaf's filters
LUMA = np.array([299, 587, 114])  # BT.601 in thousandths: integers, so that sums are exact
GRAPH = (
    "split[a][b];[a]crop=iw:ih/2:0:0[ours];[b]crop=iw:ih/2:0:ih/2[theirs];"
    f"[ours][theirs]libvmaf=model=version={MODEL}:log_fmt=json:log_path=vmaf.json"
)
MISSING = (
    "vmaf: there is no ffmpeg with libvmaf here{why}; pip install imageio-ffmpeg, or name one in "
    "the environment variable IMAGEIO_FFMPEG_EXE"
)


def vmaf(frames: np.ndarray, reference: np.ndarray) -> float:
    """VMAF v0.6.1 (Li et al., Netflix 2016), mean over frames, in [0, 100], higher is better.

    ``frames`` and ``reference`` are uint8 (T, H, W, 3), RGB, of one shape. The model clips each
    frame's score to its range. **An identical video does not score 100** where the reference
    stands still: about 97.4. Raises Unmeasured without ffmpeg and libvmaf, for frames
    under 17 px, and where ffmpeg fails.
    """
    return float(vmaf_rows(Video(frames), Video(reference)).mean())


def vmaf_worst_frame(frames: np.ndarray, reference: np.ndarray) -> float:
    """`vmaf` of the worst frame."""
    return float(vmaf_rows(Video(frames), Video(reference)).min())


def vmaf_rows(video: Video, reference: Video) -> np.ndarray:
    """(T, 1) float64: the score of each frame. Raises Unmeasured as `vmaf` does."""
    result: np.ndarray = stream_rows(scored(), _pairs(video, reference))
    return result


def scored() -> Stream:
    """`vmaf_rows` as a generator of a feature of a stream: pairs of frames are sent to it.

    Of the whole video, not of windows: a frame's motion is measured from its neighbours. Frames
    are uint8 (H, W, 3), of one size.
    """
    pair = yield
    if pair is None:
        raise Unmeasured("vmaf: a video without frames")
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        with _libvmaf(Path(folder), *pair[0].shape[:2]) as pipe:
            while pair is not None:
                with suppress(BrokenPipeError):  # it ended early, and its exit code says so
                    pipe.write(_stacked(*pair).data)
                count += 1
                pair = yield
        frames = json.loads((Path(folder) / "vmaf.json").read_text())["frames"]
    if len(frames) != count:
        raise Unmeasured(f"vmaf: libvmaf scored {len(frames)} of {count} frames")
    return np.array([[float(frame["metrics"]["vmaf"])] for frame in frames])


@contextmanager
def _libvmaf(folder: Path, height: int, width: int) -> Iterator[IO[bytes]]:
    """The pipe of an ffmpeg that writes ``vmaf.json`` into ``folder`` when it is closed."""
    if min(height, width) < LEAST:  # libvmaf itself would crash
        raise Unmeasured(
            f"vmaf: frames of {height}×{width} px are too small; it needs {LEAST}×{LEAST} px"
        )
    command = [ffmpeg(), "-hide_banner", "-nostats", "-loglevel", "error", "-f", "rawvideo"]
    command += ["-pix_fmt", "yuv444p", "-s", f"{width}x{2 * height}", "-i", "pipe:0"]
    command += ["-lavfi", GRAPH, "-f", "null", "-"]
    with (folder / "errors").open("w+b") as errors:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors
        )
        assert process.stdin is not None
        try:
            yield process.stdin
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.wait()
        finally:
            process.kill()  # where frames could not be read; nothing to one that has ended
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.wait()
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip()
    if process.returncode:
        raise Unmeasured(
            f"vmaf: ffmpeg ended with {process.returncode} on frames of {height}×{width} px: "
            f"{said[-400:]}"
        )


def _stacked(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """uint8 (3, 2H, W): planes of a frame, the reference's below it."""
    luma = np.concatenate([ours, theirs]).astype(np.int32) @ LUMA
    planes = np.full((3, *luma.shape), 128, np.uint8)
    planes[0] = np.rint(16 + luma * (219 / 255000))
    return planes


def _pairs(video: Video, reference: Video) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for ours, theirs in zip_longest(video.frames(), reference.frames()):
        if ours is None or theirs is None or ours.shape != theirs.shape:
            raise Unmeasured(
                f"vmaf: {video.name} and its reference have not the same number and size of frames"
            )
        yield ours, theirs


@cache
def ffmpeg() -> str:
    """The path of an ffmpeg that has libvmaf. Raises Unmeasured, which says how to get one."""
    try:
        from imageio_ffmpeg import get_ffmpeg_exe
    except ImportError:
        raise Unmeasured(MISSING.format(why=": imageio-ffmpeg is not installed")) from None
    try:
        path = str(get_ffmpeg_exe())
        filters = subprocess.run([path, "-filters"], capture_output=True, text=True, check=True)
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        raise Unmeasured(MISSING.format(why=f": {error}")) from None
    if " libvmaf " not in filters.stdout:
        raise Unmeasured(MISSING.format(why=f": {path} was built without it"))
    return path
