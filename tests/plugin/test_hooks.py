"""pytest_vdb_models, pytest_vdb_metrics, pytest_vdb_report"""

import json

import pytest

from pytest_vdb.metrics.installed import installed

pytestmark = pytest.mark.usefixtures("engine")

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


def test_an_installed_package_s_metric_is_measured(suite, monkeypatch):
    site = suite.root / "site"
    metadata = site / "red_metrics-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: red-metrics\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[pytest_vdb.metrics]\nred = red_metrics:SPECS\n")
    (site / "red_metrics.py").write_text(
        "from pytest_vdb import Kind, MetricSpec\n"
        "def redness(frames):\n"
        "    return frames[..., 0].mean() / 255\n"
        "SPECS = [MetricSpec('redness', '1', 'higher', Kind.SCORE, 'frames', '1', (0, 1),\n"
        "                    'how red', 'mean of the red channel', redness)]\n"
    )
    monkeypatch.syspath_prepend(str(site))
    installed.cache_clear()
    suite.write(BODY.format(name="redness"))
    suite.run("--vdb-update").assert_outcomes(passed=1)
    installed.cache_clear()


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
    suite.block("folder")
    assert suite.run("--vdb-json=folder/run.json").ret == 1
