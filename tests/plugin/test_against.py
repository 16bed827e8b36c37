"""``--vdb-against``: what the stored baseline leaves open is run beside the base's own code.

One process pair (``vdb_ab_processes = 1``) convicts a change as large as these. The models are
engines that sleep, in real processes of both sides.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from pytest_vdb.environment import cpu_count
from pytest_vdb.records import Environment

ENGINE = """
import time
import numpy as np
{top}

def build():
    def engine(prompt, *, seed, num_frames=5, height=32, width=32, num_inference_steps=2, **more):
        noise = np.random.default_rng([seed, len(prompt)]).random((num_frames, height, width, 3))
        time.sleep(0.04)
        said = {{"frames": noise.astype(np.float32), "memory": {{"allocated": 2**30}}}}
        {change}
        return said
    return engine
"""
CONFTEST = """
def pytest_vdb_models():
    from pytest_vdb import ModelSpec
    size = dict(num_frames=5, height=32, width=32, num_inference_steps=2)
    return [ModelSpec("engine", "factory", "engine:build", call=size, devices={devices})]
"""
BENCH = """
import pytest
pytestmark = pytest.mark.vdb(prompts=["a red fox", "a blue boat"])

def test_cost(vdb):
    assert vdb.latency.median < 9
    assert vdb.memory.peak < 2**34

def test_quality(vdb):
    assert vdb.score("sharpness").mean > 0
    assert vdb.score("ssim").mean > -1
"""


class Repo:
    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.root = pytester.path
        self.devices(1)
        (self.root / "pytest.ini").write_text("[pytest]\nvdb_ab_processes = 1\n")
        (self.root / "benchmarks").mkdir()
        (self.root / "benchmarks" / "test_engine.py").write_text(BENCH)
        self.engine()
        self.git("init", "--quiet")
        self.git("add", "-A")
        self.git("commit", "--quiet", "-m", "base")

    def devices(self, count: int) -> None:
        (self.root / "conftest.py").write_text(CONFTEST.format(devices=count))

    def engine(self, change: str = "pass", top: str = "") -> None:
        (self.root / "engine.py").write_text(ENGINE.format(change=change, top=top))

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(self.root), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def run(self, *args: str) -> pytest.RunResult:
        return self.pytester.runpytest_inprocess(
            *("-p", "no:cacheprovider", "benchmarks", "--vdb-model=engine", "--vdb-json=run.json"),
            *args,
        )

    def told(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Verdicts by measurement, and what ran side by side."""
        tests = json.loads((self.root / "run.json").read_text())["tests"]
        verdicts = {m["name"]: m["verdict"] for test in tests for m in test["measurements"]}
        trials = [test["beside"] for test in tests if test["beside"]]
        return verdicts, trials[0] if trials else {}


@pytest.fixture
def repo(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: Any) -> Repo:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("CI", raising=False)
    return Repo(pytester)


def test_slower_larger_and_worse_than_the_base(repo: Repo) -> None:
    repo.engine(
        "time.sleep(0.04); said['memory']['allocated'] *= 2; "
        "said['frames'] = said['frames'] * 0.5 + 0.25"
    )
    result = repo.run("--vdb-against=HEAD")
    result.assert_outcomes(failed=2)
    verdicts, trial = repo.told()
    assert {name: v["state"] for name, v in verdicts.items()} == {
        "latency": "REGRESSION",
        "memory.peak": "REGRESSION",
        "sharpness": "REGRESSION",
        "ssim": "PASS",  # a distance: it shows, and convicts nobody
    }
    assert 0.7 < verdicts["latency"]["effect"] < 1.3
    assert verdicts["memory.peak"]["effect"] == pytest.approx(1)
    assert verdicts["sharpness"]["effect"] == pytest.approx(-0.75, abs=0.01)
    assert (trial["pairs"], trial["loads"]) == (1, 2)
    ((blocks,),) = trial["ratios"].values()  # of latency, its one pair
    assert len(blocks) == 5
    assert trial["commit"] == repo.git("rev-parse", "HEAD")
    assert str(repo.root) in trial["code"]["candidate"]["engine"]
    assert str(repo.root) not in trial["code"]["base"]["engine"]
    result.stdout.fnmatch_lines(
        [
            "vdb: HEAD (*) beside engine: 2 loads, about *",
            "*REGRESSION latency: *Slower than the base side by side (1 process pair)*",
            "*REGRESSION sharpness: *against HEAD (*",
            "engine beside HEAD (*): 1 process pair, 2 loads, * s",
            "  engine: */engine.py against */engine.py",
        ]
    )


@pytest.mark.skipif(cpu_count() < 2, reason="needs two cores")
def test_the_same_code_is_cleared_without_a_stored_baseline(repo: Repo) -> None:
    repo.devices(2)  # the candidate's child holds both cores, until the base needs them
    repo.engine("pass  # a comment")
    repo.run("--vdb-against=HEAD", "--vdb-tolerance=latency=40%").assert_outcomes(passed=2)
    verdicts, _ = repo.told()
    assert {name: v["state"] for name, v in verdicts.items()} == {
        "latency": "PASS",
        "memory.peak": "IDENTICAL",
        "sharpness": "IDENTICAL",
        "ssim": "IDENTICAL",
    }


def test_what_the_stored_baseline_clears_costs_nothing(repo: Repo) -> None:
    repo.run("--vdb-update", "--vdb-tolerance=latency=off").assert_outcomes(passed=2)
    result = repo.run("--vdb-against=HEAD", "--vdb-tolerance=latency=off")
    result.assert_outcomes(passed=2)
    assert repo.told()[1] == {}


def test_the_tolerance_of_a_near_machine_is_not_the_bases(repo: Repo) -> None:
    repo.run("--vdb-update", "-k", "quality").assert_outcomes(passed=1)
    [path] = (repo.root / "baselines").glob("*/*/*.json")
    data = json.loads(path.read_text())
    for workload in data["workloads"].values():
        for session in workload["measurements"]["sharpness"]["sessions"].values():
            session.update({key: 2 * value for key, value in session.items()})
    data["environment"]["pool"] = "lab"
    path.unlink()
    target = path.parents[1] / Environment(data["environment"]).key / path.name
    target.parent.mkdir()
    target.write_text(json.dumps(data))
    result = repo.run("--vdb-against=HEAD", "-k", "quality")
    result.assert_outcomes(passed=1)
    verdict = repo.told()[0]["sharpness"]
    assert verdict["state"] == "IDENTICAL"
    assert (verdict["tolerance"], verdict["against"]) == ("2%", "")
    assert verdict["reason"].endswith("the stored baseline alone: REGRESSION")


def test_a_base_that_does_not_import_leaves_the_verdict_open_and_says_why(repo: Repo) -> None:
    repo.engine(top="from numpy import no_such_kernel")
    repo.git("commit", "--quiet", "-am", "broken")
    repo.engine()
    repo.run("--vdb-against=HEAD", "--vdb-missing=fail", "-k", "cost").assert_outcomes(failed=1)
    verdicts, trial = repo.told()
    assert {v["state"] for v in verdicts.values()} == {"NO_BASELINE"}
    reason = verdicts["latency"]["reason"]
    assert "not run side by side: SourceError: HEAD (" in reason
    assert "cannot import name 'no_such_kernel'" in reason
    assert trial["pairs"] == 0


def test_a_base_that_crashes_halfway_leaves_the_verdict_open_and_says_how_far_it_came(
    repo: Repo,
) -> None:
    repo.engine("calls.append(seed); len(calls) > 2 and os._exit(3)", top="import os; calls = []")
    repo.git("commit", "--quiet", "-am", "crashes at the second of its samples, after the warm-up")
    repo.engine()
    alone = ("-k", "cost", "--vdb-tolerance=latency=off")  # one process is all that runs
    repo.run("--vdb-against=HEAD", "--vdb-missing=fail", *alone).assert_outcomes(failed=1)
    verdict = repo.told()[0]["memory.peak"]
    assert (verdict["state"], verdict["consequence"]) == ("NO_BASELINE", "fail")
    reason = verdict["reason"]
    assert "; the base did not run: the child process of model 'engine' exited with" in reason
    assert " status 3, " in reason
    assert "; 1 of 2 samples were finished, " in reason


def test_a_model_in_a_folder_that_the_base_lacks_keeps_its_verdicts(repo: Repo) -> None:
    (repo.root / "new").mkdir()
    for name in ("conftest.py", "engine.py", "benchmarks"):
        (repo.root / name).rename(repo.root / "new" / name)
    result = repo.pytester.runpytest_inprocess(
        *("-p", "no:cacheprovider", "--rootdir=new", "new/benchmarks", "--vdb-model=engine"),
        *(f"--vdb-json={repo.root}/run.json", "--vdb-against=HEAD"),
    )
    result.assert_outcomes(passed=2)  # a missing baseline warns here
    verdicts, _ = repo.told()
    assert {v["state"] for v in verdicts.values()} == {"NO_BASELINE"}
    reason = verdicts["latency"]["reason"]
    assert reason.endswith("the base did not run: --vdb-against=HEAD has no folder new/")


def test_a_budget_that_is_too_small_is_said_before_anything_runs(repo: Repo) -> None:
    result = repo.run("--vdb-against=HEAD", "--vdb-budget=1s", "-k", "cost")
    result.assert_outcomes(passed=1)  # a missing baseline warns here
    verdicts, trial = repo.told()
    assert "--vdb-budget leaves 1 s" in verdicts["latency"]["reason"]
    assert trial["loads"] == 0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--vdb-against=nowhere"], "--vdb-against=nowhere: *no such ref or folder*"),
        (["--vdb-base=nowhere"], "--vdb-against=nowhere: *no such ref or folder*"),
        (["--vdb-against=python:~no/one"], "*python:~no/one: no interpreter at */~no/one or *"),
        (["--vdb-against=."], "--vdb-against=. is the candidate's own folder*"),
        (["--vdb-base-setup=make"], "*about the base's runs; name it with --vdb-against"),
        (["--vdb-budget=20min"], "--vdb-budget is about *; name it with --vdb-against"),
        (["--vdb-ab-processes=3"], "--vdb-ab-processes is about *; name it with --vdb-against"),
        (["--vdb-ab-steps=4"], "--vdb-ab-steps is about *; name it with --vdb-against"),
        (["--vdb-update", "--vdb-against=HEAD"], "*asks no base; leave --vdb-against out"),
        (["--vdb-budget=soon"], "--vdb-budget: 'soon' is no duration*"),
    ],
)
def test_what_cannot_be_meant_ends_the_run_before_collection(
    repo: Repo, args: list[str], words: str
) -> None:
    result = repo.run(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {words}"])
