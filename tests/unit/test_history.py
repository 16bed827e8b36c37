"""``vdb history``: sessions of files, of git's versions and of runs, and where a level changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_vdb import cli
from pytest_vdb.baseline.schema import BaselineFile
from pytest_vdb.records import Baseline, Environment, Prompt, Session, Stored, Workload
from pytest_vdb.report import changes

WORKLOAD = Workload((Prompt("a", "a fox"),), (0,), {"num_frames": 5})
ENVIRONMENT = Environment({"device": "cpu"})
WIGGLE = (0.000, 0.003, -0.002, 0.001, -0.003, 0.002)


def date(day: int) -> str:
    return f"2026-01-{day:02}T04:10:00.000000Z"


def store(root: Path, days: dict[int, float], version: str = "1") -> Path:
    """A baseline file with a session a day, its two samples 1 ms about the value."""
    stored = Stored(
        "s",
        "lower",
        {"version": version, "weights": None},
        {date(day): {"a/0": value - 0.001, "b/0": value + 0.001} for day, value in days.items()},
    )
    sessions = {date(day): Session(date(day), f"{day:012x}") for day in days}
    baseline = Baseline(WORKLOAD, sessions, {"latency.cpu": stored})
    file = BaselineFile("m", ENVIRONMENT.identity, {WORKLOAD.hash: baseline})
    path = root / "baselines" / "m" / ENVIRONMENT.key / "test_it.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(file.dumps())
    return path


def slower(days: int, since: int) -> dict[int, float]:
    """Seconds by day: 0.15 s, and 0.18 s from day ``since`` on."""
    level = {day: 0.15 if day < since else 0.18 for day in range(1, days + 1)}
    return {day: one * (1 + WIGGLE[day % 6]) for day, one in level.items()}


def a_run(path: Path, day: int, value: float, **changed: Any) -> str:
    row = {
        "name": "latency.cpu",
        "unit": "s",
        "direction": "lower",
        "kind": "latency",
        "samples": [{"prompt": "a", "seed": 0, "value": value}],
        "headline": "median",
        "provenance": {"how": "so", "version": "1", "weights": None},
        "verdict": {"state": "PASS", "reason": "", "consequence": "pass"},
    }
    test = {
        "nodeid": "benchmarks/test_it.py::test_x[m]",
        "model": {"name": "m"},
        "workload": {"hash": WORKLOAD.hash, **WORKLOAD.portable.to_json()},
        "environments": {"quality": "cpu-1", "performance": ENVIRONMENT.key},
        "measurements": [row],
    }
    run = {"schema": 1, "started": date(day), "commit": "abc", "tests": [test], **changed}
    path.write_text(json.dumps({k: v for k, v in run.items() if v is not None}))
    return str(path)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert cli.main(["history", "m", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))


def test_sessions_and_the_change_between_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(tmp_path, slower(12, since=7))
    assert cli.main(["history", "m"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("latency.cpu (median; lower is better): test_it, workload ")
    assert lines[1].split() == [
        *("2026-01-01", "04:10", "000000000001", "base"),
        *("0.1504", "s", "0.1494", "s", "to", "0.1514", "s"),
    ]
    assert lines[7].startswith("  ---- changed: 0.1501 s → 0.1801 s (+")
    assert lines[7].endswith("%), worse since")
    assert len(lines) == 14


def test_few_sessions_tell_no_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(tmp_path, slower(7, since=4))
    (series,) = told(capsys)
    assert series["changes"] is None
    assert series["no_changes_because"] == "7 of the 8 sessions that it takes to tell a change"


def test_git_remembers_what_the_file_forgot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *who, *arguments], check=True, capture_output=True, timeout=20)

    git("init", "-q")
    days = slower(9, since=5)
    for kept in ({1, 2, 3}, {3, 4, 5, 6}):
        store(tmp_path, {day: days[day] for day in kept})
        git("add", "baselines")
        git("commit", "-qm", "sessions")
    store(tmp_path, {day: days[day] for day in (6, 7, 8, 9)})  # not committed yet
    (series,) = told(capsys)
    assert [one["date"] for one in series["sessions"]] == [date(day) for day in range(1, 10)]
    assert [one["index"] for one in series["changes"]] == [4]
    (series,) = told(capsys, "--no-git")
    assert len(series["sessions"]) == 4


def test_kept_runs_stand_beside_the_sessions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(tmp_path, {1: 0.15, 3: 0.15})
    runs = [a_run(tmp_path / f"{day}.json", day, 0.2) for day in (2, 3)]
    (series,) = told(capsys, "--runs", *runs)
    # The run of day 3 was stored: its session is told, and told once.
    found = [(one["date"][8:10], one["source"], one["value"]) for one in series["sessions"]]
    assert found == [("01", "base", 0.15), ("02", "run", 0.2), ("03", "base", 0.15)]


def test_another_definition_is_another_series(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(tmp_path, {1: 0.15}, version="2")
    assert len(told(capsys, "--runs", a_run(tmp_path / "run.json", 2, 0.2))) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["shapes"], "nothing is stored of 'shapes': known: m"),
        (["m", "--measurement=latency"], "--measurement 'latency': did you mean 'latency.cpu'"),
        (["m", "--baselines=nowhere"], "nowhere holds no baselines"),
        (["m", "--baselines=https://x/y"], "vdb history reads a folder"),
        (["m", "--runs", "old.json"], "old.json: an older pytest-vdb wrote it"),
        (["m", "--runs", "none.json"], "none.json cannot be read"),
    ],
    ids=["model", "measurement", "folder", "URL", "old run", "no run"],
)
def test_what_there_is_none_of(
    tmp_path: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store(tmp_path, {1: 0.15})
    a_run(tmp_path / "old.json", 2, 0.2, started=None)
    assert cli.main(["history", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_who_has_read_enough_gets_no_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store(tmp_path, slower(12, since=7))
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert cli.main(["history", "m"]) == 1
    assert capfd.readouterr().err == ""


def test_names_move_no_cursor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = store(tmp_path, {1: 0.15})
    path.rename(path.with_name("test\x1b[2J.json"))
    assert cli.main(["history", "m"]) == 0
    assert "\x1b" not in capsys.readouterr().out


# ------------------------------------------------------------------------- change points


def test_a_level_that_changes_twice() -> None:
    levels = [1.0] * 6 + [1.1] * 5 + [0.9] * 7
    values = [one * (1 + WIGGLE[i % 6]) for i, one in enumerate(levels)]
    found = changes.find(values)
    assert [one.index for one in found] == [6, 11]
    assert found[0].before == pytest.approx(1.0, rel=0.01)
    assert found[0].after == found[1].before == pytest.approx(1.1, rel=0.01)


@pytest.mark.parametrize(
    "values",
    [
        [0.5] * 20,
        [0.0] * 20,
        [1 + WIGGLE[i % 6] for i in range(20)],
        [1.0, 1.0, 1.0, 1.0, 1.5, 1.0, 1.0, 1.0, 1.0, 1.0],  # an outlier
        [1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0],  # too few
        [],
    ],
    ids=["equal", "zero", "noise", "outlier", "few", "none"],
)
def test_what_is_no_change(values: list[float]) -> None:
    assert changes.find(values) == []


def test_equal_values_that_become_others_have_changed() -> None:
    assert [one.index for one in changes.find([0.5] * 5 + [0.51] * 5)] == [5]


def test_a_report_marks_the_session_that_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = [{"value": value} for value in slower(10, since=6).values()]
    assert [one["changed"] for one in changes.marked(sessions)] == [False] * 5 + [True] + [
        False
    ] * 4
    monkeypatch.setattr(changes, "find_spec", lambda name: None)
    assert not any(one["changed"] for one in changes.marked(sessions))


def test_without_ruptures_the_table_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "find_spec", lambda name: None)
    store(tmp_path, slower(8, since=5))
    assert told(capsys)[0]["no_changes_because"] == changes.INSTALL
