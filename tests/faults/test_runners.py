"""Both runners on models that hang, die, chatter, exhaust memory or make nonsense.

The model is a real Wan pipeline whose ``__call__`` does what the prompt says before it generates;
where its child is to die, it is an engine that does so, whose child starts in a second.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from pytest_vdb.errors import BadSetting, GenerationTimeout, InfraError, OutOfMemory, SourceError
from pytest_vdb.measure.child import ChildProcess
from pytest_vdb.measure.inprocess import InProcess
from pytest_vdb.measure.runner import Job
from pytest_vdb.records import ModelSpec, Prompt, Run, Sample, Workload

CALL = {"num_frames": 5, "height": 32, "width": 32, "num_inference_steps": 2}
ONE = {"num_threads": 1}  # fast also where other processes are busy

ACTIONS = '''
import os, resource, signal, subprocess, sys, time
from pathlib import Path

import torch

HERE = Path(__file__).parent


def note(pid):
    with (HERE / "pids").open("a") as file:
        file.write(f"{pid}\\n")


class Actions:
    def do(self, name):
        action = getattr(self, "do_" + name, None)
        if action:
            action()

    def do_hang(self):
        note(os.getpid())
        note(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid)
        while True:
            time.sleep(600)

    def do_raise(self):
        raise KeyError("no such block")

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

    def do_chat(self):
        for number in (0, 1, 2):
            print('{"event": "done"}', flush=True)
            os.system("echo '{\\"event\\": \\"done\\"}' >&2")

    def do_exhaust(self):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = used + 2**28
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        held = []
        while True:
            held.append(torch.ones(2**24))
'''

ENGINES = """
import numpy as np


class Obedient(Actions):
    def generate(self, prompt, *, seed, num_frames, height, width, num_inference_steps):
        self.do(prompt)
        return np.random.default_rng(seed).random((num_frames, height, width, 3))


def make():
    return Obedient()
"""

MODELS = """
import functools, time

import numpy as np
import pytest
from diffusers import WanPipeline

from pytest_vdb.models.embedded import tiny_wan


class Obedient(Actions, WanPipeline):
    @functools.wraps(WanPipeline.__call__)
    def __call__(self, *args, **kwargs):
        self.do(kwargs["prompt"])
        output = WanPipeline.__call__(self, *args, **kwargs)
        if kwargs["prompt"] == "nan":
            output.frames[0][0, 0, 0, 0] = np.nan
            output.frames[0][1, 0, 0, 0] = np.inf
        if kwargs["prompt"] == "image":
            output.frames = output.frames[..., 0]  # without channels
        return output

    def do_skip(self):
        pytest.skip("no gate today")

    def do_fail(self):
        pytest.fail("no gate today")

    def do_xfail(self):
        pytest.xfail("no gate today")


def make():
    pipeline = Obedient(**tiny_wan().components)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def broken():
    raise RuntimeError("no weights here")


def slow():
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The folder of a repository under test."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "obedient_engines.py").write_text(ACTIONS + ENGINES)
    (folder / "obedient_models.py").write_text(ACTIONS + MODELS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)  # the in-process runner has the session's path
        yield folder


@pytest.fixture(scope="module")
def inprocess():
    runner = InProcess()
    yield runner
    runner.close()


@pytest.fixture(scope="module")
def child():
    """A runner whose child goes on with the next job, until one fails."""
    runner = ChildProcess(keep=True)
    yield runner
    runner.close()


@pytest.fixture
def job(models, tmp_path):
    """Makes a job of the obedient pipeline, or engine, whose prompts are the actions."""
    (models / "pids").unlink(missing_ok=True)

    def make(
        *actions: str, timeout: float | None = None, factory: str = "obedient_models:make"
    ) -> Job:
        spec = ModelSpec("obedient", "factory", factory)
        prompts = tuple(Prompt(action, action) for action in actions)
        workload = Workload(prompts, (7,), CALL, options=ONE)
        return Job(spec, workload, str(tmp_path), "cpu", timeout, path=(str(models),))

    return make


@pytest.fixture
def engine_job(job):
    return partial(job, factory="obedient_engines:make")


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


def identity(run: Run) -> list[Sample]:
    """Samples without what differs between two runs of the same thing: clock and folder."""
    blank = {"wall": None, "cpu": None, "stages": {}, "steps": (), "frames": "", "latent": ""}
    return [replace(sample, **blank) for sample in run.samples]


@pytest.fixture(scope="module")
def runs(models, inprocess, child, tmp_path_factory):
    """The same workload, a chatty model with a broken sample: twice in process, then in a child."""
    spec = ModelSpec("obedient", "factory", "obedient_models:make")
    prompts = tuple(Prompt(action, action) for action in ("quiet", "chat", "nan"))
    seen: dict[str, list[Run]] = {}
    steps: dict[str, list[tuple[int, int]]] = {"inprocess": [], "child": []}
    for runner in (inprocess, inprocess, child):
        folder = tmp_path_factory.mktemp("run")
        job = Job(
            spec, Workload(prompts, (0, 1), CALL, options=ONE), str(folder), path=(str(models),)
        )
        run = runner.run(job, lambda *step, to=steps[runner.name]: to.append(step))
        seen.setdefault(runner.name, []).append(run)
    assert steps["inprocess"] == steps["child"] * 2 == [(i, 6) for i in range(1, 7)] * 2
    return seen


def test_samples_are_the_same_in_both_runners_and_in_every_run(runs):
    first, *others = [identity(run) for name in runs for run in runs[name]]
    assert len(first) == 6
    assert all(samples == first for samples in others)


@pytest.mark.parametrize("name", ["inprocess", "child"])
def test_a_run_tells_its_times_and_its_peak(runs, name):
    for index, run in enumerate(runs[name]):
        assert run.load > 0
        if name == "inprocess" and index:
            assert run.first_call is None  # the pipeline had generated before
        else:
            assert run.first_call > 0
        assert run.cpu_peak > 100_000
        assert all(sample.wall > 0 and sample.cpu > 0 for sample in run.samples)
        assert run.facts["runner"] == name


def test_the_peak_does_not_depend_on_the_runner(runs):
    peaks = [run.cpu_peak for name in runs for run in runs[name]]
    assert max(peaks) / min(peaks) < 1.001


def test_in_process_a_pipeline_loads_once(runs):
    first, second = runs["inprocess"]
    assert first.load == second.load


@pytest.mark.parametrize("name", ["inprocess", "child"])
def test_values_that_are_not_finite_are_counted_in_their_sample(runs, name):
    counts = {sample.key: sample.nonfinite for sample in runs[name][0].samples}
    assert counts["quiet/0"] == counts["chat/0"] == 0
    assert counts["nan/0"] == counts["nan/1"] == 2


def test_what_a_model_prints_goes_to_the_log_and_is_no_event(runs):
    run = runs["child"][0]
    log = (Path(run.samples[0].frames).parent / "child.log").read_text()
    assert log.count('{"event": "done"}') == 2 * 6
    assert len(run.samples) == 6


# Exceptions become errors in what both runners execute; from the child each comes by one way.


def test_a_raising_model_is_a_source_error_with_its_traceback(inprocess, job):
    with pytest.raises(SourceError) as caught:
        inprocess.run(job("raise"))
    message = str(caught.value)
    assert "prompt 'raise' with seed 7" in message
    assert "in do_raise" in message
    assert message.endswith("KeyError: 'no such block'")


@pytest.mark.parametrize("action", ["skip", "fail", "xfail"])
def test_a_model_does_not_decide_the_outcome_of_its_test(inprocess, job, action):
    with pytest.raises(SourceError, match=rf"prompt '{action}'[\s\S]*no gate today"):
        inprocess.run(job(action))


def test_a_child_tells_what_its_model_raised(child, runs, job):
    """Also what is no Exception, and in a child that has had another job."""
    with pytest.raises(SourceError) as caught:
        child.run(job("skip"))
    assert child.loads == 1
    assert "prompt 'skip' with seed 7" in str(caught.value)
    assert "in do_skip" in str(caught.value)
    assert str(caught.value).endswith("Skipped: no gate today")


def test_a_factory_that_raises_is_a_source_error(inprocess, job):
    with pytest.raises(SourceError, match="no weights here"):
        inprocess.run(job("quiet", factory="obedient_models:broken"))


def test_frames_of_another_shape_are_refused_with_the_shape(inprocess, job):
    with pytest.raises(SourceError, match=r"frames of shape \(1, 5, 32, 32\)"):
        inprocess.run(job("image"))


def test_a_hang_in_process_ends_at_the_timeout(job, models):
    runner = InProcess()
    hanging = job("hang", timeout=60)
    with runner.source(hanging, "test_a") as kept, runner.source(hanging, "test_b") as again:
        assert again is kept
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(GenerationTimeout, match="the warm-up generation of prompt 'hang'"):
        runner.run(replace(hanging, timeout=1.5))
    os.kill(pids(models)[1], signal.SIGKILL)  # in process nobody else ends what a model starts
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    with runner.source(hanging, "test_a") as other:
        assert other is not kept  # an interrupted pipeline is not used again
    runner.close()


def test_a_load_that_hangs_ends_at_the_timeout(job):
    with pytest.raises(GenerationTimeout, match=r"the load of model 'obedient' .* 0.3 s"):
        InProcess().run(job("quiet", timeout=0.3, factory="obedient_models:slow"))


def test_a_timeout_outside_the_main_thread_names_the_child_runner(inprocess, job):
    caught = []

    def run() -> None:
        try:
            inprocess.run(job("quiet", timeout=60))
        except BadSetting as exc:
            caught.append(str(exc))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert "child runner" in caught[0]


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


def test_a_device_that_the_child_does_not_have_is_refused(job):
    with pytest.raises(BadSetting, match="counts its own leased devices from 0"):
        ChildProcess().run(replace(job("quiet"), device="cuda:3"))


def test_a_device_without_a_driver_is_the_machines_fault(job, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(InfraError, match="--vdb-device=cpu"):
        ChildProcess().run(replace(job("quiet"), device="cuda"))
