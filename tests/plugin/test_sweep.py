"""--vdb-sweep, --vdb-sweep-mode, --vdb-recommend and the marker vdb_sweep"""

import pytest

pytestmark = pytest.mark.usefixtures("engine")

QUALITY = """
def test_quality(vdb):
    assert vdb.score("sharpness").mean > 0
    assert vdb.score("ssim").mean > 0.99
"""
SPEED = """
def test_speed(vdb):
    assert vdb.latency.median < 100
"""
STEPS = "--vdb-sweep=num_inference_steps=2,1"
ONE = "@pytest.mark.vdb_sweep(num_inference_steps=[2, 1], height=[64], mode='one-at-a-time')"


def points(run):
    """Ids of the points and their factors' values, of a run with one sweep."""
    (sweep,) = run["sweeps"]
    return {point["id"]: point["setting"] for point in sweep["points"]}


def test_every_test_runs_at_every_point_of_the_grid(suite):
    suite.write(QUALITY + SPEED + "\ndef test_model(vdb_model):\n    pass\n")
    run = suite.json(STEPS, "--vdb-sweep=num_threads=1,2", "--vdb-recommend=latency<=50s")
    ids = [f"num_inference_steps={s}-num_threads={t}" for s in (2, 1) for t in (1, 2)]
    assert run["exit"] == 0
    assert [*points(run)] == ids
    assert points(run)[ids[1]] == {"num_inference_steps": 2, "num_threads": 2}
    (sweep,) = run["sweeps"]
    name = "benchmarks/test_bench.py::test_{}[model_under_test-build-{}]"
    tests = [test for point in sweep["points"] for test in point["tests"]]
    assert sorted(tests) == sorted(name.format(t, i) for t in ("quality", "speed") for i in ids)
    asked = {test["sweep"]["id"]: test["workload"] for test in run["tests"]}
    assert [asked[i]["call"]["num_inference_steps"] for i in ids] == [2, 2, 1, 1]
    assert [asked[i]["options"]["num_threads"] for i in ids] == [1, 2, 1, 2]
    # what compares with a baseline's video is no measurement of a point
    assert [one["name"] for one in sweep["measurements"]] == ["sharpness", "latency"]
    assert sweep["recommended"]["cost"] == "latency"
    for test in run["tests"]:
        for m in test["measurements"]:
            assert m["verdict"]["state"] == "NOT_APPLICABLE"
            assert "which explores" in m["verdict"]["reason"]


def test_points_by_flag_are_held_to_no_baseline(suite):
    suite.write(QUALITY)
    suite.store()
    suite.engine("num_frames = num_frames")  # another code of the same videos
    suite.scale("sharpness", 2)
    result = suite.run(STEPS, "--vdb-require")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "vdb: * sweeping num_inference_steps: explores",
            "sweep of model_under_test:build by test_quality: num_inference_steps (grid, *",
            "*sharpness",
            "*num_inference_steps=2 *",
            "*num_inference_steps=1 *",
        ]
    )


def test_a_point_fails_by_its_own_assertion_alone_and_is_not_recommended(suite):
    suite.write(
        "def test_steps(vdb):\n"
        "    assert vdb.latency.median < 100\n"
        "    assert vdb.workload.call['num_inference_steps'] > 1\n"
    )
    run = suite.json(STEPS, "--vdb-recommend=latency<=1000s")
    assert run["exit"] == 1
    (sweep,) = run["sweeps"]
    assert [point["passed"] for point in sweep["points"]] == [True, False]
    assert sweep["recommended"]["point"] == 0


def test_points_by_marker_are_gated_one_by_one(suite):
    suite.write(ONE + QUALITY)
    suite.store()
    run = suite.json()
    ids = ["centre", "num_inference_steps=1", "height=64"]  # 2 steps are the centre's own
    assert [*points(run)] == ids
    assert points(run)["height=64"] == {"num_inference_steps": 2, "height": 64}
    assert run["sweeps"][0]["centre"] == 0
    assert {m["verdict"]["state"] for test in run["tests"] for m in test["measurements"]} == {
        "IDENTICAL"
    }
    suite.engine("height = 32")  # what only one point notices
    run = suite.json("--vdb-missing=fail")
    outcomes = {test["sweep"]["id"]: test["outcome"] for test in run["tests"]}
    assert outcomes == dict(zip(ids, ("passed", "passed", "failed"), strict=True))


def test_the_flag_takes_the_place_of_the_marker(suite):
    suite.write(ONE + QUALITY)
    result = suite.run(STEPS, "--vdb-sweep-mode=one-at-a-time", "--collect-only", "-q")
    told = [line.partition("[")[2] for line in result.outlines if "::" in line]
    prefix = "model_under_test-build"
    assert told == [f"{prefix}-centre]", f"{prefix}-num_inference_steps=1]"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([STEPS, "--vdb-update"], "--vdb-update has no part in it"),
        ([STEPS, "--vdb-against=HEAD"], "--vdb-against has no part in it"),
        ([STEPS, "--vdb-prove"], "--vdb-prove has no part in it"),
        (["--vdb-sweep-mode=grid"], "says how --vdb-sweep varies: add that"),
        (["--vdb-sweep=num_inference_steps"], "lacks a '='"),
        (["--vdb-sweep=num_inference_steps=2,,1"], "has an empty value"),
        (["--vdb-sweep=num_inference_steps=2,2"], "names one value twice"),
        (["--vdb-sweep=num_inference_steps=2"], "two or more"),
        ([STEPS, "--vdb-set=num_inference_steps=4"], "is swept and set by --vdb-set"),
        (["--vdb-sweep=guidance_scale=nan,1"], "no finite number"),
        (["--vdb-sweep=seeds=1,2"], "the test's own seeds, of *vdb(seeds=...)"),
        ([STEPS, "--vdb-sweep=num_inference_steps=3,4"], "is given twice"),
        (["--vdb-recommend=ssim>=0.9"], "a distance to a baseline's video"),
        (["--vdb-recommend=memory<=2GiB"], "memory.peak"),
        (["--vdb-csv=/dev/null"], "/dev/null is a device"),
        (["--vdb-json=/dev/null"], "/dev/null is a device"),
        (["--vdb-csv=benchmarks/test_bench.py/x.csv"], "cannot lie below it"),
        (["--vdb-recommend=latncy<=2s"], "did you mean*latency"),
        (["--vdb-recommend=latency<2s"], "is no limit"),
        (["--vdb-recommend=latency<=2GiB"], "is no size"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_flags_that_cannot_mean_anything_end_the_run(suite, flags, said):
    suite.write(SPEED)
    result = suite.run(*flags, "--collect-only")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{said}*"])


def test_a_marker_that_cannot_mean_anything_ends_collection(suite, draw):
    suite.write("@pytest.mark.vdb_sweep(num_inference_step=[2, 1])" + SPEED)
    result = suite.run("--collect-only")
    result.stdout.fnmatch_lines(["*no argument 'num_inference_step'*num_inference_steps*"])
    suite.write("@pytest.mark.vdb_sweep(num_inference_steps=[2, 1])" + SPEED)
    result = suite.run("--collect-only", "--vdb-set=num_inference_steps=4")
    result.stdout.fnmatch_lines(["*is swept and set by --vdb-set*"])
    draw(suite.root / "clips")
    clips = ["-p", "no:cacheprovider", "benchmarks", "--vdb-videos=clips", "--collect-only"]
    result = suite.pytester.runpytest_inprocess(*clips)
    result.stdout.fnmatch_lines(["*is recorded videos, in which no argument changes anything*"])


def test_limits_without_a_sweep_are_told_of(suite):
    suite.write(SPEED)
    result = suite.run("--vdb-recommend=latency<=2s")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["--vdb-recommend: no test was swept*"])


POINT = {"id": "x", "mode": "grid", "explores": True, "factors": [], "place": 0}


@pytest.mark.parametrize("point", [{"gate": "off"}, {"swept": POINT}], ids=["policy", "explores"])
def test_no_test_lifts_the_gate_by_the_parameter_that_makes_points(suite, point):
    quality = "def test_quality(vdb):\n    assert vdb.score('sharpness').mean > 0\n"
    suite.write(quality)
    suite.store()
    suite.scale("sharpness", 2.0)
    forged = f"@pytest.mark.parametrize('_vdb_point', [{point!r}], ids=[''], indirect=True)\n"
    suite.write(forged + quality)
    result = suite.run("--vdb-missing=fail")
    assert result.ret == 1
    result.stdout.no_fnmatch_line("*explores*")
