"""`vdb accept` and --vdb-honour-accepted: what a person let stand passes, and nothing worse."""

import json

import numpy as np
import pytest

from pytest_vdb import cli, environment
from pytest_vdb.models.clips import write_webp

PROMPTS = [f"a field of noise number {i}" for i in range(8)]
QUALITY = "def test_quality(vdb):\n    assert vdb.score('sharpness').mean > 0"
NODE = "benchmarks/test_bench.py::test_quality[published]"


def film(root, contrast, model="published"):
    """Eight recorded clips whose sharpness falls with ``contrast`` (squared)."""
    folder = root / "clips"
    folder.mkdir(exist_ok=True)
    lines = []
    for i, prompt in enumerate(PROMPTS):
        noise = np.random.default_rng(i).uniform(-1, 1, (6, 32, 32, 3))
        frames = (128 + contrast * (80 + i) * noise).astype(np.uint8)
        write_webp(folder / f"{i}.webp", frames, 8, lossless=True, max_side=None)
        lines.append(json.dumps({"file": f"{i}.webp", "prompt": prompt, "model": model}) + "\n")
    (folder / "prompts.jsonl").write_text("".join(lines))


def gate(suite, *args):
    command = ["-p", "no:cacheprovider", "benchmarks", "--vdb-videos=clips", "--vdb-json=run.json"]
    return suite.pytester.runpytest_inprocess(*command, *args)


def verdict(suite):
    (test,) = json.loads((suite.root / "run.json").read_text())["tests"]
    (measurement,) = test["measurements"]
    return measurement["verdict"]


def accept(*args, command="accept", run="run.json"):
    return cli.main([command, run, *args, "--reason=softer on purpose"])


@pytest.fixture
def filmed(suite, monkeypatch):
    """A suite of recorded clips on CI, with a baseline of full contrast."""
    monkeypatch.setenv("CI", "1")
    suite.write(QUALITY)
    film(suite.root, 1.0)
    gate(suite, "--vdb-update").assert_outcomes(passed=1)
    return suite


def test_a_legitimate_change_is_green_by_acceptance_and_a_worse_one_red(filmed, capsys):
    film(filmed.root, 0.9)  # sharpness falls by 19 %
    gate(filmed).assert_outcomes(failed=1)
    assert accept() == 0
    (file,) = (filmed.root / "accepted").glob("run-*.json")
    (entry,) = json.loads(file.read_text())["entries"]
    assert entry["nodeid"] == NODE
    assert entry["state"] == "REGRESSION"
    assert entry["old"] > entry["new"] == pytest.approx(entry["old"] * 0.81, rel=0.01)
    assert "REGRESSION sharpness" in capsys.readouterr().out

    result = gate(filmed)  # unhonoured: red as before, and it says what would honour it
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*accepted/{file.name} accepts sharpness: --vdb-honour-accep*"])

    result = gate(filmed, "--vdb-honour-accepted")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["  sharpness *ACCEPTED", f"*ACCEPTED sharpness*softer on purpose*accepted/{file.name}*"]
    )
    assert verdict(filmed)["accepted"] == f"accepted/{file.name}"

    film(filmed.root, 0.87)  # 24 % beyond the baseline, and 7 % beyond what was accepted
    result = gate(filmed, "--vdb-honour-accepted")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*REGRESSION sharpness*worse than what was accepted*"])

    film(filmed.root, 1.0)  # the fix: nothing needs an acceptance
    gate(filmed, "--vdb-honour-accepted").assert_outcomes(passed=1)
    assert verdict(filmed)["state"] == "IDENTICAL"


def test_a_new_model_is_green_by_acceptance_and_a_worse_one_red(filmed):
    film(filmed.root, 1.0, model="novel")
    gate(filmed).assert_outcomes(failed=1)
    assert verdict(filmed)["state"] == "NO_BASELINE"
    assert accept("--only=*[novel]") == 0

    result = gate(filmed, "--vdb-honour-accepted")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*NEW sharpness*against what was accepted: every value equals*"])

    film(filmed.root, 0.9, model="novel")
    result = gate(filmed, "--vdb-honour-accepted")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*REGRESSION sharpness*Worse than what was accepted*"])
    assert accept() == 0  # a second review, of the worse one
    gate(filmed, "--vdb-honour-accepted").assert_outcomes(passed=1)

    filmed.write("def test_quality(vdb):\n    assert vdb.score('sharpness').mean > 1e9")
    gate(filmed, "--vdb-honour-accepted").assert_outcomes(failed=1)  # its own floor holds


def test_a_bridge_opens_a_new_stack_and_a_worse_commit_is_red(filmed, monkeypatch, capsys):
    gate(filmed).assert_outcomes(passed=1)
    (filmed.root / "run.json").rename(filmed.root / "old.json")
    # All that a newer stack is to a baseline is its name.
    monkeypatch.setattr(environment, "_software", lambda: {"torch": "torch9.9"})
    gate(filmed).assert_outcomes(failed=1)
    assert verdict(filmed)["state"] == "NO_BASELINE"
    assert accept("run.json", command="bridge", run="old.json") == 0
    assert "IDENTICAL" in capsys.readouterr().out

    result = gate(filmed, "--vdb-honour-accepted")
    result.assert_outcomes(passed=1)
    assert verdict(filmed)["state"] == "NEW"
    film(filmed.root, 0.9)
    gate(filmed, "--vdb-honour-accepted").assert_outcomes(failed=1)
    assert "worse than what was accepted" in verdict(filmed)["reason"]


def test_a_bridge_leaves_out_what_fell_with_the_stack(filmed, monkeypatch, capsys):
    gate(filmed)
    (filmed.root / "run.json").rename(filmed.root / "old.json")
    monkeypatch.setattr(environment, "_software", lambda: {"torch": "torch9.9"})
    film(filmed.root, 0.8)
    gate(filmed)
    assert accept("run.json", command="bridge", run="old.json") == 1
    assert "left out: sharpness" in capsys.readouterr().out
    assert not (filmed.root / "accepted").exists()


def test_what_passes_or_is_unknown_cannot_be_accepted(filmed, capsys):
    gate(filmed)
    assert accept() == 2
    assert "sharpness" in (told := capsys.readouterr().err)
    assert "is IDENTICAL: it passes as it is" in told
    assert accept("--only=clip_score") == 2
    assert "has no test or measurement 'clip_score'" in capsys.readouterr().err


def test_a_corrupt_entry_fails_what_it_may_be_about(filmed):
    film(filmed.root, 0.9)
    (filmed.root / "accepted").mkdir()
    (filmed.root / "accepted/run.json").write_text('{"schema": 1, "entries": [{}]}')
    result = gate(filmed)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*BaselineError: *run.json is corrupt*accept anew*"])


@pytest.mark.parametrize(
    ("variable", "value"),
    [("GITHUB_EVENT_NAME", "pull_request"), ("CI_MERGE_REQUEST_IID", "7")],
)
def test_a_pull_request_stores_nothing(filmed, monkeypatch, variable, value):
    before = {path: path.read_bytes() for path in filmed.baselines}
    monkeypatch.setenv(variable, value)
    film(filmed.root, 0.9, model="novel")
    gate(filmed)
    assert "vdb accept lets it stand" in verdict(filmed)["reason"]
    film(filmed.root, 0.9)
    everything = ("--vdb-update", "--vdb-update-mode=all")
    result = gate(filmed, *everything)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*only runs of the base branch*--vdb-run-source=base*"])
    assert {path: path.read_bytes() for path in filmed.baselines} == before

    assert gate(filmed, *everything, "--vdb-run-source=base").ret == 0
    (data,) = [json.loads(p.read_text()) for p in filmed.baselines]
    (workload,) = data["workloads"].values()
    assert [s["source"] for s in workload["sessions"].values()] == ["base", "base"]


def test_a_session_of_a_change_gates_nothing(filmed):
    def belongs_to_a_change(data):
        for workload in data["workloads"].values():
            for session in workload["sessions"].values():
                session["source"] = "change"

    filmed.edit_baseline(belongs_to_a_change)
    gate(filmed).assert_outcomes(failed=1)
    assert verdict(filmed)["state"] == "NO_BASELINE"
    gate(filmed, "--vdb-update").assert_outcomes(passed=1)
    gate(filmed).assert_outcomes(passed=1)
