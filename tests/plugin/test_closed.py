"""Ways around the gate that must not be there."""

import json

import pytest

pytestmark = pytest.mark.usefixtures("engine")

FAST = "prompts=['a fox'], num_frames=5, num_inference_steps=1"
BLACK = """
decode = pipeline.vae.decode
def black(*args, **kwargs):
    out = decode(*args, **kwargs)
    (out[0] if isinstance(out, tuple) else out.sample).fill_(-1.0)
    return out
pipeline.vae.decode = black
"""


def test_what_one_test_allows_is_not_allowed_to_another(suite):
    suite.model(BLACK)
    suite.write(
        "@pytest.mark.vdb(allow=['black', 'blank', 'frozen'])\n"
        "def test_a(vdb):\n    assert vdb.score('sharpness').mean >= 0\n"
        "def test_b(vdb):\n    assert vdb.score('sharpness').mean >= 0\n",
        FAST,
    )
    suite.run().assert_outcomes(passed=1, failed=1)


def test_a_fixture_that_takes_a_measurement_fails_closed_and_is_in_the_json(suite):
    suite.model(BLACK)
    suite.write(
        "@pytest.fixture\ndef sharp(vdb):\n    return vdb.score('sharpness')\n"
        "def test_a(sharp):\n    assert sharp.mean >= 0\n",
        FAST,
    )
    result = suite.run("--vdb-json=run.json")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*Insane: *sanity checks*"])
    result.stdout.no_fnmatch_line("*pytest_vdb*")
    (test,) = json.loads((suite.root / "run.json").read_text())["tests"]
    assert test["outcome"] == "error"
    (measured,) = test["measurements"]
    assert measured["verdict"]["reason"].startswith("not reached: Insane: ")


def test_an_old_results_file_does_not_survive_a_broken_run(suite):
    suite.write("def test_a(vdb):\n    assert vdb.score('sharpness').mean > 0", FAST)
    assert suite.json()["exit"] == 0
    suite.write("def test_a(vdb):\n    assert vdb.score('sharpness').mean > 0", "prompts='smok'")
    suite.run("--vdb-json=run.json")
    run = json.loads((suite.root / "run.json").read_text())
    assert run["exit"] != 0
    assert run["tests"] == []


def test_a_swallowed_error_of_ones_own_metric_fails(suite):
    (suite.root / "conftest.py").write_text(
        "def broken(frames):\n    return 1 / 0\n"
        "def pytest_vdb_metrics():\n"
        "    from pytest_vdb import Kind, MetricSpec\n"
        "    return [MetricSpec('boom', '1', 'higher', Kind.SCORE, 'frames', '1', (0, 1),\n"
        "                       'x', 'y', broken)]\n"
    )
    suite.write(
        "def test_a(vdb):\n    try:\n        assert vdb.score('boom').mean > 0\n"
        "    except Exception:\n        pass\n",
        FAST,
    )
    result = suite.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*UNMEASURED boom*ZeroDivisionError*"])


def test_a_touch_after_the_body_is_refused(suite):
    suite.write(
        "@pytest.fixture\ndef late(vdb):\n    yield\n    vdb.score('sharpness')\n"
        "def test_a(late):\n    pass\n",
        FAST,
    )
    result = suite.run()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*touched after the test's body*"])


def test_an_expected_infra_error_does_not_hide_a_failure(suite):
    suite.write(
        "@pytest.mark.xfail\ndef test_a(vdb):\n    assert vdb.score('sharpness').mean > 0\n"
        "def test_b():\n    assert False\n",
        FAST,
    )
    result = suite.run_wide()
    result.assert_outcomes(xfailed=1, failed=1)
    assert result.ret == 1


def test_lost_media_are_written_again(suite):
    suite.write("def test_a(vdb):\n    assert vdb.score('ssim').min > 0.9", FAST)
    suite.store()
    for medium in (suite.root / "baselines/media").rglob("*.webp"):
        medium.unlink()
    suite.run().assert_outcomes(failed=1)
    suite.run("--vdb-update", "--vdb-update-mode=all").assert_outcomes(passed=1)
    assert suite.states("--vdb-missing=fail") == {"ssim": "IDENTICAL"}


def test_forgetting_the_last_measurement_of_a_file_works_as_advised(suite):
    suite.write("def test_a(vdb):\n    assert vdb.score('sharpness').mean > 0", FAST)
    suite.store()
    suite.write("def test_a(vdb):\n    assert vdb.latency.median < 100", FAST)
    suite.run().assert_outcomes(failed=1)
    suite.run("--vdb-update", "--vdb-update-mode=all").assert_outcomes(passed=1)
    suite.run().assert_outcomes(passed=1)


def test_the_same_test_in_two_files_is_two_tests(suite):
    for name in ("test_a.py", "test_b.py"):
        suite.write("def test_x(vdb):\n    assert vdb.score('sharpness').mean > 0", FAST, name)
    result = suite.run("--vdb-update", "--import-mode=importlib")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["benchmarks/test_a.py::test_x*", "benchmarks/test_b.py::test_x*"])
    assert len(suite.baselines) == 2


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--vdb-set=guidance_scale=nan", "*finite JSON*"),
        ("--vdb-tolerance=ssim=1%", "*assert a floor instead*"),
        ("--vdb-json=.", "*is a folder*"),
        ("--vdb-videos=", "--vdb-videos: it is empty*"),
        ("--vdb-gate=", "--vdb-gate: it is empty*"),
        ("--vdb-update-mode=all", "*add --vdb-update"),
        ("--vdb-device=cpu:", "*no device*"),
    ],
)
def test_flags_that_cannot_mean_anything(suite, flag, message):
    suite.write("def test_a(vdb):\n    pass", FAST)
    result = suite.run(flag)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"ERROR: {message}"])


@pytest.mark.parametrize("given", ["5", "['x']", "{'a': 1}", "[None]"])
def test_hooks_that_give_anything_else_than_models(suite, given):
    (suite.root / "conftest.py").write_text(f"def pytest_vdb_models():\n    return {given}\n")
    suite.write("def test_a(vdb):\n    pass", FAST)
    result = suite.run()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: *pytest_vdb_models*"])


def test_names_with_line_breaks_do_not_break_the_summary(suite):
    suite.write("def test_a(vdb):\n    vdb.score('a\\nb')", FAST)
    result = suite.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*UNMEASURED*"])
    # in what was captured and in the summary; pytest's failure says it as the error
    assert sum(line.startswith("UNMEASURED a") for line in result.outlines) == 2
