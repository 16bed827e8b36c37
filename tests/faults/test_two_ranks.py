"""An engine of two cooperating processes: its leases and figures, and that it leaves nothing.

The engine is the example's; where one of the two dies, with a pipeline of a few lines.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from pytest_vdb.errors import GenerationTimeout, InfraError, SourceError
from pytest_vdb.measure.child import ChildProcess
from pytest_vdb.measure.runner import Job
from pytest_vdb.models.open import open_source
from pytest_vdb.parallel.lease import Lease, usable_cores
from pytest_vdb.records import ModelSpec, Prompt, Workload
from tests.conftest import LEAN

EXAMPLE = Path(__file__).parents[2] / "examples/two-ranks"
CALL = {"num_frames": 5, "height": 32, "width": 32, "num_inference_steps": 2}
ONE = {"num_threads": 1}

pytestmark = pytest.mark.skipif(
    len(usable_cores()) < 2, reason="two ranks need two cores that this process may use"
)

BASE = "from engine import TwoRanks\n"
FAULTY = """
import os, signal, threading
from pathlib import Path

PIDS = Path(__file__).parent / "pids"


class Faulty(TwoRanks):
    def __call__(self, prompt, **arguments):
        harm = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}.get(prompt)
        if harm is not None:
            PIDS.write_text(f"{os.getpid()} {self.worker.pid}")
            arguments["num_inference_steps"] = 10000  # it is in the middle of them when it happens
            threading.Timer(0.5, os.kill, (self.worker.pid, harm)).start()
        return super().__call__(prompt, **arguments)


def build(num_threads):
    return Faulty(num_threads)
"""

PIPELINE = "from pytest_vdb.models.embedded import tiny_wan\n"
LIGHT = """
class tiny_wan:
    \"\"\"Noise that one call of a transformer a step makes less, without diffusers.\"\"\"

    def __init__(self):
        self.transformer = torch.nn.Identity()

    def encode_prompt(self, prompt, *rest, **more):
        return torch.zeros(1), None

    def __call__(self, *, generator, num_frames, height, width, num_inference_steps,
                 callback_on_step_end, **more):
        video = torch.rand((num_frames, height, width, 3), generator=generator)
        for step in range(num_inference_steps):
            video = 0.9 * video + 0.1 * self.transformer((video,))[0].clamp(0, 1)
            time.sleep(0.001)
            callback_on_step_end(self, step, 0, {})
        self.frames = [video.numpy()]
        return self
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the repository under test."""
    folder = tmp_path_factory.mktemp("repository")
    engine = (EXAMPLE / "engine.py").read_text()
    assert PIPELINE in engine
    (folder / "engine.py").write_text(engine)
    (folder / "faulty_two_ranks.py").write_text(BASE + FAULTY)
    # In one file that imports no other: diffusers is imported for whatever may need it.
    (folder / "faulty_light.py").write_text(engine.replace(PIPELINE, LIGHT) + FAULTY)
    return folder


@pytest.fixture
def pids(repository: Path) -> Callable[[], list[int]]:
    """The two ranks of the engine that was harmed."""
    (repository / "pids").unlink(missing_ok=True)
    return lambda: [int(pid) for pid in (repository / "pids").read_text().split()]


@pytest.fixture
def job(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Job]:
    """Makes a job of the engine; nobody else holds locks where it looks for them."""
    locks = tmp_path / "locks"
    locks.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(locks))

    def make(
        *prompts: str,
        timeout: float | None = None,
        seeds: tuple[int, ...] = (7,),
        module: str = "faulty_light",
    ) -> Job:
        spec = ModelSpec("pair", "factory", f"{module}:build", options=ONE, devices=2)
        asked = tuple(Prompt(prompt, prompt) for prompt in prompts)
        workload = Workload(asked, seeds, CALL, options=ONE)
        return Job(spec, workload, str(tmp_path / "run"), timeout=timeout, path=(str(repository),))

    return make


def all_gone(pids: list[int], within: float = 0.0) -> bool:
    deadline = time.monotonic() + within
    while True:
        alive = [p for p in pids if psutil.pid_exists(p)]
        running = [p for p in alive if psutil.Process(p).status() != psutil.STATUS_ZOMBIE]
        if not running or time.monotonic() >= deadline:
            return not running
        time.sleep(0.02)


def test_two_ranks_hold_two_cores_report_both_and_end_at_a_timeout(
    job: Callable[..., Job], pids: Callable[[], list[int]]
) -> None:
    """The child that made the first job's videos is asked for more, and hangs."""
    runner = ChildProcess(keep=True)
    held: dict[int, list[int]] = {}

    def look(done: int, total: int) -> None:
        """Whether the cores can be leased when a sample is finished, and who computes."""
        if not done or done in held:
            return
        free = len(usable_cores()) - 2
        with pytest.raises(InfraError, match="did not become free"):
            Lease(free + 1, wait=0, kind="cpu").__enter__()
        with Lease(free, wait=0, kind="cpu"):
            pass
        ranks = psutil.Process().children(recursive=True)
        held[done] = [len(p.cpu_affinity()) for p in ranks if "spawn_main" in str(p.cmdline())]

    whole = partial(job, module="faulty_two_ranks")
    asked = whole("a red fox", seeds=(0, 1))
    run = runner.run(asked, look)
    assert held == {1: [2], 2: [2]}  # rank 1 keeps to the two leased cores, in both samples
    assert {"stages", "memory"} <= run.provides
    assert run.cpu_peak is None  # nothing is traced in one process of two
    for sample in run.samples:
        assert sample.memory["allocated"] == max(sample.memory[f"rank.{n}"] for n in (0, 1))
        assert min(sample.memory.values()) > 50e6  # Python with torch
        assert sample.wall > 0
        assert sum(sample.stages.values()) == pytest.approx(sample.wall, rel=0.01)
        assert len(sample.steps) == 2

    single = open_source(ModelSpec("one", "factory", "pytest_vdb.models.embedded:tiny_wan"))
    (prompt, seed), sample = asked.workload.jobs[1], run.samples[1]
    alone = np.rint(single.generate(prompt, seed, CALL).frames * 255)
    assert np.abs(np.load(sample.frames) - alone).max() <= 1

    # Rank 1 is stopped, so that rank 0 waits for it in a collective, deep in C.
    with pytest.raises(GenerationTimeout, match="prompt 'stop' with seed 7"):
        runner.run(whole("quiet", "stop", timeout=6))
    assert runner.loads == 1
    assert len(pids()) == 2
    assert all_gone(pids())
    with Lease(len(usable_cores()), wait=0, kind="cpu"):
        pass


def test_the_end_of_one_rank_ends_the_run_and_the_other(
    job: Callable[..., Job], pids: Callable[[], list[int]], tmp_path: Path
) -> None:
    started = time.monotonic()
    with pytest.raises(SourceError) as caught:
        ChildProcess().run(job("quiet", "kill", timeout=60))
    assert time.monotonic() - started < 60
    assert "the generation of prompt 'kill' with seed 7 of model 'pair'" in str(caught.value)
    assert "rank 1 ended with status -9" in str(caught.value)
    assert len(pids()) == 2
    assert all_gone(pids())
    assert (tmp_path / "run/0000-frames.npy").exists()  # that of the sample before


def test_a_killed_pytest_leaves_neither_rank(
    job: Callable[..., Job], pids: Callable[[], list[int]], repository: Path
) -> None:
    code = (
        "import json, sys; from pytest_vdb.measure.child import ChildProcess; "
        "from pytest_vdb.measure.runner import Job; "
        "ChildProcess().run(Job.from_json(json.loads(sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, json.dumps(job("stop").to_json())]
    folder = {"TMPDIR": str(repository)}  # for its locks
    parent = subprocess.Popen(command, env={**os.environ, **folder})
    try:
        deadline = time.monotonic() + 60
        while not (repository / "pids").exists() or len(pids()) < 2:
            assert parent.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert not any(all_gone([pid]) for pid in pids())
    finally:
        parent.kill()
        parent.wait()
    assert all_gone(pids(), within=5)


def test_the_example_runs_as_its_readme_says(tmp_path: Path) -> None:
    folder = tmp_path / "two-ranks"
    folder.mkdir()
    for file in EXAMPLE.iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    env = {key: value for key, value in os.environ.items() if key != "CI"}
    command = [sys.executable, "-m", "pytest", *LEAN, "-q"]
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
