"""The terminal, JUnit properties and the explanation of a failed comparison."""

import re

import pytest

pytestmark = pytest.mark.usefixtures("engine")

SPEED = "def test_speed(vdb):\n    assert vdb.latency.cpu.median < 1e-6"


def test_one_table_with_its_columns(suite):
    suite.write("def test_quality(vdb):\n    assert vdb.score('sharpness').mean > 0")
    suite.store()
    result = suite.run()
    result.stdout.fnmatch_lines(
        [
            "vdb: model_under_test:build on cpu; baselines baselines (gate fail, missing warn)",
            "*= vdb =*",
            "test, measurement *value *baseline *change*verdict",
            "test_quality?model_under_test-build?",
            "  sharpness *IDENTICAL",
            "1 measurement: 1 IDENTICAL",
            "1 model, * videos on cpu; overhead *%",
            "time: loading *generating *metrics *plugin *",
        ]
    )


def test_the_worst_comes_first_with_how_to_run_it_alone(suite, engine):
    body = (
        "def test_fine(vdb):\n    assert vdb.score('temporal_flickering').mean > 0\n"
        "def test_own(vdb):\n    assert vdb.score('motion_energy').mean > {floor}\n"
        "def test_worse(vdb):\n"
        "    assert vdb.score('temporal_flickering').mean > 0\n"
        "    assert vdb.score('sharpness').mean > 0"
    )
    suite.write(body.format(floor=0))
    suite.store()
    suite.write(body.format(floor=1))
    suite.engine("num_inference_steps += 6")
    flags = ("--vdb-tolerance", "temporal_flickering=90%", "--vdb-tolerance=motion_energy=off")
    result = suite.run(*flags, "--vdb-json=run.json")
    result.stdout.fnmatch_lines(
        [
            "test, measurement *",
            "test_worse?model_under_test-build?  FAILED",
            "  sharpness * REGRESSION",
            "  temporal_flickering *",
            "test_own?model_under_test-build?  FAILED",
            "test_fine?model_under_test-build?",
            "REGRESSION sharpness: *%*",
            "  pytest 'benchmarks/test_bench.py::test_worse?model_under_test-build?' "
            "--vdb-model=model_under_test:build --vdb-tolerance temporal_flickering=90% "
            "--vdb-tolerance=motion_energy=off",
            "3 measurements: *",  # two tests saw the same temporal_flickering
        ]
    )


def test_the_overhead_adds_up(suite):
    suite.write("def test_quality(vdb):\n    assert vdb.score('sharpness').mean > 0")
    line = next(x for x in suite.run().outlines if x.startswith("time: "))
    shares = [float(share) for share in re.findall(r"\(([\d.]+)%\)", line)]
    assert len(shares) == 4
    assert abs(sum(shares) - 100) <= 0.3


def test_a_failed_comparison_shows_what_was_measured(suite):
    suite.model()
    suite.write(SPEED)
    result = suite.run()
    result.stdout.fnmatch_lines(
        [
            "E *assert latency.cpu.median < 0.001 ms",
            "E *measured  latency.cpu.median = *s   (n 2, mean *sd *to *lower is better; unit s)",
            "E *worst * for 'a *', seed 0",
            "E *baseline  none",
            "E *how *process CPU time*",
        ]
    )


@pytest.mark.parametrize(
    "expression",
    ["0 < vdb.latency.median < 1e-6", "vdb.latency < 1e-6", "1e-6 > vdb.latency.max"],
)
def test_explained_in_every_form(suite, expression):
    suite.write(f"def test_speed(vdb):\n    assert {expression}")
    suite.run().stdout.fnmatch_lines(["E *measured  latency.*"])


def test_evidence_is_shown_where_the_comparison_cannot_be_explained(suite):
    suite.write("def test_far(vdb):\n    assert abs(vdb.score('sharpness').mean - 9) < 1e-6")
    suite.run().stdout.fnmatch_lines(["*- Captured vdb call -*", "NO_BASELINE sharpness: mean *"])


def test_junit_carries_scalars(suite):
    suite.write("def test_quality(vdb):\n    assert vdb.score('sharpness').mean > 0")
    suite.run("--junitxml=junit.xml", "-ojunit_family=xunit1")
    xml = (suite.root / "junit.xml").read_text()
    assert re.search(r'<property name="vdb.sharpness.mean" value="[0-9.e+-]+"', xml)
    assert '<property name="vdb.sharpness.verdict" value="NO_BASELINE"' in xml


def test_p95_of_few_samples_is_refused(suite):
    suite.write("def test_speed(vdb):\n    assert vdb.latency.p95 < 100")
    result = suite.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*latency.p95 needs at least 20 samples and has 2*"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_an_unknown_metric_names_the_nearest(suite):
    suite.write("def test_quality(vdb):\n    assert vdb.score('sharpnes').mean > 0")
    result = suite.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*UnknownMetric: *did you mean 'sharpness'*"])


def test_narrow_terminals_and_pipes_get_plain_text(suite, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    suite.write("def test_quality(vdb):\n    assert vdb.score('sharpness').mean > 0")
    result = suite.run()
    assert not any("\x1b" in line for line in result.outlines)
    result.stdout.fnmatch_lines(["  sharpness *NO_BASELINE"])
