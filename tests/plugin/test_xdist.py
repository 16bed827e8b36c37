"""With and without xdist: the same verdicts, one results file, and workers that die."""

import json
import re
from collections import Counter

import pytest

from pytest_vdb.environment import cpu_count
from tests.conftest import LEAN

pytestmark = pytest.mark.usefixtures("engine")

BENCH = """
def test_quality(vdb):
    assert vdb.score("sharpness").mean > 0

def test_similarity(vdb):
    assert vdb.score("ssim").min > 0.9

def test_memory(vdb):
    assert vdb.memory.peak < 1

def test_worse(vdb):
    assert vdb.score("motion_energy").mean > 0

@pytest.mark.parametrize("number", range(4))
def test_plain(number):
    pass
"""
KILLED = """
def test_kill():
    import os, signal
    os.kill(os.getpid(), signal.SIGKILL)
"""
OUTCOMES = {
    "test_quality": "passed",
    "test_similarity": "passed",
    "test_memory": "skipped",
    "test_worse": "failed",
}
MODELS = """
def pytest_vdb_models():
    from pytest_vdb import ModelSpec
    size = {"num_frames": 5, "height": 32, "width": 32}
    more = {"call": size, "options": {"num_threads": 1}}
    return [ModelSpec(f"m{i}", "factory", "model_under_test:build", **more) for i in range(3)]
"""
WHO = """
import os
import pytest

@pytest.mark.xdist_group("g")
def test_one(vdb, request):
    assert vdb.score("sharpness").mean > 0
    print(f"<{request.node.callspec.id} on {os.environ.get('PYTEST_XDIST_WORKER', 'here')}>")

def test_two(vdb, request):
    assert vdb.score("sharpness").mean > 0
    print(f"<{request.node.callspec.id} on {os.environ.get('PYTEST_XDIST_WORKER', 'here')}>")
"""
CLOSED = """

def _log(change):
    import os
    with open(os.path.join(os.path.dirname(__file__), "log.txt"), "a") as file:
        file.write(f"{os.getpid()} {change}\\n")

open_engine = build

def build(*args, **options):
    engine = open_engine(*args, **options)
    _log("+1")
    engine.close = lambda: _log("-1")
    return engine
"""


@pytest.fixture
def worse(suite):
    """A suite with a baseline, of which one measurement regressed."""
    suite.write(BENCH)
    suite.store()
    suite.scale("motion_energy", 2.0)
    return suite


def judged(suite, result):
    """Outcomes and states by test of a run with ``--vdb-json=run.json``, and its quality values."""
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*REGRESSION motion_energy*"])
    run = json.loads((suite.root / "run.json").read_text())
    measured = {m["name"]: m for t in run["tests"] for m in t["measurements"]}
    assert {name: m["verdict"]["state"] for name, m in measured.items()} == {
        "sharpness": "IDENTICAL",
        "ssim": "IDENTICAL",
        "memory.peak": "NOT_APPLICABLE",
        "motion_energy": "REGRESSION",
    }
    assert not list(suite.root.glob("run.json?*"))
    names = [t["nodeid"].rpartition("::")[2].partition("[")[0] for t in run["tests"]]
    assert len(names) == len(set(names))
    values = {name: m["samples"] for name, m in measured.items()}
    return dict(zip(names, (t["outcome"] for t in run["tests"]), strict=True)), values


def test_same_verdicts_and_values_for_any_number_of_workers(worse):
    found = []
    for workers in (["-p", "no:xdist"], ["-n0"], ["-n1"], ["-n2"], ["-n4"]):
        result = worse.run("--vdb-json=run.json", *workers)
        result.assert_outcomes(passed=6, skipped=1, failed=1)
        outcomes, values = judged(worse, result)
        assert outcomes == OUTCOMES
        found.append(values)
    assert all(values == found[0] for values in found)


def test_an_update_from_workers_is_written_once_and_says_how_many_there_were(suite):
    """A latency that is compared with that of another number of workers says so."""
    speed = "def test_speed(vdb):\n    assert vdb.latency.median < 100\n"
    suite.write(BENCH + (speed if cpu_count() > 1 else ""))
    (suite.root / "conftest.py").write_text(MODELS)
    command = [*LEAN, "benchmarks", "--vdb-model=m0", "--vdb-json=run.json"]
    run, file = suite.pytester.runpytest_inprocess, suite.root / "run.json"
    run(*command, "-n2", "--vdb-update").assert_outcomes(
        passed=7 + bool(cpu_count() > 1), skipped=1
    )
    assert json.loads(file.read_text())["environment"]["facts"]["workers"] == "2"
    files = [json.loads(path.read_text())["workloads"].values() for path in suite.baselines]
    stored = sorted(name for (workload,) in files for name in workload["measurements"])
    assert [name for name in stored if name != "latency"] == ["motion_energy", "sharpness"]
    run(*command, "--vdb-missing=fail", "--vdb-tolerance=latency=50%")
    tests = json.loads(file.read_text())["tests"]
    verdicts = {m["name"]: m["verdict"] for t in tests for m in t["measurements"]}
    assert verdicts["ssim"]["state"] == "IDENTICAL"
    if cpu_count() > 1:  # each of the two workers had a core of its own
        assert "workers at a time: 1, and 2 in the" in verdicts["latency"]["reason"]


def test_workers_that_are_killed_lose_their_tests_and_no_verdict(worse):
    """In a plain test and in one of a pipeline: each is reported once, all others go on."""
    worse.write("def test_exit(vdb):\n    import os\n    os._exit(1)\n" + BENCH + KILLED)
    result = worse.run("-n2", "--vdb-json=run.json")
    result.assert_outcomes(passed=6, skipped=1, failed=3)
    assert result.stdout.str().count("crashed while running") == 2
    lost = {"test_kill": "failed", "test_exit": "failed"}
    assert judged(worse, result)[0] == {**OUTCOMES, **lost}


def test_a_pipeline_stays_on_one_worker_whatever_dist_says(suite):
    """And node ids are those of a run without workers."""
    suite.write(WHO)
    (suite.root / "conftest.py").write_text(MODELS)
    models = [f"--vdb-model=m{i}" for i in range(3)]
    result = suite.pytester.runpytest_inprocess(
        *(*LEAN, "benchmarks", "-n2", "--dist=loadgroup", "-rP", *models),
        "--vdb-json=run.json",
    )
    result.assert_outcomes(passed=6)
    pairs = re.findall(r"<(m\d) on (gw\d)>", result.stdout.str())
    assert len(pairs) == 6
    assert len(set(pairs)) == 3
    assert {worker for _, worker in pairs} == {"gw0", "gw1"}
    ids = {t["nodeid"] for t in json.loads((suite.root / "run.json").read_text())["tests"]}
    assert "benchmarks/test_bench.py::test_one[m0]" in ids


def test_a_worker_has_one_pipeline_in_memory_at_a_time(suite):
    """The plan counts what runs. A single process keeps what it has loaded."""
    suite.write('def test_one(vdb):\n    assert vdb.score("sharpness").mean > 0\n')
    (suite.root / "conftest.py").write_text(MODELS)
    engine = suite.root / "model_under_test.py"
    engine.write_text(engine.read_text() + CLOSED)
    models = [f"--vdb-model=m{i}" for i in range(3)]
    log = suite.root / "log.txt"
    found = {}
    for workers in ("-n0", "-n2"):
        log.unlink(missing_ok=True)
        result = suite.pytester.runpytest_inprocess(*LEAN, "benchmarks", workers, *models)
        result.assert_outcomes(passed=3)
        alive, most = Counter(), Counter()
        for line in log.read_text().splitlines():
            process, _, change = line.partition(" ")
            alive[process] += int(change)
            most[process] = max(most[process], alive[process])
        assert not any(alive.values())
        found[workers] = sorted(most.values())
    assert found == {"-n0": [3], "-n2": [1, 1]}


def test_a_run_without_vdb_tests_is_xdists_own(suite):
    (suite.root / "test_plain.py").write_text(
        "import os, pytest\n"
        "@pytest.mark.parametrize('i', range(4))\n"
        "def test(i):\n    print(f\"<{os.environ['PYTEST_XDIST_WORKER']}>\")\n"
    )
    result = suite.pytester.runpytest_inprocess(
        *LEAN, "test_plain.py", "-n2", "--dist=loadfile", "-rP"
    )
    result.assert_outcomes(passed=4)
    assert len(set(re.findall("<(gw.)>", result.stdout.str()))) == 1


def test_auto_is_the_cores_over_the_threads_where_there_is_no_gpu(suite, monkeypatch):
    monkeypatch.setattr("pytest_vdb.parallel.lease.visible_devices", list)
    monkeypatch.setattr("pytest_vdb.parallel.capacity.visible_devices", list)
    monkeypatch.setattr("pytest_vdb.parallel.capacity.usable_cores", lambda: ["cpu"] * 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_AUTO_NUM_WORKERS", raising=False)

    def auto(*args):
        config = suite.pytester.parseconfig("-nauto", *args)
        return config.hook.pytest_xdist_auto_num_workers(config=config)

    assert auto("--vdb-model=m0") == 1
    assert auto("--vdb-model=m0", "--vdb-set=num_threads=1") == 4
    assert auto("--vdb-model=m0", "--vdb-set=num_threads=3") == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert auto("--vdb-model=m0") == 2
    monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", "3")
    assert auto("--vdb-model=m0") == 3
    monkeypatch.delenv("PYTEST_XDIST_AUTO_NUM_WORKERS")
    monkeypatch.setattr("pytest_vdb.parallel.capacity.visible_devices", lambda: ["GPU-a"] * 3)
    monkeypatch.setattr("pytest_vdb.environment.gpus", lambda: (("H200", "1"),))
    assert auto("--vdb-model=m0", "--vdb-device=cuda") == 3
    assert auto() != 3, "no flag or ini option says that this is a benchmark"


def test_usage_errors_read_the_same(suite):
    suite.write(BENCH, "num_step=3")
    result = suite.run("-n2")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*no argument 'num_step'*"])
