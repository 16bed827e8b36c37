"""--vdb-update, --vdb-update-mode"""

import json

import pytest

pytestmark = pytest.mark.usefixtures("engine")

QUALITY = "def test_quality(vdb):\n    assert vdb.score('sharpness').mean > 0"


def test_writes_what_ran_and_passed_and_the_next_run_is_identical(suite):
    suite.write(QUALITY)
    result = suite.run("--vdb-update")
    result.assert_outcomes(passed=1)
    (path,) = suite.baselines
    data = json.loads(path.read_text())
    (workload,) = data["workloads"].values()
    assert list(workload["measurements"]) == ["sharpness"]
    assert data["tests"] == {
        "test_quality[model_under_test-build]": {w: ["sharpness"] for w in data["workloads"]}
    }
    assert suite.states() == {"sharpness": "IDENTICAL"}


def test_a_failed_test_writes_nothing_and_the_run_says_so(suite):
    suite.write("def test_quality(vdb):\n    assert vdb.score('sharpness').mean < 0")
    result = suite.run("--vdb-update")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["not updated from *test_quality*did not pass"])
    assert result.ret == 1
    assert not suite.baselines


def test_missing_adds_new_measurements_and_leaves_stored_ones(suite):
    suite.write(QUALITY)
    suite.store()
    suite.edit_baseline(lambda data: _set(data, "sharpness", 0.5))
    suite.write(QUALITY + "\n    assert vdb.score('motion_energy').mean > 0")
    suite.run("--vdb-update").assert_outcomes(passed=1)
    (path,) = suite.baselines
    stored = _measurements(json.loads(path.read_text()))
    assert sorted(stored) == ["motion_energy", "sharpness"]
    assert set(stored["sharpness"]["sessions"].popitem()[1].values()) == {0.5}


def test_all_appends_a_session_and_drops_the_oldest(suite):
    suite.write(QUALITY)
    suite.pytester.makeini("[pytest]\nvdb_sessions = 2\n")
    for _ in range(3):
        suite.run("--vdb-update", "--vdb-update-mode=all").assert_outcomes(passed=1)
    (path,) = suite.baselines
    data = json.loads(path.read_text())
    sessions = _measurements(data)["sharpness"]["sessions"]
    (workload,) = data["workloads"].values()
    assert len(sessions) == 2
    assert sorted(workload["sessions"]) == sorted(sessions)


def test_a_regression_is_reported_and_does_not_fail_while_updating(suite):
    suite.write(QUALITY)
    suite.store()
    suite.edit_baseline(lambda data: _set(data, "sharpness", 1e6))
    result = suite.run("--vdb-update", "--vdb-update-mode=all")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*sharpness*REGRESSION*"])
    assert suite.states() == {"sharpness": "IDENTICAL"}


def test_only_what_ran_is_touched(suite):
    suite.write(
        QUALITY + "\n\ndef test_motion(vdb):\n    assert vdb.score('motion_energy').mean > 0"
    )
    suite.run("--vdb-update")
    suite.run("--vdb-update", "--vdb-update-mode=all", "-k", "test_motion")
    (path,) = suite.baselines
    stored = _measurements(json.loads(path.read_text()))
    assert len(stored["sharpness"]["sessions"]) == 1
    assert len(stored["motion_energy"]["sessions"]) == 2


def test_a_bare_run_never_writes(suite):
    suite.write(QUALITY)
    suite.run().assert_outcomes(passed=1)
    assert not suite.baselines


def test_media_are_stored_by_their_hash(suite):
    suite.model()
    suite.write(QUALITY)
    suite.run("--vdb-update")
    (path,) = suite.baselines
    (workload,) = json.loads(path.read_text())["workloads"].values()
    names = {f.stem for f in (suite.root / "baselines/media").rglob("*.*")}
    media = workload["media"]
    wanted = {roles[r] for roles in media.values() for r in ("video", "latent")}
    wanted |= {roles["trace"] for roles in media.values() if "trace" in roles}
    assert [sorted(roles) for roles in media.values()] == [
        ["frames", "latent", "trace", "video"],  # the first sample's generation was traced
        ["frames", "latent", "video"],
    ]
    assert names == wanted


def _measurements(data):
    (workload,) = data["workloads"].values()
    return workload["measurements"]


def _set(data, name, value):
    for session in _measurements(data)[name]["sessions"].values():
        for key in session:
            session[key] = value
