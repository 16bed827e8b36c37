"""pytest_vdb_models, pytest_vdb_metrics, pytest_vdb_report"""

import json

BODY = "def test_quality(vdb):\n    assert vdb.score({name!r}).mean > 0"


def test_a_metric_of_ones_own_is_measured_stored_and_gated(suite):
    (suite.root / "conftest.py").write_text(
        "def redness(frames):\n"
        "    return frames[..., 0].mean() / 255\n"
        "def pytest_vdb_metrics():\n"
        "    from pytest_vdb import Kind, MetricSpec\n"
        "    return [MetricSpec('redness', '1', 'higher', Kind.SCORE, 'frames', '1', (0, 1),\n"
        "                       'how red', 'mean of the red channel', redness)]\n"
    )
    suite.write(BODY.format(name="redness"))
    suite.run("--vdb-update").assert_outcomes(passed=1)
    assert suite.states() == {"redness": "IDENTICAL"}
    # another definition is another metric: nothing to compare with
    text = (suite.root / "conftest.py").read_text()
    (suite.root / "conftest.py").write_text(text.replace("'frames', '1'", "'frames', '2'"))
    result = suite.run()
    result.stdout.fnmatch_lines(["*NO_BASELINE*another definition of redness*"])


def test_the_report_hook_gets_the_run(suite):
    (suite.root / "conftest.py").write_text(
        "import json\n"
        "def pytest_vdb_report(run):\n"
        "    open('seen.json', 'w').write(json.dumps(run))\n"
    )
    suite.write(BODY.format(name="sharpness"))
    run = suite.json()
    assert json.loads((suite.root / "seen.json").read_text()) == run


def test_a_failing_report_hook_changes_no_verdict_and_hides_no_lost_write(suite):
    (suite.root / "conftest.py").write_text("def pytest_vdb_report(run):\n    run['tests'][99]\n")
    suite.write(BODY.format(name="sharpness"))
    result = suite.run()
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*a pytest_vdb_report hook failed: IndexError*"])
    (suite.root / "file").write_text("")
    assert suite.run("--vdb-json=file/run.json").ret == 1
