"""The JSON of a run, read back from whoever sent it."""

import json

import pytest

from pytest_vdb.baseline.run import read
from pytest_vdb.errors import BadRun
from pytest_vdb.records import Prompt, State, Workload

WORKLOAD = Workload((Prompt("a", "a fox"),), (0,), {"num_frames": 5})


def run(**changes):
    row = {
        "name": "sharpness",
        "unit": "1",
        "direction": "higher",
        "kind": "score",
        "samples": [{"prompt": "a", "seed": 0, "value": 0.8}],
        "statistics": {"mean": 0.8},
        "headline": "mean",
        "provenance": {"how": "so", "version": "1", "weights": None},
        "verdict": {"state": "REGRESSION", "reason": "worse", "consequence": "fail"},
    }
    test = {
        "nodeid": "test_f.py::test_x[m]",
        "outcome": "failed",
        "model": {"name": "m"},
        "workload": {"hash": WORKLOAD.hash, **WORKLOAD.portable.to_json()},
        "environments": {"quality": "cpu-1", "performance": "cpu-2"},
        "measurements": [row],
    }
    for where, value in changes.items():
        target = {"test": test, "row": row, "sample": row["samples"][0], "verdict": row["verdict"]}
        place, _, key = where.partition("_")
        target[place][key] = value
    lost = {"nodeid": "lost", "model": None, "workload": None, "measurements": []}
    return {"schema": 1, "exit": 1, "commit": "abc", "tests": [test, lost]}


def write(tmp_path, data):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(data))
    return path


def test_what_a_run_says(tmp_path):
    found = read(write(tmp_path, run()))
    (row,) = found.rows
    assert (row.nodeid, row.model, row.environment) == ("test_f.py::test_x[m]", "m", "cpu-1")
    assert row.workload.hash == WORKLOAD.hash
    assert row.measurement.by_key == {"a/0": 0.8}
    assert (row.verdict.state, row.consequence) == (State.REGRESSION, "fail")
    assert found.commit == "abc"
    (row,) = read(write(tmp_path, run(row_kind="latency"))).rows
    assert row.environment == "cpu-2"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample_value": float("nan")}, "NaN is no measurement"),
        ({"sample_value": "much"}, "'much' is not a finite number"),
        ({"sample_prompt": "a\nb"}, "without control characters"),
        ({"row_kind": "beauty"}, "is not a valid Kind"),
        ({"row_direction": "up"}, "'up' is not higher or lower"),
        ({"row_name": "\x1b[31m"}, "without control characters"),
        ({"row_samples": None}, "TypeError"),
        ({"verdict_state": "FINE"}, "is not a valid State"),
        ({"verdict_effect": "big"}, "'big' is not a finite number"),
        ({"test_nodeid": "a\x1b"}, "without control characters"),
        ({"test_model": None}, "TypeError"),
        ({"test_workload": {"hash": "0"}}, "KeyError"),
        ({"test_environments": {}}, "KeyError"),
        ({"test_environments": {"quality": "../.."}}, "'../..' is no environment's key"),
        ({"row_samples": [{"prompt": "a", "seed": 0, "value": 1.0}] * 2}, "the same sample twice"),
    ],
)
def test_what_no_run_of_ours_writes(tmp_path, changes, message):
    with pytest.raises(BadRun, match=rf"run\.json is no file of --vdb-json .*{message}"):
        read(write(tmp_path, run(**changes)))


def test_a_workload_that_was_edited(tmp_path):
    data = run()
    data["tests"][0]["workload"]["call"] = {"num_frames": 6}
    with pytest.raises(BadRun, match="does not fit its hash"):
        read(write(tmp_path, data))


def test_a_run_of_an_older_release(tmp_path):
    data = run()
    del data["tests"][0]["environments"]
    with pytest.raises(BadRun, match=r"older pytest-vdb wrote it.*run it again"):
        read(write(tmp_path, data))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 2}', "[" * 100_000])
def test_no_run_at_all(tmp_path, text):
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(BadRun, match="is no file of --vdb-json"):
        read(path)
    with pytest.raises(BadRun, match="cannot be read: No such file"):
        read(tmp_path / "none.json")


def test_a_run_nested_deeper_than_anybody_reads(tmp_path):
    """Shallow enough for the parser, too deep for what walks it afterwards."""
    data = run()
    deep = []
    for _ in range(900):
        deep = [deep]
    text = json.dumps(data).replace('"num_frames": 5', f'"num_frames": {deep}')
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(BadRun, match="is no file of --vdb-json"):
        read(path)
