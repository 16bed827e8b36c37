"""--vdb-runner, --vdb-timeout: every runner gives the same videos, takes the same measurements and
survives the same faults."""

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
STAGES = """
def test_stages(vdb):
    parts = [vdb.latency.stage(s) for s in ("text_encode", "denoise", "decode", "other")]
    total = sum(part.mean + 0 for part in parts)
    assert abs(total / (vdb.latency.mean + 0) - 1) < 0.05
    assert vdb.latency.steps.median < vdb.latency.stage("denoise").median
    assert vdb.latency.first.headline > 0
    assert abs(vdb.latency.compile.headline) < 90  # nothing is compiled here
    assert vdb.memory.cpu_stage("denoise") <= vdb.memory.cpu_peak
"""
KINDS = pytest.mark.parametrize("kind", ["inprocess", "child"])


@KINDS
def test_same_videos_and_stages(suite, kind):
    suite.write(BENCH)
    suite.store("--vdb-runner=inprocess")
    suite.write(BENCH + STAGES)
    run = suite.json(f"--vdb-runner={kind}", "--vdb-tolerance=latency.cpu=off")
    assert [test["outcome"] for test in run["tests"]] == ["passed"] * 3
    taken = {m["name"]: m for test in run["tests"] for m in test["measurements"]}
    for name in ("sharpness", "ssim"):
        assert taken[name]["verdict"]["state"] == "IDENTICAL"
    assert set(taken) >= {"latency.text_encode", "latency.step", "memory.cpu_denoise"}
    assert len(taken["latency.denoise"]["samples"]) == 2
    assert "exclusive time of denoise" in taken["latency.denoise"]["provenance"]["how"]


@KINDS
def test_hung_past_the_timeout(suite, kind):
    suite.engine("import time; time.sleep(600)")
    suite.write(BENCH)
    result = suite.run(f"--vdb-runner={kind}", "--vdb-timeout=2s", "-k", "quality or other")
    result.assert_outcomes(failed=1, passed=1, deselected=1)
    result.stdout.fnmatch_lines(["*GenerationTimeout*generation of prompt*2 s*"])


@KINDS
def test_a_raising_model_shows_its_own_lines(suite, kind):
    suite.engine("raise RuntimeError('broken on purpose')")
    suite.write(BENCH)
    result = suite.run(f"--vdb-runner={kind}")
    result.assert_outcomes(failed=2, passed=1)
    result.stdout.fnmatch_lines(["*SourceError*", "*model_under_test.py*", "*broken on purpose*"])


@KINDS
def test_out_of_memory(suite, kind):
    suite.engine("raise MemoryError('no 80 GiB here')")
    suite.write(BENCH)
    result = suite.run(f"--vdb-runner={kind}")
    result.assert_outcomes(failed=2, passed=1)
    result.stdout.fnmatch_lines(["*OutOfMemory*"])
