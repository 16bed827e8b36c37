"""Models that hang, die or exhaust memory, mostly in a child: nothing of them is left.

The model is an engine that does what the prompt says, whose child starts in a second.
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from pytest_vdb.errors import GenerationTimeout, InfraError, OutOfMemory
from pytest_vdb.measure.child import ChildProcess
from pytest_vdb.measure.inprocess import InProcess
from pytest_vdb.measure.runner import Job
from pytest_vdb.records import ModelSpec, Prompt, Workload

CALL = {"num_frames": 5, "height": 32, "width": 32, "num_inference_steps": 2}
ONE = {"num_threads": 1}  # fast also where other processes are busy

ENGINES = '''
import os, resource, signal, subprocess, sys, time
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent


def note(pid):
    with (HERE / "pids").open("a") as file:
        file.write(f"{pid}\\n")


class Obedient:
    def generate(self, prompt, *, seed, num_frames, height, width, num_inference_steps):
        getattr(self, "do_" + prompt, int)()
        return np.random.default_rng(seed).random((num_frames, height, width, 3))

    def do_hang(self):
        note(os.getpid())
        note(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid)
        while True:
            time.sleep(600)

    def do_kill(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def do_exit(self):
        """Leaves a fork behind that holds every pipe open."""
        pid = os.fork()
        if pid == 0:
            time.sleep(600)
        note(pid)
        print("last words", flush=True)
        os._exit(3)

    def do_exhaust(self):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = used + 2**28
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        held = []
        while True:
            held.append(torch.ones(2**24))


def make():
    return Obedient()
'''


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The folder of a repository under test."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "obedient_engines.py").write_text(ENGINES)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)  # the in-process runner has the session's path
        yield folder


@pytest.fixture
def engine_job(models, tmp_path):
    """Makes a job of the obedient engine whose prompts are the actions."""
    (models / "pids").unlink(missing_ok=True)

    def make(*actions: str, timeout: float | None = None) -> Job:
        spec = ModelSpec("obedient", "factory", "obedient_engines:make")
        prompts = tuple(Prompt(action, action) for action in actions)
        workload = Workload(prompts, (7,), CALL, options=ONE)
        return Job(spec, workload, str(tmp_path), "cpu", timeout, path=(str(models),))

    return make


def pids(models: Path) -> list[int]:
    return [int(line) for line in (models / "pids").read_text().splitlines()]


def is_gone(pid: int, within: float = 0.0) -> bool:
    deadline = time.monotonic() + within
    while True:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)


def test_a_hang_in_process_ends_at_the_timeout(engine_job, models):
    runner = InProcess()
    hanging = engine_job("hang", timeout=60)
    with runner.source(hanging, "test_a") as kept, runner.source(hanging, "test_b") as again:
        assert again is kept
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(GenerationTimeout, match="the warm-up generation of prompt 'hang'"):
        runner.run(replace(hanging, timeout=1.5))
    os.kill(pids(models)[1], signal.SIGKILL)  # in process nobody else ends what a model starts
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    with runner.source(hanging, "test_a") as other:
        assert other is not kept  # an interrupted model is not used again
    runner.close()


def test_a_hanging_child_is_killed_with_all_that_it_started(engine_job, models):
    with pytest.raises(GenerationTimeout) as caught:
        ChildProcess().run(engine_job("quiet", "hang", timeout=2))
    message = str(caught.value)
    assert "the generation of prompt 'hang' with seed 7 of model 'obedient'" in message
    assert "the last is quiet/7" in message
    assert "it printed nothing" in message
    assert len(pids(models)) == 2
    assert all(is_gone(pid) for pid in pids(models))


def test_a_killed_child_leaves_the_samples_before(engine_job, tmp_path):
    with pytest.raises(InfraError) as caught:
        ChildProcess().run(engine_job("quiet", "kill"))
    message = str(caught.value)
    assert "SIGKILL" in message
    assert "out-of-memory killer" in message
    assert "MiB" in message
    assert "1 of 2 samples were finished" in message
    assert np.load(tmp_path / "0000-frames.npy").shape == (5, 32, 32, 3)
    assert not (tmp_path / "0001-frames.npy").exists()


def test_a_child_that_exits_without_a_word_is_lost_at_once(engine_job, models):
    """Also where a process that it forked holds its pipes open."""
    with pytest.raises(InfraError) as caught:
        ChildProcess().run(engine_job("exit"))
    assert "exited with status 3, without a word, during the warm-up" in str(caught.value)
    assert "| last words" in str(caught.value)
    (forked,) = pids(models)
    assert is_gone(forked)


def test_memory_that_runs_out_is_named(engine_job):
    with pytest.raises((OutOfMemory, InfraError)) as caught:
        ChildProcess().run(engine_job("quiet", "exhaust"))
    assert "memory" in str(caught.value)
    if isinstance(caught.value, OutOfMemory):
        assert str(2**26) in str(caught.value)  # what the allocator could not give
        assert "prompt 'exhaust'" in str(caught.value)


def test_ctrl_c_in_the_caller_leaves_no_child(engine_job):
    def interrupt(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    mine = psutil.Process()
    before = set(mine.children(recursive=True))
    with pytest.raises(KeyboardInterrupt):
        ChildProcess().run(engine_job("quiet", "hang"), interrupt)
    assert set(mine.children(recursive=True)) == before


def test_a_killed_parent_leaves_no_child(engine_job, models):
    code = (
        "import json, sys; from pytest_vdb.measure.child import ChildProcess; "
        "from pytest_vdb.measure.runner import Job; "
        "ChildProcess().run(Job.from_json(json.loads(sys.argv[1])))"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(engine_job("hang").to_json())]
    )
    try:
        deadline = time.monotonic() + 60
        while not (models / "pids").exists() or len(pids(models)) < 2:
            assert parent.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert not any(is_gone(pid) for pid in pids(models))
    finally:
        parent.kill()
        parent.wait()
    assert all(is_gone(pid, within=5) for pid in pids(models))
