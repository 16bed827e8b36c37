"""With and without xdist: the same verdicts, one results file."""

import json

import pytest

BENCH = """
def test_quality(vdb):
    assert vdb.score("sharpness").mean > 0

def test_similarity(vdb):
    assert vdb.score("ssim").min > 0.9

def test_memory(vdb):
    assert vdb.memory.peak < 1

def test_worse(vdb):
    assert vdb.score("motion_energy").mean > 0
"""


OUTCOMES = {
    "test_quality": "passed",
    "test_similarity": "passed",
    "test_memory": "skipped",
    "test_worse": "failed",
}


@pytest.fixture
def worse(suite):
    """A suite with a baseline, of which one measurement regressed."""
    suite.write(BENCH)
    suite.store()
    suite.scale("motion_energy", 2.0)
    return suite


def judged(suite, result):
    """Outcome by test of a run with ``--vdb-json=run.json``, whose verdicts are the same always."""
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*REGRESSION motion_energy*"])
    run = json.loads((suite.root / "run.json").read_text())
    states = {m["name"]: m["verdict"]["state"] for t in run["tests"] for m in t["measurements"]}
    assert states == {
        "sharpness": "IDENTICAL",
        "ssim": "IDENTICAL",
        "memory.peak": "NOT_APPLICABLE",
        "motion_energy": "REGRESSION",
    }
    assert not list(suite.root.glob("run.json?*"))
    names = [t["nodeid"].rpartition("::")[2].partition("[")[0] for t in run["tests"]]
    assert len(names) == len(set(names))
    return dict(zip(names, (t["outcome"] for t in run["tests"]), strict=True))


@pytest.mark.parametrize("workers", [("-n0",), ("-p", "no:xdist")], ids="_".join)
def test_same_verdicts_and_one_file(worse, workers):
    result = worse.run("--vdb-json=run.json", *workers)
    result.assert_outcomes(passed=2, skipped=1, failed=1)
    assert judged(worse, result) == OUTCOMES


def test_an_update_from_workers_is_written_once(suite):
    suite.write(BENCH)
    suite.run("-n2", "--vdb-update").assert_outcomes(passed=3, skipped=1)
    (path,) = suite.baselines
    (workload,) = json.loads(path.read_text())["workloads"].values()
    assert sorted(workload["measurements"]) == ["motion_energy", "sharpness"]
    assert suite.states("--vdb-missing=fail")["ssim"] == "IDENTICAL"


def test_two_workers_and_one_that_is_killed_lose_one_test_and_no_verdict(worse):
    """The verdicts are those of one process, and all results lie in one file."""
    worse.write(BENCH + "\ndef test_kill():\n    import os\n    os._exit(1)\n")
    result = worse.run("-n2", "--vdb-json=run.json")
    result.assert_outcomes(passed=2, skipped=1, failed=2)
    result.stdout.fnmatch_lines(["*test_kill*"])
    assert judged(worse, result) == {**OUTCOMES, "test_kill": "failed"}


def test_usage_errors_read_the_same(suite):
    suite.write(BENCH, "num_step=3")
    result = suite.run("-n2")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*no argument 'num_step'*"])
