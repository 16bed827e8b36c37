"""Each state of the table in docs/verdicts.md: what brings it about and what it does to a test."""

import json

import pytest

pytestmark = pytest.mark.usefixtures("engine")

SCORES = """
def test_quality(vdb):
    assert vdb.score('sharpness').mean > 0
"""
EIGHT = "prompts=[f'a thing number {i}' for i in range(8)], num_frames=5, num_inference_steps=1"


@pytest.mark.parametrize(
    ("factor", "spread", "state", "outcome"),
    [
        (1.0, 0.0, "IDENTICAL", "passed"),
        (1.001, 0.0, "PASS", "passed"),
        (0.5, 0.0, "IMPROVEMENT", "passed"),
        (2.0, 0.0, "REGRESSION", "failed"),
        (1.02, 0.1, "INCONCLUSIVE", "passed"),
    ],
)
def test_paired_scores(suite, factor, spread, state, outcome):
    suite.write(SCORES, EIGHT)
    suite.store()
    suite.scale("sharpness", factor, spread)
    result = suite.run("--vdb-json=run.json")
    (test,) = json.loads((suite.root / "run.json").read_text())["tests"]
    (measurement,) = test["measurements"]
    assert measurement["verdict"]["state"] == state
    assert test["outcome"] == outcome
    result.assert_outcomes(**{outcome: 1})
    result.stdout.fnmatch_lines([f"*sharpness*{state}*"])
    assert result.ret == (outcome == "failed")


def test_regression_message_names_values_interval_and_tolerance(suite):
    suite.write(SCORES, EIGHT)
    suite.store()
    suite.scale("sharpness", 2.0)
    result = suite.run()
    result.stdout.fnmatch_lines(["*REGRESSION sharpness: mean *baseline *tolerance 2%*n 8*"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_regression_under_xfail_is_counted(suite):
    suite.write("@pytest.mark.xfail" + SCORES, EIGHT)
    suite.run("--vdb-update")
    suite.scale("sharpness", 2.0)
    result = suite.run()
    result.assert_outcomes(xfailed=1)
    result.stdout.fnmatch_lines(["*1 REGRESSION; 1 expected to fail (xfail)"])
    assert result.ret == 0


def test_a_failing_body_keeps_its_own_message_and_shows_the_evidence(suite):
    suite.write("def test_quality(vdb):\n    assert vdb.score('sharpness').mean < 0", EIGHT)
    result = suite.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*sharpness.mean < 0*", "*NO_BASELINE sharpness*"])


def test_unmeasured_where_the_baseline_has_what_this_run_lacks(suite):
    both = SCORES + "    assert vdb.score('motion_energy').mean > 0\n"
    suite.write(both)
    suite.store()
    suite.write(SCORES)
    result = suite.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*UNMEASURED motion_energy*Stored in the baseline and not taken*"])
    # That is judged only where the test ran: another one's selection says nothing of it.
    suite.write(both + "\ndef test_other():\n    pass\n")
    suite.run("-k", "test_other").assert_outcomes(passed=1, deselected=1)
    # and the documented way out works
    suite.write(SCORES)
    suite.run("--vdb-update", "--vdb-update-mode=all").assert_outcomes(passed=1)
    suite.run().assert_outcomes(passed=1)


def test_unmeasured_fails_even_where_the_test_swallows_it(suite):
    suite.write(
        "def test_big(vdb):\n"
        "    try:\n"
        "        assert vdb.score('ms_ssim').min > .5\n"
        "    except Exception:\n"
        "        pass\n"
    )
    suite.run("--vdb-update")
    suite.write("def test_big(vdb):\n    assert vdb.score('sharpness').mean > 0")
    suite.run("--vdb-update")
    suite.write(
        "def test_big(vdb):\n"
        "    assert vdb.score('sharpness').mean > 0\n"
        "    try:\n"
        "        assert vdb.score('ms_ssim').min > .5\n"
        "    except Exception:\n"
        "        pass\n"
    )
    result = suite.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*UNMEASURED ms_ssim*176*"])


def test_not_applicable_alone_skips_and_counts(suite):
    suite.write("def test_memory(vdb):\n    assert vdb.memory.peak < 1")
    result = suite.run("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        ["*1 NOT_APPLICABLE*", "SKIPPED*test_bench.py:*not applicable: memory.peak*"]
    )


def test_not_applicable_beside_others_lets_them_decide(suite):
    suite.write(
        "def test_both(vdb):\n"
        "    assert vdb.memory.peak < 1\n"
        "    assert vdb.score('sharpness').mean < 0\n"
    )
    suite.run().assert_outcomes(failed=1)


def test_infra_error_is_an_error_and_the_exit_code_is_ten(suite):
    suite.engine("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    suite.write(SCORES + "\ndef test_other():\n    pass\n")
    result = suite.run("--vdb-runner=child", "--junitxml=junit.xml")
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["*INFRA_ERROR*SIGKILL*"])
    assert result.ret == 10
    assert "<error message" in (suite.root / "junit.xml").read_text()


def test_a_real_failure_beside_an_infra_error_keeps_exit_code_one(suite):
    suite.write(SCORES + "\ndef test_other():\n    assert False\n")
    result = suite.run_wide()
    result.assert_outcomes(errors=1, failed=1)
    assert result.ret == 1


def test_zero_in_the_baseline_passes_nothing(suite):
    suite.model()
    suite.write("def test_speed(vdb):\n    assert vdb.latency.cpu.median < 9")
    suite.run("--vdb-update")
    suite.scale("latency.cpu", 0.0)
    result = suite.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*UNMEASURED latency.cpu*holds a 0*"])
