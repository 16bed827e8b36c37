"""Workers, children, disks and users that end a run early: once reported, the rest finished."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What cannot be imported twice: pytester forgets what an inner run imports.
import av  # noqa: F401
import numpy as np  # noqa: F401
import PIL.Image  # noqa: F401
import pytest
import rich.table  # noqa: F401
import scipy.stats  # noqa: F401

from tests.faults.test_full_disk import can_mount

FAST = """
import ctypes, os, signal, time
from pathlib import Path
import pytest

def test_sharp(vdb):
    assert vdb.score("sharpness").mean > 0

def test_kill(vdb):
    assert vdb.score("sharpness").mean > 0
    os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does where memory runs out

def test_moves(vdb):
    assert vdb.score("motion_energy").mean > 0
"""
HANG = """
def test_hang(vdb):
    ctypes.PyDLL(None).sleep(600)  # in C, with the interpreter's lock: no Python code runs

def test_last(vdb):
    assert vdb.score("sharpness").min > 0
"""
WAIT = """
def test_wait(vdb):
    Path(__file__).with_name("waiting").touch()
    time.sleep(600)
"""
UNTIL = 60.0  # seconds at most for what takes a few


@pytest.fixture
def recorded(pytester: pytest.Pytester, draw: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with clips, which are measured without torch."""
    monkeypatch.delenv("CI", raising=False)
    pytester.makeini("[pytest]\n")
    draw(pytester.path / "clips")
    return pytester.path


# Each worker would import other plugins, some of which take longer than all that is done here.
ALONE = [f"-pno:{name}" for name in ("cacheprovider", "hypothesispytest", "anyio", "benchmark")]


def command(*args: str) -> list[str]:
    return [*ALONE, "--vdb-videos=clips", "--vdb-json=run.json", *args]


def outcomes(root: Path) -> dict[str, str]:
    """Outcome by test of ``run.json``; each is there once, and no draft is left."""
    assert not list(root.glob("run.json?*"))
    tests = json.loads((root / "run.json").read_text())["tests"]
    names = [re.split(r"::|\[", test["nodeid"])[1] for test in tests]
    assert set(Counter(names).values()) == {1}
    return dict(zip(names, (test["outcome"] for test in tests), strict=True))


@pytest.mark.skipif(pytest.version_tuple < (9, 0), reason="the ini option came with pytest 9")
def test_a_killed_and_a_hung_worker_cost_one_test_each(
    pytester: pytest.Pytester, recorded: Path
) -> None:
    pytester.makepyfile(FAST + HANG)
    limit = ["-o", "faulthandler_timeout=8", "-o", "faulthandler_exit_on_timeout=true"]
    result = pytester.runpytest_inprocess(*command("-n2", *limit))
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=3, failed=2)
    result.stdout.fnmatch_lines_random(
        ["*crashed while running*::test_kill*", "*crashed while running*::test_hang*"]
    )
    well = dict.fromkeys(("test_sharp", "test_moves", "test_last"), "passed")
    assert outcomes(recorded) == {**well, "test_kill": "failed", "test_hang": "failed"}


STUCK = """
import ctypes
import numpy as np

def load(**given):
    def generate(prompt, **arguments):
        if prompt == "hang":
            mutex = (ctypes.c_char * 256)()
            for _ in "twice":  # no signal ends the second lock, and the interpreter's is held
                ctypes.PyDLL(None).pthread_mutex_lock(mutex)
        picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
        return np.stack([np.roll(picture, step, axis=1) for step in range(4)])
    return generate
"""
IN_C = """
import pytest
import pytest_vdb.measure.clock

pytest_vdb.measure.clock.GRACE = 1.0  # seconds

@pytest.mark.vdb(prompts=["cat"])
def test_well(vdb):
    assert vdb.score("sharpness").mean > 0

@pytest.mark.vdb(prompts=["hang"])
def test_hang(vdb):
    assert vdb.score("sharpness").mean > 0
"""


def test_a_generation_that_hangs_in_c_ends_its_process(pytester: pytest.Pytester) -> None:
    """A worker's too, which is then replaced as any that died."""
    pytester.makepyfile(IN_C, engine=STUCK)
    limits = ["--vdb-timeout=2s", "--vdb-missing=warn", "--vdb-json=run.json"]
    result = pytester.runpytest_subprocess(
        *ALONE, "--vdb-model=engine:load", *limits, timeout=UNTIL
    )
    assert result.ret == 1
    result.stderr.fnmatch_lines(["Timeout (0:00:03)!", "*engine.py*in generate"])
    (kept,) = (pytester.path / "run.json.partial").read_text().splitlines()
    assert "test_well" in kept


SLOW = """
import os, signal, time
import pytest

def test_kill(vdb):
    os.kill(os.getpid(), signal.SIGKILL)

@pytest.mark.parametrize("number", range(6))
def test_plain(number):
    time.sleep(0.4)
"""


def test_a_run_that_may_replace_no_worker_ends_with_what_the_others_have(
    pytester: pytest.Pytester, recorded: Path
) -> None:
    """A worker that is told to end gets no more tests, and misses none that it was given."""
    pytester.makepyfile(SLOW)
    result = pytester.runpytest_inprocess(*command("-n2", "--max-worker-restart=0"))
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*xdist: worker gw? crashed and worker restarting disabled*"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    assert result.parseoutcomes()["failed"] == 1
    assert outcomes(recorded) == {"test_kill": "failed"}


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_ctrl_c_keeps_what_was_measured(
    pytester: pytest.Pytester, recorded: Path, workers: str
) -> None:
    """As a terminal sends it: to the controller and its workers alike."""
    pytester.makepyfile(FAST.replace("os.kill", "max") + WAIT)
    args = command(workers, "--vdb-update")
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    partial = recorded / "run.json.partial"
    try:
        wait(process, lambda: (recorded / "waiting").exists() and lines(partial) != [])
        before = {json.loads(line)["nodeid"] for line in lines(partial)}
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=UNTIL)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == pytest.ExitCode.INTERRUPTED, output
    assert "KeyboardInterrupt" in output
    run = json.loads((recorded / "run.json").read_text())
    assert run["exit"] == pytest.ExitCode.INTERRUPTED
    assert before <= {test["nodeid"] for test in run["tests"]}
    assert set(outcomes(recorded).values()) == {"passed"}
    assert "test_wait" not in outcomes(recorded)
    assert list((recorded / "baselines").rglob("*.json"))
    wait(None, lambda: not group_lives(process.pid))


def wait(process: subprocess.Popen[str] | None, until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + UNTIL
    while not until():
        assert process is None or process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


def lines(path: Path) -> list[str]:
    """The whole lines of a file that somebody writes."""
    return path.read_text().splitlines() if path.exists() else []


def group_lives(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


ENGINE = """
import os, signal
import numpy as np

def build():
    def engine(prompt, *, seed, num_frames=5, height=32, width=32, num_inference_steps=2, **more):
        if prompt == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        noise = np.random.default_rng([seed, len(prompt)]).random((num_frames, height, width, 3))
        return {"frames": noise.astype(np.float32)}
    return engine
"""
CONFTEST = """
def pytest_vdb_models():
    from pytest_vdb import ModelSpec
    size = dict(num_frames=5, height=32, width=32, num_inference_steps=2)
    return [ModelSpec("engine", "factory", "engine:build", call=size)]
"""
CHILDREN = """
import pytest

@pytest.mark.vdb(prompts=["a fox"])
def test_fox(vdb):
    assert vdb.score("sharpness").mean > 0

@pytest.mark.vdb(prompts=["kill"])
@pytest.mark.parametrize("again", [0, 1])
def test_kill(vdb, again):
    assert vdb.score("sharpness").mean > 0

@pytest.mark.vdb(prompts=["a fox"])
def test_still(vdb):
    assert vdb.score("motion_energy").mean > 0
"""


def test_a_killed_child_costs_the_tests_on_its_workload(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not tried again for the second of them."""
    monkeypatch.delenv("CI", raising=False)
    pytester.makepyfile(CHILDREN, engine=ENGINE)
    pytester.makeconftest(CONFTEST)
    args = [*ALONE, "--vdb-json=run.json", "--vdb-model=engine", "--vdb-runner=child"]
    result = pytester.runpytest_inprocess(*args)
    result.assert_outcomes(passed=2, errors=2)
    assert result.ret == 10
    why = "INFRA_ERROR *ended by SIGKILL during the warm-up*(the kernel's out-of-memory killer*"
    result.stdout.fnmatch_lines([why])
    run = json.loads((pytester.path / "run.json").read_text())
    assert run["exit"] == 10
    assert [test["outcome"] for test in run["tests"]] == ["passed", "error", "error", "passed"]
    assert len({test["nodeid"] for test in run["tests"]}) == 4


FULL = """
import os, sys, tempfile
from pathlib import Path
import pytest

ALONE = sys.argv[1:]

def run(name, *args):
    command = [*ALONE, "-q", "--vdb-videos=clips", f"--vdb-json={name}.json"]
    os.dup2(os.open(f"{name}.txt", os.O_CREAT | os.O_WRONLY), 1)
    code = pytest.main([*command, *args])
    sys.stdout.flush()
    Path(f"{name}.code").write_text(str(int(code)))

tempfile.tempdir = "small"
run("scratch")
tempfile.tempdir = None
Path("small/full").write_text("x")  # the one page that there is
run("store", "--vdb-update", "--vdb-store=small")
"""


@pytest.mark.skipif(not can_mount(), reason="this system lets nobody mount a small disk")
def test_a_full_disk_is_said_and_nothing_refers_to_what_is_not_there(
    pytester: pytest.Pytester, recorded: Path
) -> None:
    """First that of the run's own folder, then that of the media store."""
    pytester.makepyfile(test_fast=FAST.replace("os.kill", "max"), runs=FULL)
    (recorded / "small").mkdir()
    script = f"mount -t tmpfs -o size=4k none small && {sys.executable} runs.py {' '.join(ALONE)}"
    unshared = ["unshare", "--map-root-user", "--mount", "sh", "-c", script]
    done = subprocess.run(unshared, capture_output=True, text=True, timeout=UNTIL)
    assert done.returncode == 0, done.stdout + done.stderr

    assert ended(recorded, "scratch") == ("10", ["error"] * 3)
    assert "free space or choose another folder" in (recorded / "scratch.txt").read_text()

    assert ended(recorded, "store") == ("1", ["passed"] * 3)
    said = (recorded / "store.txt").read_text()
    assert said.count("baselines were not updated: ") == said.count("No space left on device") == 1
    assert not list((recorded / "baselines").rglob("*.json"))


def ended(root: Path, name: str) -> tuple[str, list[str]]:
    """A run's exit code, and the outcomes that its file tells."""
    tests = json.loads((root / f"{name}.json").read_text())["tests"]
    return (root / f"{name}.code").read_text(), [test["outcome"] for test in tests]
