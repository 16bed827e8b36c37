"""--vdb-missing: no baseline"""

import pytest

pytestmark = pytest.mark.usefixtures("engine")

SCORES = "def test_quality(vdb):\n    assert vdb.score('sharpness').mean > 0"


def test_warns_locally_and_says_how_to_store_one(suite):
    suite.write(SCORES)
    result = suite.run()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*NO_BASELINE*", "*--vdb-update stores this run*"])


def test_fails_under_ci(suite, monkeypatch):
    monkeypatch.setenv("CI", "1")
    suite.write(SCORES)
    result = suite.run()
    result.assert_outcomes(failed=1)
    assert result.ret == 1
    suite.run("--vdb-missing=warn").assert_outcomes(passed=1)


def test_flag_over_marker_over_ini(suite):
    suite.pytester.makeini("[pytest]\nvdb_missing = fail\n")
    suite.write(SCORES)
    suite.run().assert_outcomes(failed=1)
    suite.write(SCORES, "prompts=['a'], num_frames=5, num_inference_steps=1, missing='warn'")
    suite.run().assert_outcomes(passed=1)
    suite.run("--vdb-missing=fail").assert_outcomes(failed=1)


def test_a_changed_workload_says_which_argument_changed(suite):
    suite.write(SCORES)
    suite.store()
    result = suite.run("--vdb-set=num_inference_steps=1")
    result.stdout.fnmatch_lines(["*the workload changed (num_inference_steps 2 → 1)*"])


def test_another_environment_is_named(suite):
    suite.write(SCORES)
    suite.store()
    (path,) = suite.baselines
    path.parent.rename(path.parent.with_name("another-machine"))
    suite.run().stdout.fnmatch_lines(["*stored for another-machine*"])


def test_a_distance_without_a_reference_is_no_baseline_and_not_a_number(suite):
    suite.write("def test_same(vdb):\n    assert vdb.score('ssim').min > 0.9")
    assert suite.states() == {"ssim": "NO_BASELINE"}
    suite.run("--vdb-missing=fail").assert_outcomes(failed=1)
    suite.run("--vdb-update").assert_outcomes(passed=1)
    assert suite.states("--vdb-missing=fail") == {"ssim": "IDENTICAL"}
