"""A disk that fills up while baselines are written: a real one of 64 KiB."""

import json
import shutil
import subprocess
import sys

import pytest

BENCH = """
import pytest
pytestmark = pytest.mark.vdb(prompts={prompts})

def test_quality(vdb):
    assert vdb.score("sharpness").mean > 0
"""

ENGINE = """
import zlib
import numpy as np

def build():
    return generate

def generate(prompt, *, seed):
    random = np.random.default_rng([seed, zlib.crc32(prompt.encode())])
    return random.random((5, 32, 32, 3), np.float32)  # noise: no codec makes it smaller
"""

RUNS = """
import contextlib, sys
from pathlib import Path
import pytest

kept = Path(sys.argv[1])

def run(name, *args):
    command = ["-q", "-p", "no:cacheprovider", "--vdb-model=engine:build", "--vdb-update", *args]
    with (kept / name).open("w") as file, contextlib.redirect_stdout(file):
        return int(pytest.main(command))

assert run("small.txt", "small.py") == 0
code = run("large.txt", "large.py", "small.py", "--vdb-json=run.json")
(kept / "code").write_text(str(code))
"""


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    probe = ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(probe, capture_output=True).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="this system lets nobody mount a small disk")
def test_a_full_disk_while_updating_loses_nothing(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "baselines").mkdir()
    kept = tmp_path / "kept"
    kept.mkdir()
    (tmp_path / "small.py").write_text(BENCH.format(prompts="['a fox']"))
    (tmp_path / "large.py").write_text(BENCH.format(prompts="['a cat', 'a dog', 'a hen', 'a cow']"))
    (tmp_path / "engine.py").write_text(ENGINE)
    (tmp_path / "runs.py").write_text(RUNS)
    script = f"""
        set -e
        mount -t tmpfs -o size=64k none baselines
        {sys.executable} runs.py {kept}
        cp -r baselines {kept}/
        find baselines -name '.*.json.*' > {kept}/leftovers
    """
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    large = (kept / "large.txt").read_text()
    assert "was not written: No space left on device" in large
    assert "what was there is untouched" in large
    assert (kept / "code").read_text() == "1"
    assert (kept / "leftovers").read_text() == ""
    (small,) = (kept / "baselines").glob("*/*/small.json")
    assert json.loads(small.read_text())["schema"] == 2
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["exit"] == 1
    assert [t["outcome"] for t in run["tests"]] == ["passed", "passed"]
