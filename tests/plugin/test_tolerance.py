"""--vdb-tolerance"""

import pytest

pytestmark = pytest.mark.usefixtures("engine")

SCORES = "def test_quality(vdb):\n    assert vdb.score('sharpness').mean > 0"


@pytest.mark.parametrize("bad", ["5", "-5%", "x%", "", "5 percent", "nan%"])
def test_a_tolerance_without_its_kind_is_refused(suite, bad):
    suite.write(SCORES)
    result = suite.run(f"--vdb-tolerance=sharpness={bad}")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: --vdb-tolerance: a tolerance*'5%' of the baseline*"])
    result.stderr.no_fnmatch_line("*Traceback*")


def test_a_tolerance_that_lets_everything_pass_is_refused(suite):
    suite.write(SCORES)
    result = suite.run("--vdb-tolerance=sharpness=100%")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: *100% lets everything pass*"])


def test_a_tolerance_for_nothing_names_the_nearest(suite):
    suite.write(SCORES)
    result = suite.run("--vdb-tolerance=sharpnes=5%")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*did you mean 'sharpness'*"])


def test_flag_over_marker(suite):
    fast = "prompts=['a', 'b'], num_frames=5, num_inference_steps=1"
    suite.write(SCORES, fast)
    suite.store()
    suite.scale("sharpness", 1.1)
    suite.run().assert_outcomes(failed=1)
    suite.write(SCORES, fast + ", tolerance={'sharpness': '20%'}")
    suite.run().assert_outcomes(passed=1)
    suite.run("--vdb-tolerance=sharpness=2%").assert_outcomes(failed=1)


def test_off_and_abs(suite):
    suite.write(SCORES)
    suite.store()
    suite.scale("sharpness", 1.1)
    assert suite.states("--vdb-tolerance=sharpness=off") == {"sharpness": "NOT_APPLICABLE"}
    assert suite.states("--vdb-tolerance=sharpness=1e9abs") == {"sharpness": "PASS"}
    assert suite.states("--vdb-tolerance=sharpness=1e-9abs") == {"sharpness": "REGRESSION"}
