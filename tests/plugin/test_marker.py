"""@pytest.mark.vdb"""

import pytest

pytestmark = pytest.mark.usefixtures("engine")

BODY = "def test_quality(vdb):\n    assert vdb.score('sharpness').mean > 0"


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("num_step=4", "*no argument 'num_step'*"),
        ("promts='smoke'", "*did you mean 'prompts'*"),
        ("'smoke'", "*keyword arguments only*"),
        ("prompts=3", "*a suite's name, a file or a list*"),
        ("num_seeds=0", "*no positive whole number*"),
        ("seeds=[1, 1]", "*different whole numbers*"),
        ("seeds=[1], num_seeds=2", "*not both*"),
        ("tolerance={'latency': 5}", "*latency: a tolerance*'5%'*"),
        ("timeout='soon'", "*no duration*"),
        ("allow='frozn'", "*did you mean 'frozen'*"),
        ("tolerance={'sharpnes': '5%'}", "*a tolerance for 'sharpnes': did you mean 'sharpness'*"),
    ],
)
def test_wrong_arguments_are_refused_at_collection(suite, marker, message):
    suite.write(BODY, marker)
    result = suite.run("--co")
    assert result.ret == 2
    result.stdout.fnmatch_lines([message])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_wrong_marker_is_refused_on_a_plain_test_too(suite):
    suite.write("def test_plain():\n    pass", "num_step=4")
    result = suite.run("--co")
    assert result.ret == 2
    result.stdout.fnmatch_lines(["*no argument 'num_step'*"])


def test_an_unknown_suite_of_prompts_names_the_nearest(suite):
    suite.write(BODY, "prompts='smok'")
    result = suite.run("--co")
    assert result.ret == 2
    result.stdout.fnmatch_lines(["*no prompt suite 'smok': did you mean 'smoke'*"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_markers_merge_key_by_key_nearest_wins(suite):
    suite.write(
        "@pytest.mark.vdb(num_frames=9)\n"
        "def test_workload(vdb):\n"
        "    call = vdb.workload.call\n"
        "    assert (call['num_frames'], call['num_inference_steps']) == (9, 2)\n"
        "    assert call['height'] == 32  # of the module's other mark\n"
    )
    suite.run().assert_outcomes(passed=1)


def test_the_command_line_wins_over_markers(suite):
    suite.write("def test_workload(vdb):\n    assert vdb.workload.call['num_frames'] == 9")
    suite.run("--vdb-set=num_frames=9").assert_outcomes(passed=1)


def test_unittest_classes_are_refused_with_a_reason(suite):
    suite.write(
        "import unittest\n@pytest.mark.vdb(num_frames=5)\nclass TestOld(unittest.TestCase):\n"
        "    def test_x(self):\n        pass\n"
    )
    result = suite.run()
    assert result.ret == 2
    result.stdout.fnmatch_lines(["*TestOld is a unittest.TestCase, which cannot take fixtures*"])


def test_an_argument_that_the_pipeline_does_not_take(suite):
    suite.model()
    suite.write(BODY, "prompts=['a'], num_frames=5, call={'guidance_scal': 3}")
    result = suite.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*guidance_scal*guidance_scale*"])


def test_a_wrong_argument_in_a_parameters_mark_is_a_usage_error(suite):
    suite.write(
        "@pytest.mark.parametrize('n', [pytest.param(1, marks=pytest.mark.vdb(num_stepz=3))])\n"
        "def test_speed(vdb, n):\n    assert vdb.latency < 90\n"
    )
    result = suite.run()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*test_speed*has no argument 'num_stepz'*"])
