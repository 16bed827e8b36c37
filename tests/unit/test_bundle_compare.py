"""What a re-run says of the run in a bundle."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from pytest_vdb.baseline.run import read
from pytest_vdb.bundle.compare import Outcome, Side, compare
from pytest_vdb.records import Prompt, Workload
from tests.unit.a_run import a_run, row


def side(run: dict[str, Any], folder: Path) -> Side:
    path = folder / "side.json"
    path.write_text(json.dumps(run))
    return Side(run, read(path).rows)


def outcomes(old: dict[str, Any], new: dict[str, Any], folder: Path, **how: Any) -> dict[str, Any]:
    found = compare(side(old, folder), side(new, folder), **how)
    return {one.what: one.outcome for one in found}


SAME = {"weights": Outcome.SAME, "videos": Outcome.SAME, "sharpness": Outcome.SAME}


def test_equal_runs_are_the_same(tmp_path: Path) -> None:
    assert outcomes(a_run(), a_run(), tmp_path) == SAME


def test_what_differs_is_told(tmp_path: Path) -> None:
    new = a_run(row("sharpness", "score", 0.5, 0.7000001))
    test = new["tests"][0]
    test["kept"]["weights"]["known"] = ["abd"]
    test["kept"]["media"]["p0/0"]["frames"] = "f" * 64
    differs = dict.fromkeys(SAME, Outcome.DIFFERS)
    assert outcomes(a_run(), new, tmp_path) == differs
    # Of another machine nobody expects the same bits; the weights are the same or they are not.
    new["environment"]["facts"]["cpu"] = "Xeon, 64 cores"
    elsewhere = {**SAME, "weights": Outcome.DIFFERS, "videos": Outcome.SKIPPED}
    assert outcomes(a_run(), new, tmp_path) == {**elsewhere, "sharpness": Outcome.HOLDS}
    new["tests"][0]["measurements"] = [row("sharpness", "score", 0.7, 0.9)]
    assert outcomes(a_run(), new, tmp_path)["sharpness"] in (Outcome.DIFFERS, Outcome.OPEN)


def test_a_changed_prompt_a_lost_test_and_a_lost_measurement(tmp_path: Path) -> None:
    new = a_run()
    workload = Workload((Prompt("p0", "a cat"), Prompt("p1", "a boat")), (0,), {"num_frames": 5})
    new["tests"][0]["workload"] = {"hash": workload.hash, **workload.portable.to_json()}
    assert outcomes(a_run(), new, tmp_path) == {"workload": Outcome.DIFFERS}
    lost = {**a_run(), "tests": []}
    assert outcomes(a_run(), lost, tmp_path) == {"the test": Outcome.DIFFERS}
    less = a_run()
    less["tests"][0]["measurements"] = []
    assert outcomes(a_run(), less, tmp_path) == {**SAME, "sharpness": Outcome.DIFFERS}


def test_another_network_is_another_definition(tmp_path: Path) -> None:
    old = a_run(row("sharpness", "score", 0.5, 0.7, weights="a" * 64))
    assert outcomes(old, a_run(), tmp_path)["sharpness"] is Outcome.DIFFERS


@pytest.mark.parametrize(
    ("field", "value"),
    [("kind", "latency"), ("unit", "dB"), ("direction", "lower"), ("headline", "max")],
)
def test_a_value_means_what_it_means_here(tmp_path: Path, field: str, value: str) -> None:
    old = a_run()
    old["tests"][0]["measurements"][0][field] = value
    old["environment"]["facts"]["cpu"] = "Xeon, 64 cores"  # where a latency is not compared
    assert outcomes(old, a_run(), tmp_path)["sharpness"] is Outcome.DIFFERS


def test_another_environment_is_told(tmp_path: Path) -> None:
    old = a_run(row("sharpness", "score", 0.5, 0.7000001))
    old["tests"][0]["environments"]["quality"] = "cpu-9"
    elsewhere = {**SAME, "environment": Outcome.SKIPPED, "sharpness": Outcome.HOLDS}
    assert outcomes(old, a_run(), tmp_path) == elsewhere


@pytest.mark.parametrize(
    ("factor", "outcome"),
    [(1.0, Outcome.HOLDS), (0.7, Outcome.HOLDS), (3.0, Outcome.DIFFERS), (0.3, Outcome.DIFFERS)],
)
def test_a_cost_is_held_to_the_gates_rule(tmp_path: Path, factor: float, outcome: Any) -> None:
    old = a_run(row("latency.cpu", "latency", 1.0, 1.01, unit="s"))
    new = a_run(row("latency.cpu", "latency", factor, factor * 1.01, unit="s"))
    assert outcomes(old, new, tmp_path)["latency.cpu"] is outcome
    new["tests"][0]["environments"]["performance"] = "cpu-3"
    assert outcomes(old, new, tmp_path)["latency.cpu"] is Outcome.SKIPPED


def test_by_rule_forgives_what_the_gate_does(tmp_path: Path) -> None:
    new = copy.deepcopy(a_run(row("sharpness", "score", 0.5, 0.7000001)))
    assert outcomes(a_run(), new, tmp_path)["sharpness"] is Outcome.DIFFERS
    assert outcomes(a_run(), new, tmp_path, by_rule=True)["sharpness"] is Outcome.HOLDS
