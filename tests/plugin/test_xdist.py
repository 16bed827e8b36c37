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


@pytest.mark.parametrize("workers", [("-n0",), ("-n2",), ("-p", "no:xdist")], ids="_".join)
def test_same_verdicts_and_one_file(suite, workers):
    suite.write(BENCH)
    suite.run("--vdb-update").assert_outcomes(passed=3, skipped=1)
    suite.scale("motion_energy", 2.0)
    result = suite.run("--vdb-json=run.json", *workers)
    result.assert_outcomes(passed=2, skipped=1, failed=1)
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
    assert len(run["tests"]) == 4
    assert not list(suite.root.glob("run.json?*"))


def test_an_update_from_workers_is_written_once(suite):
    suite.write(BENCH)
    suite.run("-n2", "--vdb-update").assert_outcomes(passed=3, skipped=1)
    (path,) = suite.baselines
    (workload,) = json.loads(path.read_text())["workloads"].values()
    assert sorted(workload["measurements"]) == ["motion_energy", "sharpness"]
    assert suite.states("--vdb-missing=fail")["ssim"] == "IDENTICAL"


def test_a_killed_worker_loses_one_test_and_no_results(suite):
    suite.write(BENCH + "\ndef test_kill():\n    import os\n    os._exit(1)\n")
    result = suite.run("-n2", "--vdb-json=run.json")
    result.stdout.fnmatch_lines(["*test_kill*"])
    assert result.ret == 1
    run = json.loads((suite.root / "run.json").read_text())
    outcomes = {
        t["nodeid"].rpartition("::")[2].partition("[")[0]: t["outcome"] for t in run["tests"]
    }
    assert outcomes == {
        "test_quality": "passed",
        "test_similarity": "passed",
        "test_memory": "skipped",
        "test_worse": "passed",
        "test_kill": "failed",
    }


def test_usage_errors_read_the_same(suite):
    suite.write(BENCH, "num_step=3")
    result = suite.run("-n2")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*no argument 'num_step'*"])
