"""The composite action, and the pipelines that the docs show: what they ask for exists, nothing
foreign becomes a part of a script, and the scripts do what they say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_vdb.options import OPTIONS

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]
ACTION = yaml.safe_load((ROOT / ".github/actions/vdb/action.yml").read_text(encoding="utf-8"))
STEPS: dict[str, Any] = {step["name"]: step for step in ACTION["runs"]["steps"]}
EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")


def shown(page: str) -> list[Any]:
    """The pipelines that a page shows, read as YAML."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]


PIPELINES = shown("pull-requests.md") + shown("ci.md")
JOBS = [
    job
    for pipeline in PIPELINES
    if isinstance(pipeline, dict)
    for job in pipeline.get("jobs", {}).values()
]


def test_every_expression_names_what_there_is() -> None:
    steps = {step["id"] for step in ACTION["runs"]["steps"] if "id" in step}
    for said in re.findall(r"inputs\.([\w-]+)", json.dumps(ACTION["runs"])):
        assert said in ACTION["inputs"]
    for step, output in re.findall(r"steps\.([\w-]+)\.outputs\.([\w-]+)", json.dumps(ACTION)):
        assert step in steps
        assert f'"{output}=$' in STEPS["Gate"]["run"]
    unused = {*ACTION["inputs"]} - {*re.findall(r"inputs\.([\w-]+)", json.dumps(ACTION["runs"]))}
    assert unused == set()


@pytest.mark.parametrize("step", STEPS.values(), ids=lambda step: step["name"])
def test_nothing_is_pasted_into_a_script(step: dict[str, Any]) -> None:
    """Inputs reach scripts by the environment, and other actions come from one commit."""
    for script in (step.get("run", ""), step.get("with", {}).get("script", "")):
        assert not EXPRESSION.search(script)
    assert "uses" in step or step["shell"] == "bash"
    if "uses" in step:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", step["uses"])


def test_the_docs_ask_for_inputs_that_there_are() -> None:
    used = [step for job in JOBS for step in job["steps"] if "actions/vdb" in step.get("uses", "")]
    assert len(used) >= 2
    for step in used:
        assert {*step["with"]} <= {*ACTION["inputs"]}
    flags = {f"--vdb-{option.name}".replace("_", "-") for option in OPTIONS}
    for step in used:
        for line in step["with"].get("args", "").splitlines():
            assert not line.startswith("--vdb") or line.partition("=")[0] in flags


def test_no_job_of_the_docs_pastes_a_name_of_the_change_into_its_script() -> None:
    """Branches, titles and messages are the author's words. A base's branch is not."""
    for job in JOBS:
        for step in job["steps"]:
            for said in EXPRESSION.findall(step.get("run", "")):
                assert said in ("github.base_ref",), said


def test_a_job_that_runs_a_fork_s_code_writes_nothing() -> None:
    for pipeline in PIPELINES:
        events = pipeline.get(True, {}) if isinstance(pipeline, dict) else {}  # YAML reads `on`
        assert "pull_request_target" not in events
        if "workflow_run" in events:
            (job,) = pipeline["jobs"].values()
            assert [step for step in job["steps"] if "args" in step.get("with", {})] == []


# ------------------------------------------------------------------------- the scripts


@pytest.fixture
def gate(tmp_path: Path) -> Any:
    """Run the step that gates, as a runner of GitHub does, and give back its result and outputs."""

    def run(**inputs: str) -> tuple[subprocess.CompletedProcess[str], dict[str, str]]:
        outputs = tmp_path / "outputs"
        outputs.write_text("")
        defaults = {key: value.get("default", "") for key, value in ACTION["inputs"].items()}
        given = STEPS["Gate"]["env"]
        names = {
            key: EXPRESSION.fullmatch(value)[1].partition(".")[2] for key, value in given.items()
        }
        values = {**defaults, "python": sys.executable, "html": "false", "again": "0"}
        values |= {key.replace("_", "-"): value for key, value in inputs.items()}
        environment = {key: str(values[name]) for key, name in names.items()}
        result = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", STEPS["Gate"]["run"]],
            cwd=tmp_path,
            env={
                **os.environ,
                **environment,
                "RUNNER_TEMP": str(tmp_path),
                "GITHUB_OUTPUT": str(outputs),
            },
            capture_output=True,
            text=True,
            timeout=60,
        )
        lines = outputs.read_text().splitlines()
        return result, dict(line.split("=", 1) for line in lines)

    return run


def test_a_kept_run_is_reported(gate, tmp_path, ran, tested, measured) -> None:
    run = ran(1, tested("a.py::t", "failed", measured("m", "REGRESSION", consequence="fail")))
    (tmp_path / "run.json").write_text(json.dumps(run))
    result, outputs = gate(run_json="run.json")
    assert result.returncode == 0, result.stderr
    assert outputs == {"folder": str(tmp_path / "vdb-video-gate"), "exit-code": "1"}
    text = (tmp_path / "vdb-video-gate" / "comment.md").read_text()
    assert "1 measurement got worse" in text
    assert "could have written any number" in text


def test_what_is_no_run_is_no_green(gate, tmp_path) -> None:
    (tmp_path / "run.json").write_text('{"schema": 1, "exit": "0; true", "tests": []}')
    _, outputs = gate(run_json="run.json")
    assert outputs["exit-code"] == "2"
    (tmp_path / "run.json").write_text("{}")
    _, outputs = gate(run_json="run.json")
    assert outputs["exit-code"] == "2"


def test_pytest_gets_each_line_as_one_argument(gate, tmp_path) -> None:
    (tmp_path / "test_it.py").write_text(
        "def test_it():\n    pass\n\ndef test_no():\n    assert 0\n"
    )
    hostile = "test_it.py\n-k\nit and not no\n--ignore=$(touch pwned); touch pwned"
    result, outputs = gate(args=f"-pno:cacheprovider\n{hostile}", name="a.b")
    assert outputs["exit-code"] == "0", result.stdout + result.stderr
    assert "1 passed, 1 deselected" in result.stdout
    folder = tmp_path / "vdb-a.b"
    assert {path.name for path in folder.iterdir()} == {"run.json", "comment.md", "junit.xml"}
    assert "Nothing was gated" in (folder / "comment.md").read_text()
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("name", ["../up", "a b", "a;b", "", "x" * 81, "a\nb=c"])
def test_a_name_is_no_path_and_no_output(gate, name) -> None:
    result, outputs = gate(name=name)
    assert (result.returncode, outputs) == (4, {})
