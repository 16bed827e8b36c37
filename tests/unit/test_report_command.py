"""``vdb report``: reports of a kept run, made again."""

from __future__ import annotations

import json

import pytest

from pytest_vdb import cli


@pytest.fixture
def kept(tmp_path, monkeypatch, ran, tested, measured):
    monkeypatch.chdir(tmp_path)
    worse = measured("clip", "REGRESSION", consequence="fail", effect=-0.1, baseline=0.55)
    run = ran(1, tested("a.py::t", "failed", worse))
    (tmp_path / "run.json").write_text(json.dumps(run))
    return tmp_path


def test_a_report_is_made_again_from_a_kept_run(kept, capsys):
    assert cli.main(["report", "run.json", "--markdown=out.md", "--url=https://x.y/z"]) == 0
    assert "(<https://x.y/z>)" in (kept / "out.md").read_text()
    assert cli.main(["report", "run.json", "--markdown=out.md"]) == 0  # its own is replaced
    assert capsys.readouterr().out == ""


def test_in_a_github_job_it_can_tell_github(kept, capsys, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    assert cli.main(["report", "run.json", "--github", "--claimed"]) == 0
    assert "could have written any number" in (kept / "summary.md").read_text()
    assert capsys.readouterr().out.startswith("::error file=a.py,line=7,title=clip got worse::")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--markdown=mine.md"], "mine.md exists and no run of pytest-vdb wrote it"),
        (["--markdown=run.json"], "name two files"),
        (["--markdown=."], "is a folder"),
        ([], "which one? Add --html, --markdown"),
        (["--markdown=a.md", "--url=javascript:x"], "no address of a page"),
    ],
)
def test_what_it_refuses(kept, capsys, arguments, said):
    (kept / "mine.md").write_text("# my notes")
    assert cli.main(["report", "run.json", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert (kept / "mine.md").read_text() == "# my notes"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "no file of --vdb-json"),
        ("[]", "no schema 1"),
        ('{"schema": 2, "tests": []}', "no schema 1"),
        ('{"schema": 1, "tests": [{}]}', "no run of ours"),
        ('{"schema": 1, "tests": [], "shard": {}}', "vdb merge"),
        ('{"schema": 1, "tests": ' + "[" * 100_000, "no file of --vdb-json"),
    ],
)
def test_what_is_no_run(kept, capsys, content, said):
    (kept / "run.json").write_text(content)
    assert cli.main(["report", "run.json", "--markdown=out.md"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_run_that_lies_about_its_types_is_a_line_and_no_traceback(kept, capsys):
    run = json.loads((kept / "run.json").read_text())
    run["timing"] = {"generate": "@octocat\n::error::x"}
    (kept / "run.json").write_text(json.dumps(run))
    assert cli.main(["report", "run.json", "--markdown=out.md"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("vdb report: ")
    assert out.count("\n") == 1
    assert not (kept / "out.md").exists()
