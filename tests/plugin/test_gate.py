"""--vdb-gate, --vdb-inconclusive, --vdb-require"""

import pytest

pytestmark = pytest.mark.usefixtures("engine")

EIGHT = "prompts=[f'a thing number {i}' for i in range(8)], num_frames=5, num_inference_steps=1"
SCORES = "def test_quality(vdb):\n    assert vdb.score('sharpness').mean > 0"


@pytest.fixture
def stored(suite):
    suite.write(SCORES, EIGHT)
    suite.store()
    return suite


def test_warn_reports_a_regression_and_passes(stored):
    stored.scale("sharpness", 2.0)
    stored.run().assert_outcomes(failed=1)
    result = stored.run("--vdb-gate=warn")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*sharpness*REGRESSION*"])


def test_off_compares_nothing_and_still_asserts(stored):
    stored.scale("sharpness", 2.0)
    assert stored.states("--vdb-gate=off") == {"sharpness": "NOT_APPLICABLE"}
    stored.write("def test_quality(vdb):\n    assert vdb.score('sharpness').mean < 0", EIGHT)
    stored.run("--vdb-gate=off").assert_outcomes(failed=1)


def test_inconclusive_quality_warns_unless_told_to_fail(stored):
    stored.scale("sharpness", 1.02, spread=0.1)
    result = stored.run()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*INCONCLUSIVE sharpness*prompts would settle it*"])
    stored.run("--vdb-inconclusive=fail").assert_outcomes(failed=1)


def test_inconclusive_latency_fails_unless_told_to_warn(suite):
    suite.model()
    suite.write("def test_speed(vdb):\n    assert vdb.latency.cpu.median < 9")
    suite.run("--vdb-update")
    suite.scale("latency.cpu", 0.3)
    result = suite.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*INCONCLUSIVE latency.cpu*rerun on an idle machine*"])
    suite.run("--vdb-inconclusive=warn").assert_outcomes(passed=1)


def test_five_slow_sessions_convict_unconfirmed(suite):
    suite.pytester.makeini("[pytest]\nvdb_tolerance = latency.cpu=80%\n")
    suite.model()
    short = "prompts=['a red fox', 'a blue boat'], num_inference_steps=1"
    suite.write("def test_speed(vdb):\n    assert vdb.latency.cpu.median < 9", short)
    for _ in range(5):
        suite.run("--vdb-update", "--vdb-update-mode=all")
    suite.scale("latency.cpu", 0.1)
    result = suite.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*REGRESSION latency.cpu*unconfirmed*"])


def test_require_refuses_what_cannot_be_gated(suite):
    suite.write("def test_memory(vdb):\n    assert vdb.memory.peak < 1")
    suite.run().assert_outcomes(skipped=1)
    result = suite.run("--vdb-require")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*NOT_APPLICABLE memory.peak*"])


def test_memory_above_the_slack_is_a_regression(suite):
    suite.model()
    large = "@pytest.mark.vdb(height=64, width=64)\n"  # half its peak is above the slack
    suite.write(large + "def test_memory(vdb):\n    assert vdb.memory.cpu_peak < 2**40")
    suite.run("--vdb-update")
    assert suite.states() in ({"memory.cpu_peak": "IDENTICAL"}, {"memory.cpu_peak": "PASS"})
    suite.scale("memory.cpu_peak", 0.5)
    result = suite.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*REGRESSION memory.cpu_peak: max *iB, baseline *iB*"])
