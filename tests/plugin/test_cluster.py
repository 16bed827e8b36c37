"""``--vdb-cluster``: a real Ray makes the same videos and verdicts as this process."""

from __future__ import annotations

import os
import socket
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import pytest_vdb.clustered
import pytest_vdb.measure.cluster  # pytester forgets what an inner run imports
import pytest_vdb.scorers.fan
from pytest_vdb.environment import cpu_count
from pytest_vdb.parallel.cluster import _gone, _private
from tests.conftest import ended

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install pytest-vdb[ray]"),
    pytest.mark.usefixtures("joined"),
]

BENCH = """
def test_quality(vdb):
    assert vdb.score("sharpness").mean > 0
    assert vdb.score("ssim").min > 0.9

def test_cost(vdb):
    assert vdb.latency.median > 0
    assert vdb.memory.cpu_peak > 2**20
    assert vdb.load.median > 0
"""
FOUR = "prompts=['a red fox', 'a blue boat'], num_seeds=2, num_inference_steps=2"
NOTED = """
import os, signal, time
from pathlib import Path
class Noted(type(pipeline)):
    def __call__(self, prompt, *a, **k):
        seed = k["generator"].initial_seed()
        with open("made.txt", "a") as file:
            file.write(f"{os.getpid()} {prompt}/{seed}\\n")
        CHANGE
        return super().__call__(prompt, *a, **k)
pipeline.__class__ = Noted
"""
KILLED = """if (prompt, seed) == ("a blue boat", 0) and not os.path.exists("killed.txt"):
            Path("killed.txt").write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(1)  # so that both are at work when one of them dies"""
LATE = """
if os.path.exists("killed.txt"):  # it takes a dead one's place
    Path("late.txt").write_text(str(os.getpid()))
    time.sleep(600)
"""


def made(root: Path) -> list[tuple[int, str]]:
    """(process, sample) of every generation, in order."""
    lines = (root / "made.txt").read_text().splitlines()
    return [(int(pid), sample) for pid, sample in (line.split(" ", 1) for line in lines)]


@pytest.mark.skipif(cpu_count() < 2, reason="needs two cores")
def test_the_same_verdicts_also_where_an_actor_is_killed(suite: Any) -> None:
    """Whoever takes its place is not waited for when the other one has made the rest."""
    suite.write(BENCH, FOUR)
    suite.model(NOTED.replace("CHANGE", "pass"))
    here = suite.json("--vdb-update")
    (suite.root / "made.txt").unlink()
    suite.model(NOTED.replace("CHANGE", KILLED) + LATE)

    there = suite.json("--vdb-cluster=local", "--vdb-actors=2")

    assert [test["outcome"] for test in there["tests"]] == ["passed", "passed"]
    numbers = [
        {m["name"]: m["samples"] for test in run["tests"] for m in test["measurements"]}
        for run in (here, there)
    ]
    for name in ("sharpness", "memory.cpu_peak"):
        assert numbers[0][name] == numbers[1][name]
    assert len(numbers[1]["sharpness"]) == len(numbers[1]["latency"]) == 4
    states = {m["name"]: m["verdict"]["state"] for t in there["tests"] for m in t["measurements"]}
    assert states["sharpness"] == states["ssim"] == "IDENTICAL"
    assert states["memory.cpu_peak"] == "NO_BASELINE"  # costs of one of two actors, not alone
    killed = int((suite.root / "killed.txt").read_text())
    pids = {pid for pid, _ in made(suite.root)}
    assert len(pids) == 2
    assert os.getpid() not in pids
    late = suite.root / "late.txt"  # if it came so far
    hired = [int(late.read_text())] if late.exists() else []
    assert all(ended(pid) for pid in {*pids, *hired, killed})


def test_actors_are_as_urgent_as_this_process() -> None:
    """Else what is timed in one waits for whoever else computes here."""
    import ray

    assert ray.get(ray.remote(lambda: os.nice(0)).remote()) == os.nice(0)


NOTES = """import os, signal, time
    with open("made.txt", "a") as file:
        file.write(f"{os.getpid()} {prompt}/{seed}\\n")
    """
DIES = """if prompt == "a blue boat" and not os.path.exists("killed.txt"):
        open("killed.txt", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)"""


def test_a_killed_actors_place_is_taken(suite: Any) -> None:
    """Where no other is left, a new one goes on; an answer may die with who gave it."""
    suite.write(BENCH, FOUR)
    suite.engine(NOTES + DIES)
    run = suite.json("--vdb-cluster=local", "--vdb-actors=1", "-k", "quality")
    [sharpness] = [m for m in run["tests"][0]["measurements"] if m["name"] == "sharpness"]
    assert len(sharpness["samples"]) == 4
    samples: dict[int, list[str]] = {}
    for pid, sample in made(suite.root):
        samples.setdefault(pid, []).append(sample)
    warm_up, *others = [f"a {what}/{seed}" for what in ("red fox", "blue boat") for seed in (0, 1)]
    first, second = samples.values()
    assert first == [warm_up, warm_up, *others[:2]]
    assert second in ([warm_up, *others[1:]], [warm_up, *others])


def hung(suite: Any, change: str) -> None:
    """A model that never ends its first call, after ``change``."""
    suite.write(BENCH)
    suite.engine(f"{NOTES}{change}\n    time.sleep(600)")


def test_an_actor_that_hangs_is_killed(suite: Any) -> None:
    hung(suite, "pass")
    result = suite.run("--vdb-cluster=local", "--vdb-actors=1", "--vdb-timeout=8s", "-k", "quality")
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(["*GenerationTimeout: the warm-up generation*longer than 8 s*"])
    [(pid, _)] = made(suite.root)
    assert ended(pid)


def test_ctrl_c_ends_the_actors(suite: Any) -> None:
    hung(suite, f"os.kill({os.getpid()}, signal.SIGINT)")
    command = ["benchmarks", "--vdb-model=model_under_test:build", "-k", "quality"]
    here = ["-p", "no:cacheprovider", "--vdb-cluster=local", "--vdb-actors=1"]
    result = suite.pytester.inline_run(*here, *command, no_reraise_ctrlc=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    [(pid, _)] = made(suite.root)
    assert ended(pid)


WIDE = """
def pytest_vdb_models():
    from pytest_vdb import ModelSpec
    return [ModelSpec("wide", "factory", "model_under_test:build", devices=9999)]
"""


def test_no_room_ends_the_run_before_the_first_test(suite: Any) -> None:
    suite.write(BENCH)
    (suite.root / "conftest.py").write_text(WIDE)
    result = suite.pytester.runpytest_inprocess(
        "-p", "no:cacheprovider", "benchmarks", "--vdb-model=wide", "--vdb-cluster=local"
    )
    assert result.ret == pytest_vdb.clustered.EXIT_INFRA
    result.stdout.fnmatch_lines(["*INFRA_ERROR: wide needs 9999 cores on one node of a local*"])


def test_nobody_listens(suite: Any) -> None:
    suite.write(BENCH)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        start = time.monotonic()
        address = f"ray://127.0.0.1:{free.getsockname()[1]}"
        result = suite.run(f"--vdb-cluster={address}", "--vdb-json=run.json")
    assert result.ret == pytest_vdb.clustered.EXIT_INFRA
    assert time.monotonic() - start < 10
    result.stdout.fnmatch_lines(["*INFRA_ERROR: the Ray cluster ray://*does not answer*refused*"])


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--vdb-cluster=there"], "--vdb-cluster: 'there' is no cluster; write local, auto*"),
        (["--vdb-actors=2"], "--vdb-actors is a limit of --vdb-cluster*"),
        (["--vdb-metric-device=cluster"], "*the cluster of --vdb-cluster: add that, such as*local"),
        (["--vdb-cluster=local", "-n2"], "*spreads the samples itself: leave -n out"),
        (["--vdb-cluster=local", "--vdb-runner=child"], "*runner 'child' generates in this*"),
        (["--vdb-cluster=auto", "--vdb-against=HEAD"], "*--vdb-against runs both sides on this*"),
    ],
    ids=["no-address", "alone", "metrics-alone", "xdist", "runner", "against"],
)
def test_what_cannot_go_together(suite: Any, args: list[str], words: str) -> None:
    suite.write(BENCH)
    result = suite.run(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {words}"])


@pytest.mark.parametrize(
    ("error", "gone"),
    [
        ("Exception('Ray Client is not connected')", True),
        ("ConnectionError('the client has already been disconnected')", True),
        ("OSError('Broken pipe')", True),
        ("grpc.RpcError()", True),
        ("RaySystemError('Ray has not been started yet')", True),
        ("OutOfDiskError()", False),
        ("OSError(28, 'No space left')", False),
        ("ValueError()", False),
    ],
    ids=["client", "connection", "core", "grpc", "unconnected", "disk", "own-disk", "other"],
)
def test_what_ray_raises_without_a_cluster(error: str, gone: bool) -> None:
    import grpc
    from ray.exceptions import OutOfDiskError, RaySystemError

    names = {"grpc": grpc, "OutOfDiskError": OutOfDiskError, "RaySystemError": RaySystemError}
    assert _gone(eval(error, names)) == gone


def test_where_ray_was_imported_before_it_makes_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process would not send one of ours."""
    monkeypatch.delenv("RAY_AUTH_MODE")
    assert "RAY_AUTH_TOKEN" not in _private()
    monkeypatch.delitem(sys.modules, "ray")
    assert len(_private()["RAY_AUTH_TOKEN"]) == 64
