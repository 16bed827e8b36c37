"""--vdb-runner, --vdb-timeout: every runner gives the same videos and survives the same faults."""

import pytest

BENCH = """
def test_quality(vdb):
    assert vdb.score("sharpness").mean > 0
    assert vdb.score("ssim").min > 0.9

def test_speed(vdb):
    assert vdb.latency.median > 0
    assert vdb.latency.cpu.median > 0
    assert vdb.load.median > 0
    assert vdb.memory.cpu_peak > 2**20

def test_other():
    pass
"""
KINDS = pytest.mark.parametrize("kind", ["inprocess", "child"])


@KINDS
def test_same_videos(suite, kind):
    suite.write(BENCH)
    suite.run("--vdb-update", "--vdb-runner=inprocess").assert_outcomes(passed=3)
    states = suite.states(f"--vdb-runner={kind}", "--vdb-tolerance=latency.cpu=off")
    assert states["sharpness"] == states["ssim"] == "IDENTICAL"


@KINDS
def test_hung_past_the_timeout(suite, kind):
    suite.model(
        "import time\nclass Hung(type(pipeline)):\n    def __call__(self, *a, **k):\n"
        "        time.sleep(600)\npipeline.__class__ = Hung"
    )
    suite.write(BENCH)
    result = suite.run(f"--vdb-runner={kind}", "--vdb-timeout=12s", "-k", "quality or other")
    result.assert_outcomes(failed=1, passed=1, deselected=1)
    result.stdout.fnmatch_lines(["*GenerationTimeout*12*"])


@KINDS
def test_a_raising_model_shows_its_own_lines(suite, kind):
    suite.model("raise RuntimeError('broken on purpose')")
    suite.write(BENCH)
    result = suite.run(f"--vdb-runner={kind}")
    result.assert_outcomes(failed=2, passed=1)
    result.stdout.fnmatch_lines(["*SourceError*", "*model_under_test.py*", "*broken on purpose*"])


@KINDS
def test_out_of_memory(suite, kind):
    suite.model("raise MemoryError('no 80 GiB here')")
    suite.write(BENCH)
    result = suite.run(f"--vdb-runner={kind}")
    result.assert_outcomes(failed=2, passed=1)
    result.stdout.fnmatch_lines(["*OutOfMemory*"])
