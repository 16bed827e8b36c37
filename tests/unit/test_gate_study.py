"""The studies of the gate: small ones, so that the tables of the docs can be made again."""

import json
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    import gate_study

    monkeypatch.setattr(gate_study, "POWER_RUNS", 200)
    monkeypatch.setattr(gate_study, "METRICS", 20)
    monkeypatch.setattr(gate_study, "SETTINGS", gate_study.SETTINGS[:2])
    return gate_study


def cells(rows):
    head, *rest = rows
    return [dict(zip(head, row, strict=True)) for row in rest]


def number(cell):
    return float(cell.removesuffix(" %"))


def test_the_gate_raises_no_alarm_and_finds_twice_the_tolerance(study):
    for row in cells(study.gate_table(4)):
        assert row["false alarms: suites"] == "0 of 4"
        assert number(row["A/A cleared"]) > 98
        assert number(row["+10 % convicted"]) > 90


def test_the_paired_rule_clears_what_is_equal_and_convicts_what_is_not(study):
    for row in cells(study.quality_table(2)):
        assert row["false alarms: suites"] == "0 of 2"
        if int(row["prompts"]) >= 16 and row["sd of a change"] == "2%":
            assert number(row["twice the tolerance convicted"]) > 85


def test_sets_and_acceptance(study):
    unmoved, moved = cells(study.sets_table(200))[::2][:2]
    assert number(unmoved["p < .05 in"]) < 15
    assert number(moved["p < .05 in"]) > 95
    rerun, _, worse = cells(study.acceptance_table(100))[:3]
    assert number(rerun["accepted"]) > 90
    assert number(worse["red again"]) > 90


def test_what_others_gate_by_raises_alarms(study):
    found = {
        row["rule"]: number(row["false alarms: suites"]) for row in cells(study.peers_table(20))
    }
    assert found["Mann-Whitney p < .05"] > 90


def test_the_trials_are_told_from_what_was_kept(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(TOOLS))
    import gate_trials

    page = tmp_path / "trials.md"
    page.write_text("".join(f"<!-- {name} -->\n<!-- /{name} -->\n" for name in gate_trials.STUDIES))
    monkeypatch.setattr(gate_trials, "PAGE", page)
    verdict = {"state": "PASS", "effect": -0.01, "reason": ""}
    line = {"number": 0, "verdicts": {"latency": verdict}, "trial": None, "exit": 0}
    (tmp_path / "aa.jsonl").write_text(json.dumps(line) + "\n")
    assert gate_trials.main(["told", f"--out={tmp_path}"]) == 0
    assert "| `latency` | 1 PASS | -1.0 % | -1.0 % | -1.0 % |" in page.read_text()
