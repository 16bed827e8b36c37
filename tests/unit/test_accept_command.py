"""`vdb accept` and `vdb bridge` on runs made by hand: what is written, left out and refused."""

import json
import re

import pytest

from pytest_vdb import cli
from pytest_vdb.baseline.accepted import read
from pytest_vdb.records import Prompt, State, Workload

WORKLOAD = Workload(tuple(Prompt(f"p{i}", "a fox") for i in range(8)), (0,), {})
KINDS = {"sharpness": ("score", "higher", "1"), "latency": ("latency", "lower", "s")}
NODE = "test_f.py::test_x[m]"


def measurement(name, values, state, **verdict):
    kind, direction, unit = KINDS[name]
    return {
        "name": name,
        "unit": unit,
        "direction": direction,
        "kind": kind,
        "samples": [{"prompt": f"p{i}", "seed": 0, "value": v} for i, v in enumerate(values)],
        "headline": "median" if unit == "s" else "mean",
        "provenance": {"how": "so", "version": "1", "weights": None},
        "verdict": {"state": state, "reason": "why", "consequence": "fail", "n": 8, **verdict},
    }


def write(path, *measurements, commit="abc", stack="old", nodeid=NODE):
    test = {
        "nodeid": nodeid,
        "model": {"name": "m"},
        "workload": {"hash": WORKLOAD.hash, **WORKLOAD.portable.to_json()},
        "environments": {"quality": f"cpu-{stack}", "performance": f"cpu-{stack}-2c"},
        "measurements": list(measurements),
    }
    path.write_text(json.dumps({"schema": 1, "commit": commit, "tests": [test]}))
    return str(path)


def passing(name, values):
    return measurement(name, values, "PASS", tolerance="2%")


def unknown(name, values):
    return measurement(name, values, "NO_BASELINE")


SHARP = [10.0 + i / 10 for i in range(8)]
FAST = [1.0] * 8


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def vdb(*args):
    return cli.main([*args, "--reason=torch 2.14"])


def entries(folder):
    return {e.measurement: e for path in (folder / "accepted").glob("*.json") for e in read(path)}


def test_a_bridge_holds_what_was_compared(here, capsys):
    old = write(here / "old.json", passing("sharpness", SHARP), passing("latency", FAST))
    slow = unknown("latency", [1.2] * 8)
    slight = unknown("sharpness", [v * 0.999 for v in SHARP])
    new = write(here / "new.json", slight, slow, commit="abc+", stack="new")
    assert vdb("bridge", old, new) == 0
    found = entries(here)
    assert found["sharpness"].compared.startswith("against cpu-old: PASS, -0.1%")
    assert found["latency"].compared == "against cpu-old-2c: 1 s → 1.2 s, +20.0%; not judged"
    assert {e.state for e in found.values()} == {State.NO_BASELINE}
    assert found["latency"].values == {f"p{i}/0": 1.2 for i in range(8)}
    assert found["sharpness"].environment == "cpu-new"
    assert "NO_BASELINE latency: – → 1.2 s" in capsys.readouterr().out


def test_a_bridge_leaves_out_a_score_that_fell(here, capsys):
    old = write(here / "old.json", passing("sharpness", SHARP), passing("latency", FAST))
    soft = unknown("sharpness", [v * 0.9 for v in SHARP])
    new = write(here / "new.json", soft, unknown("latency", FAST), stack="new")
    assert vdb("bridge", old, new) == 1
    assert list(entries(here)) == ["latency"]
    assert "left out: sharpness (test_f.py::test_x[m]): against cpu-old: REGRESSION" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"commit": "def", "stack": "new"}, "of commit abc and .* of def"),
        ({"stack": "new", "nodeid": "test_g.py::test_x[m]"}, "nothing of .* is NO_BASELINE"),
    ],
)
def test_runs_that_no_bridge_can_join(here, capsys, change, message):
    old = write(here / "old.json", passing("sharpness", SHARP))
    new = write(here / "new.json", unknown("sharpness", SHARP), **change)
    assert vdb("bridge", old, new) == 2
    assert re.search(message, capsys.readouterr().err)
    assert entries(here) == {}


def worse(name, values, **verdict):
    said = {"effect": -0.1, "interval": [-0.12, -0.08], "baseline": 10.0, "tolerance": "2%"}
    return measurement(name, values, "REGRESSION", **{**said, **verdict})


def test_what_cannot_be_accepted_is_named_beside_what_can(here, capsys):
    unsure = measurement("latency", FAST, "INCONCLUSIVE")
    run = write(here / "run.json", worse("sharpness", SHARP), unsure)
    assert vdb("accept", run) == 0
    assert list(entries(here)) == ["sharpness"]
    assert "not accepted: latency of test_f.py::test_x[m] is INCONCLUSIVE" in (
        capsys.readouterr().out
    )
    assert vdb("accept", run, "--only=latency") == 2
    assert "its reason says what would settle it" in capsys.readouterr().err
    assert cli.main(["accept", run, "--reason", "a\x1b[31m"]) == 2
    assert "--reason is what reviewers read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "said",
    [
        {"effect": None},
        {"interval": [0.1]},
        {"tolerance": 5},
        {"tolerance": "much"},
        {"baseline": "1"},
    ],
)
def test_a_forged_run_writes_nothing(here, capsys, said):
    run = write(here / "run.json", worse("sharpness", SHARP, **said))
    assert vdb("accept", run) == 2
    assert "vdb: " in capsys.readouterr().err
    assert not (here / "accepted").exists()
