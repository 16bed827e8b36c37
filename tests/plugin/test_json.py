"""--vdb-json"""

import json

import pytest

from tests.conftest import LEAN

pytestmark = pytest.mark.usefixtures("engine")

QUALITY = """
def test_quality(vdb):
    assert vdb.score('sharpness').mean > 0
"""
BODY = f"""{QUALITY}
def test_speed(vdb):
    assert vdb.latency.median < 100
"""


def test_the_contract(suite):
    suite.write(BODY)
    run = suite.json()
    assert {"environment", "exit", "gate_edits", "schema", "tests", "timing"} <= set(run)
    assert run["gate_edits"] is None
    assert run["flags"] == ["--vdb-model=model_under_test:build"]
    assert run["gpu_seconds"] is None
    assert (run["schema"], run["exit"]) == (1, 0)
    assert run["timing"].pop("beside") == 0
    assert sorted(run["timing"]) == ["generate", "load", "metrics", "plugin"]
    assert all(seconds > 0 for seconds in run["timing"].values())
    assert run["environment"]["quality"]["device"] == "cpu"
    assert run["environment"]["facts"]["torch"]
    quality = run["tests"][0]
    assert quality["nodeid"] == "benchmarks/test_bench.py::test_quality[model_under_test-build]"
    assert quality["outcome"] == "passed"
    assert quality["memory_over_time"] is None  # an engine has no components to watch
    assert quality["model"]["location"] == "model_under_test:build"
    assert [p["text"] for p in quality["workload"]["prompts"]] == ["a red fox", "a blue boat"]
    (measurement,) = quality["measurements"]
    assert {"name", "unit", "direction", "samples", "statistics", "provenance", "verdict"} <= set(
        measurement
    )
    assert [sorted(sample) for sample in measurement["samples"]] == [
        ["prompt", "seed", "value"]
    ] * 2
    mean = sum(s["value"] for s in measurement["samples"]) / 2
    assert abs(measurement["statistics"]["mean"] - mean) < 1e-12
    verdict = {"state", "effect", "interval", "tolerance", "p", "n", "reason"}
    assert verdict <= set(measurement["verdict"])


def test_each_test_is_readable_before_the_run_has_ended(suite):
    suite.write(
        BODY
        + "\ndef test_look():\n"
        + "    import json, pathlib\n"
        + "    lines = pathlib.Path('run.json.partial').read_text().splitlines()\n"
        + "    assert [json.loads(line)['outcome'] for line in lines] == ['passed', 'passed']\n"
    )
    suite.run("--vdb-json=run.json").assert_outcomes(passed=3)
    assert not (suite.root / "run.json.partial").exists()


def test_a_killed_run_leaves_its_earlier_results(suite, draw):
    draw(suite.root / "clips")
    end = "\ndef test_end():\n    import os\n    os._exit(9)\n"
    suite.write(QUALITY + QUALITY.replace("quality", "again") + end, "")
    command = [*LEAN, "benchmarks", "--vdb-videos=clips", "--vdb-json=run.json"]
    suite.pytester.runpytest_subprocess(*command, timeout=60)
    lines = (suite.root / "run.json.partial").read_text().splitlines()
    assert [json.loads(line)["outcome"] for line in lines] == ["passed", "passed"]


def test_a_path_that_cannot_be_written_fails_the_run(suite):
    suite.write(BODY)
    suite.block("folder")
    result = suite.run("--vdb-json=folder/run.json")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*folder/run.json*not written*"])
    # it is a file now, which is told before anything is generated
    again = suite.run("--vdb-json=folder/run.json")
    assert again.ret == pytest.ExitCode.USAGE_ERROR
    again.stderr.fnmatch_lines(["*--vdb-json: *folder is a file, and *run.json cannot lie below*"])


def test_failures_carry_their_outcome(suite):
    suite.write("def test_quality(vdb):\n    assert vdb.score('sharpness').mean < 0")
    run = suite.json()
    assert run["exit"] == 1
    assert run["tests"][0]["outcome"] == "failed"


def test_a_file_that_no_run_wrote_is_left_alone(suite):
    """The flag takes the test file that follows it for its own."""
    mine = suite.root / "test_mine.py"
    mine.write_text("def test_it():\n    pass\n")
    for args in (["test_mine.py"], ["test_mine.py", "test_mine.py"]):
        result = suite.pytester.runpytest_inprocess("--vdb-json", *args)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["*--vdb-json: *test_mine.py exists and no run of pytest-vdb*"])
    assert mine.read_text() == "def test_it():\n    pass\n"


def test_what_runs_nothing_leaves_the_last_results(suite, draw):
    """An editor collects whenever a file is saved."""
    draw(suite.root / "clips")
    suite.write("def test_quality(vdb):\n    assert vdb.score('sharpness').mean > 0")
    reports = ("--vdb-json=run.json", "--vdb-keep", "--vdb-html=page", "--vdb-markdown=run.md")
    suite.run("--vdb-videos=clips", *reports).assert_outcomes(passed=2)

    def files() -> dict[str, bytes]:
        paths = [path for path in suite.root.rglob("*") if path.is_file()]
        return {str(path): path.read_bytes() for path in paths if ".pyc" not in path.name}

    before = files()
    for option in ("--collect-only", "--fixtures", "--fixtures-per-test", "--setup-plan"):
        result = suite.run("--vdb-videos=clips", *reports, option)
        assert result.ret == 0
        result.stdout.no_fnmatch_line("*= vdb =*")
        assert files() == before
