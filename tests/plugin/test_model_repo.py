"""examples/model-repo, as its maintainers work: a repository, pull requests, and their job"""

import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from tests.conftest import LEAN

EXAMPLE = Path(__file__).parents[2] / "examples/model-repo"
WORKFLOW = yaml.safe_load((EXAMPLE / ".github/workflows/gate.yml").read_text())
STEPS = {step.get("name"): step for step in WORKFLOW["jobs"]["gate"]["steps"]}
GATE = re.search(r"^CI=1 (pytest .*)$", (EXAMPLE / "README.md").read_text(), re.MULTILINE)[1]
SCORES = ("temporal_flickering", "motion_energy", "ssim", "latent_cosine")


@pytest.fixture
def sh(monkeypatch):
    """Run a script as a job's step does."""
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "someone")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "someone@example.org")
    folder = os.path.dirname(sys.executable)
    monkeypatch.setenv("PATH", folder, prepend=os.pathsep)
    monkeypatch.setenv("GITHUB_BASE_REF", "main")
    monkeypatch.setenv("PYTEST_ADDOPTS", " ".join(LEAN))
    monkeypatch.setenv("CI", "true")

    def run(script, where):
        command = ["bash", "-e", "-c", script]
        return subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=250)

    return run


@pytest.fixture
def main(tmp_path, sh):
    """The repository's base branch, with a baseline for the stack that runs here."""
    root = tmp_path / "origin"
    shutil.copytree(EXAMPLE, root)
    if not (root / "baselines/small-wan" / key()).exists():  # another torch or diffusers
        assert sh("pytest benchmarks/ --vdb-update", root).returncode == 0
    assert sh("git init -q -b main && git add . && git commit -qm Model", root).returncode == 0
    return root


def key():
    from pytest_vdb.environment import quality_environment

    return quality_environment("cpu").key


def pull_request(main, name, sh, *edits):
    """A clone in which each (file, old, new) is one commit, on a branch of its own."""
    clone = main.with_name(name)
    sh(f"git clone -q {main} {clone} && cd {clone} && git switch -qc {name}", main)
    for file, old, new in edits:
        text = (clone / file).read_text()
        assert old in text, (file, old)
        (clone / file).write_text(text.replace(old, new))
        assert sh("git commit -qam Change", clone).returncode == 0
    return clone


def job(clone, sh):
    """The steps of the workflow that judge."""
    judged = sh(STEPS["Judge by the base branch"]["run"], clone)
    assert judged.returncode == 0, judged.stderr
    gate = sh(STEPS["Gate"]["run"], clone)
    tests = json.loads((clone / "run.json").read_text())["tests"]
    states = {m["name"]: m["verdict"]["state"] for t in tests for m in t["measurements"]}
    return gate, states


def test_a_bad_pull_request_and_its_revert(main, sh):
    pipeline = "small_wan/pipeline.py"
    late = (pipeline, "now >= last", "now < last")  # guides the late steps, not the early ones
    loose = ("benchmarks/test_text_to_video.py", "min > 0.9 ", "min > 0.1 ")
    bad = pull_request(main, "bad", sh, late, loose)
    reverted = pull_request(main, "reverted", sh, late, (pipeline, late[2], late[1]))
    with ThreadPoolExecutor() as pool:
        red, green = pool.map(lambda clone: job(clone, sh), (bad, reverted))

    gate, _ = red
    assert gate.returncode == 1
    assert "assert ssim.min > 0.9000" in gate.stdout, "the pull request's own floor was taken"
    assert "1 failed, 2 passed" in gate.stdout
    assert "THIS CHANGE EDITS ITS OWN GATE; baselines and policy are those of" in gate.stdout
    assert (
        "benchmark benchmarks/test_text_to_video.py changed; this run has the base's" in gate.stdout
    )
    assert "0.9 → 0.1, in assert" in gate.stdout
    assert 'failures="1"' in (bad / "junit.xml").read_text()

    # Reverted, it is the base branch again, which holds the committed baseline.
    assert sh("git diff --exit-code origin/main HEAD", reverted).returncode == 0
    gate, states = green
    assert gate.returncode == 0, gate.stdout
    assert "ITS OWN GATE" not in gate.stdout
    # Equal to the bit on the machine that made the baseline; in the sixth digit on others.
    assert {states[name] for name in SCORES} <= {"IDENTICAL", "PASS"}
    assert states["latency.cpu"] == states["memory.cpu_peak"] == "NOT_APPLICABLE"


def test_the_workflow_runs_what_the_readme_says():
    assert WORKFLOW[True] == {"pull_request": None}  # YAML's "on"
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert [line.strip() for line in STEPS["Gate"]["run"].splitlines()].count(GATE) == 1
    kept = STEPS[None]["with"]["path"].split()
    assert [f"--vdb-json={kept[0]}", f"--junitxml={kept[1]}"] == GATE.split()[-2:]


def test_only_what_holds_on_every_machine_is_committed():
    paths = EXAMPLE.glob("baselines/small-wan/cpu-torch*-diffusers*-??????/*.json")
    for workload in json.loads(next(paths).read_text())["workloads"].values():
        assert set(workload["measurements"]) <= set(SCORES)
        assert all("video" in media for media in workload["media"].values())
