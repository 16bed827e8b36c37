"""Sharing videos when a process dies, or a real disk of 128 KiB is full."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_vdb.measure.shared import VideoStore
from tests.conftest import LEAN

KEY = "a" * 64

HOLDER = """
import sys, time
from pathlib import Path
from pytest_vdb.measure.shared import VideoStore

store = VideoStore(Path(sys.argv[1]), print)
with store.alone(sys.argv[2], lambda: None):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_holder_lets_the_next_one_generate(tmp_path: Path) -> None:
    told: list[str] = []
    store = VideoStore(tmp_path / "store", told.append)
    command = [sys.executable, "-c", HOLDER, str(store.root), KEY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            waited: list[float] = []

            def kill() -> None:
                waited.append(time.monotonic())
                os.kill(holder.pid, signal.SIGKILL)

            with store.alone(KEY, kill):
                assert time.monotonic() - waited[0] < 10
        finally:
            holder.kill()
    assert told == []


ENGINE = """
import numpy as np

def build():
    def engine(prompt, *, seed, num_frames=5, height=128, width=128, num_inference_steps=2, **more):
        with open("../generated.log", "a") as log:
            log.write("x")
        noise = np.random.default_rng([seed, len(prompt)]).random((num_frames, height, width, 3))
        return {"frames": noise.astype(np.float32)}
    return engine
"""
CONFTEST = """
def pytest_vdb_models():
    from pytest_vdb import ModelSpec
    size = dict(num_frames=5, height=128, width=128, num_inference_steps=2)
    return [ModelSpec("engine", "factory", "engine:build", revision="1", call=size)]
"""
BENCH = """
import pytest
pytestmark = pytest.mark.vdb(prompts=["a red fox", "a blue boat"])

def test_sharpness(vdb):
    assert vdb.score("sharpness").mean > 0
"""
DEAD = """
def test_dies(vdb):
    import os
    os._exit(1)

def test_flickering(vdb):
    assert vdb.score("temporal_flickering").mean > 0
"""
FILL = """
import sys
from pathlib import Path
import numpy as np
from pytest_vdb.measure.shared import VideoStore
from pytest_vdb.records import Prompt, Run, Sample, Workload

kept, small = Path(sys.argv[1]), Path(sys.argv[2])
noise = np.random.default_rng(0).integers(0, 255, (5, 128, 128, 3))
np.save(kept / "frames.npy", noise.astype("u1"))
frames = str(kept / "frames.npy")
run = Run((Sample("cat", 0, frames, "0" * 64, (5, 128, 128, 3)),))
store = VideoStore(small, print)
with store.alone("a" * 64, lambda: None):
    assert store.find("a" * 64, Workload((Prompt("cat", "a cat"),), (0,), {}), kept / "x") is None
    store.keep("a" * 64, run, {})
    store.alive("a" * 64)
print("left", [path.name for path in small.iterdir() if path.is_dir()])
"""


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    probe = ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(probe, capture_output=True, timeout=60).returncode == 0


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    root = tmp_path / "repo"
    root.mkdir()
    files = {"engine": ENGINE, "conftest": CONFTEST, "test_engine": BENCH}
    for name, text in files.items():
        (root / f"{name}.py").write_text(text)
    (root / "pytest.ini").write_text("[pytest]\n")
    (root / ".gitignore").write_text("__pycache__\n")
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "one")):
        command = ["git", *who, *arguments]
        subprocess.run(command, cwd=root, check=True, capture_output=True, timeout=60)
    return root


@pytest.mark.skipif(not can_mount(), reason="this system lets nobody mount a small disk")
def test_a_full_disk_is_a_note_and_leaves_nothing(tmp_path: Path) -> None:
    """The video has 240 KiB, and the disk 128."""
    small = tmp_path / "small"
    small.mkdir()
    (tmp_path / "fill.py").write_text(FILL)
    script = (
        f"mount -t tmpfs -o size=128k none {small} && "
        f"exec {sys.executable} {tmp_path}/fill.py {tmp_path} {small}"
    )
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"videos were not kept for reuse in {small}: No space left on device" in done.stdout
    assert "left []" in done.stdout


def test_a_dead_workers_videos_are_not_generated_again(repo: Path, tmp_path: Path) -> None:
    with (repo / "test_engine.py").open("a") as file:
        file.write(DEAD)
    command = [sys.executable, "-m", "pytest", "-q", *LEAN, "-n1"]
    env = {key: value for key, value in os.environ.items() if key != "CI"}
    done = subprocess.run(
        [*command, "--vdb-model=engine", "--vdb-json=../run.json"],
        cwd=repo,
        env=env,
        capture_output=True,
        text=True,
        timeout=280,
    )
    tests = json.loads((tmp_path / "run.json").read_text())["tests"]
    outcomes = {test["nodeid"].rpartition("::")[2]: test["outcome"] for test in tests}
    assert outcomes["test_sharpness[engine]"] == outcomes["test_flickering[engine]"] == "passed"
    assert done.returncode == 1, done.stdout
    assert "crashed while running" in done.stdout
    assert (tmp_path / "generated.log").read_text() == "xxx"
    assert "1 test judged videos generated by gw0 of this run" in done.stdout
