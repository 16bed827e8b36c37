"""`vdb accept` and `vdb bridge` on runs made by hand: what is written, left out and refused."""

import json
import re

import pytest

from pytest_vdb import cli
from pytest_vdb.baseline import update
from pytest_vdb.baseline.accepted import read
from pytest_vdb.baseline.store import Store
from pytest_vdb.records import (
    Kind,
    Measurement,
    Prompt,
    Provenance,
    Session,
    State,
    Value,
    Workload,
)

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
    new = write(here / "new.json", slight, slow, stack="new")
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
        ({"commit": "abc+", "stack": "new"}, r"new\.json is of abc\+, a tree with changes"),
        ({"commit": "", "stack": "new"}, "of commit abc and .* of unknown"),
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
        {"interval": [-0.09, -0.01]},
        {"interval": [0.5, -0.5]},
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


def test_a_bridge_launders_nothing_that_the_old_stack_did_not_pass(here, capsys):
    slow = measurement("latency", [1.5] * 8, "REGRESSION", tolerance="5%")
    old = write(here / "old.json", slow, measurement("sharpness", [], "UNMEASURED"))
    new = write(
        here / "new.json", unknown("latency", FAST), unknown("sharpness", SHARP), stack="new"
    )
    assert vdb("bridge", old, new) == 1
    told = capsys.readouterr().out
    assert "left out: latency (test_f.py::test_x[m]): the old stack's own run is REGRESS" in told
    assert "left out: sharpness (test_f.py::test_x[m]): the old stack's own run is UNMEAS" in told
    assert entries(here) == {}


def test_a_bridge_judges_by_the_policy_and_not_by_what_a_run_says(here):
    lax = measurement("sharpness", SHARP, "PASS", tolerance="99%")
    old = write(here / "old.json", lax)
    new = write(here / "new.json", unknown("sharpness", [v * 0.9 for v in SHARP]), stack="new")
    assert vdb("bridge", old, new) == 1
    assert entries(here) == {}
    (here / "pytest.ini").write_text("[pytest]\nvdb_tolerance = sharpness=15%\n")
    assert vdb("bridge", old, new) == 0
    assert "(tolerance 15%)" in entries(here)["sharpness"].compared


def keep(folder, values):
    """A stored baseline of the test's sharpness on the old stack."""
    samples = tuple(Value(f"p{i}", 0, value) for i, value in enumerate(values))
    score = Measurement("sharpness", "1", "higher", Kind.SCORE, "mean", samples, Provenance("so"))
    path = "m/cpu-old/test_f.json"
    one = update.Update(path, "test_x[m]", "m", {"device": "cpu"}, WORKLOAD, (score,), {})
    store, session = Store(folder, folder / "media"), Session("2026-01-01", "abc")
    update.apply(store, [one], session, mode="all", keep=9, blobs=folder / "none")


def test_an_entry_is_computed_from_samples_and_the_stored_baseline(here, capsys):
    """What a run says of its own change would bound what a later one may do."""
    keep(here / "baselines", SHARP)
    forged = {"effect": -0.5, "interval": [-0.99, 0.0], "baseline": 99.0, "tolerance": "90%"}
    run = write(here / "run.json", worse("sharpness", [v * 0.9 for v in SHARP], **forged))
    assert vdb("accept", run) == 0
    entry = entries(here)["sharpness"]
    assert entry.effect == pytest.approx(-0.1)
    assert entry.interval == pytest.approx((-0.1, -0.1), abs=0.01)
    assert entry.old == pytest.approx(sum(SHARP) / 8)
    assert (entry.tolerance, entry.on_trust) == ("2%", "")
    assert "tolerance 2%" in capsys.readouterr().out


def test_what_is_taken_on_trust_is_said(here, capsys):
    slow = worse("latency", FAST, effect=0.06, interval=[0.04, 0.08], baseline=1.0, tolerance="9%")
    assert vdb("accept", write(here / "run.json", slow, worse("sharpness", SHARP))) == 0
    found = entries(here)
    assert "run's own word: times cannot be taken again" in found["latency"].on_trust
    assert "run's own word: baselines has no baseline of it" in found["sharpness"].on_trust
    told = capsys.readouterr().out
    assert "+6.0% [+4.0, +8.0], tolerance 9%" in told
    assert "on trust: old, effect and interval are the run's own word: times cannot" in told

    keep(here / "baselines", SHARP)  # which equals what the run calls a regression
    assert vdb("accept", str(here / "run.json"), "--only=sharpness") == 0
    assert "the stored baseline here says IDENTICAL" in entries(here)["sharpness"].on_trust


def test_times_without_an_interval_are_refused(here, capsys):
    run = write(here / "run.json", worse("latency", FAST, effect=0.06, interval=None))
    assert vdb("accept", run) == 2
    assert "a REGRESSION of latency without an interval" in capsys.readouterr().err
    assert not (here / "accepted").exists()


def test_a_regression_judged_under_auto(here):
    assert (
        vdb("accept", write(here / "run.json", worse("sharpness", SHARP, tolerance="auto 3.1%")))
        == 0
    )
    assert entries(here)["sharpness"].tolerance == "auto 3.1%"


def test_an_entry_is_written_where_runs_read_it(here, capsys, monkeypatch):
    ini = "[pytest]\nvdb_accepted = reviewed\naddopts = --vdb-json=run.json\n"
    (here / "pytest.ini").write_text(ini)
    (here / "deep").mkdir()
    monkeypatch.chdir(here / "deep")
    run = write(here / "deep/run.json", worse("sharpness", SHARP))
    assert vdb("accept", run) == 0
    assert len(list((here / "reviewed").glob("run-*.json"))) == 1
    assert "../reviewed/run-" in capsys.readouterr().out
    assert (here / "deep/run.json").exists()  # no run was begun
    assert vdb("accept", run, "--to=mine") == 0
    assert f"--vdb-accepted={here / 'deep/mine'}" in capsys.readouterr().out


def test_arguments_that_nobody_knows(here, capsys):
    run = write(here / "run.json", worse("sharpness", SHARP))
    assert vdb("accept", run, "--onyl=sharpness") == 2
    assert vdb("accept", run, run) == 2
    assert f"unrecognized arguments: {run}" in capsys.readouterr().err


def test_what_the_run_did_not_take_cannot_be_accepted(here, capsys):
    run = write(here / "run.json", unknown("sharpness", []), unknown("latency", [1.0] * 8))
    assert cli.main(["accept", run, "--reason", "meant"]) == 0
    told = capsys.readouterr().out
    assert "not accepted: sharpness of" in told
    assert "this run did not take it" in told
    alone = write(here / "alone.json", unknown("sharpness", []))
    assert cli.main(["accept", alone, "--reason", "meant"]) != 0
    assert "this run did not take it" in capsys.readouterr().err
