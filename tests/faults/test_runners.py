"""Both runners on models that chatter, raise or make nonsense, and the same videos in both.

The model is a real Wan pipeline whose ``__call__`` does what the prompt says before it generates.
"""

import threading
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest

from pytest_vdb.errors import BadSetting, GenerationTimeout, InfraError, SourceError
from pytest_vdb.measure.child import ChildProcess
from pytest_vdb.measure.inprocess import InProcess
from pytest_vdb.measure.runner import Job
from pytest_vdb.records import ModelSpec, Prompt, Run, Sample, Workload

CALL = {"num_frames": 5, "height": 32, "width": 32, "num_inference_steps": 2}
ONE = {"num_threads": 1}  # fast also where other processes are busy

MODELS = r"""
import functools, os, time

import numpy as np
import pytest
from diffusers import WanPipeline

from pytest_vdb.models.embedded import tiny_wan


class Obedient(WanPipeline):
    @functools.wraps(WanPipeline.__call__)
    def __call__(self, *args, **kwargs):
        getattr(self, "do_" + kwargs["prompt"], int)()
        output = WanPipeline.__call__(self, *args, **kwargs)
        if kwargs["prompt"] == "nan":
            output.frames[0][0, 0, 0, 0] = np.nan
            output.frames[0][1, 0, 0, 0] = np.inf
        if kwargs["prompt"] == "image":
            output.frames = output.frames[..., 0]  # without channels
        return output

    def do_chat(self):
        for number in (0, 1, 2):
            print('{"event": "done"}', flush=True)
            os.system("echo '{\"event\": \"done\"}' >&2")

    def do_raise(self):
        raise KeyError("no such block")

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
    (folder / "obedient_models.py").write_text(MODELS)
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
    """Makes a job of the obedient pipeline, whose prompts are the actions."""

    def make(
        *actions: str, timeout: float | None = None, factory: str = "obedient_models:make"
    ) -> Job:
        spec = ModelSpec("obedient", "factory", factory)
        prompts = tuple(Prompt(action, action) for action in actions)
        workload = Workload(prompts, (7,), CALL, options=ONE)
        return Job(spec, workload, str(tmp_path), "cpu", timeout, path=(str(models),))

    return make


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
    finished = {
        name: [step for step, _ in groupby(told) if step[0]] for name, told in steps.items()
    }
    assert finished["inprocess"] == finished["child"] * 2 == [(i, 6) for i in range(1, 7)] * 2
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


def test_a_device_that_the_child_does_not_have_is_refused(job):
    with pytest.raises(BadSetting, match="counts its own leased devices from 0"):
        ChildProcess().run(replace(job("quiet"), device="cuda:3"))


def test_a_device_without_a_driver_is_the_machines_fault(job, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(InfraError, match="--vdb-device=cpu"):
        ChildProcess().run(replace(job("quiet"), device="cuda"))
