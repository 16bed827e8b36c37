"""--vdb-baseline-ref: the gate is the base branch's, and a change of it is called out"""

import json
import subprocess

import pytest

from pytest_vdb.cli import main
from tests.conftest import LEAN

BENCH = """
import pytest

def test_quality(vdb):
    assert vdb.score("temporal_flickering").mean > 0.93
    assert vdb.score("ssim").min > 0.5
"""
INI = "[pytest]\nvdb_tolerance =\n    temporal_flickering=1%\n"
SCORES = ("temporal_flickering", "ssim")


def git(where, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    command = ["git", "-C", str(where), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class Repo:
    """A repository whose ``main`` has benchmarks, clips and a baseline."""

    def __init__(self, pytester, draw):
        self.pytester = pytester
        self.root = pytester.path
        self.edit("benchmarks/test_bench.py", BENCH)
        self.edit("pytest.ini", INI)
        self.edit(".gitignore", "run.json*\n__pycache__\n.pytest_cache\n")
        self.draw = draw
        draw(self.root / "clips")

    def edit(self, path, text):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def run(self, *args, ref="main", how="runpytest_inprocess"):
        flags = [f"--vdb-baseline-ref={ref}"] if ref else []
        command = [*LEAN, "benchmarks", "--vdb-videos=clips", *flags, *args]
        return getattr(self.pytester, how)(*command, "--vdb-json=run.json")

    def store(self, *args):
        result = self.run("--vdb-update", "--vdb-run-source=base", *args, ref=None)
        assert result.ret == 0, result.stdout.str()

    def commit(self, *arguments):
        git(self.root, "add", "-A")
        git(self.root, "commit", "-qm", "change", *arguments)

    @property
    def json(self):
        return json.loads((self.root / "run.json").read_text())

    @property
    def states(self):
        rows = [m for test in self.json["tests"] for m in test["measurements"]]
        return {m["name"]: m["verdict"]["state"] for m in rows}


@pytest.fixture
def repo(pytester, monkeypatch, draw):
    monkeypatch.setenv("CI", "1")
    for name in ("GITHUB_EVENT_NAME", "GITHUB_REF", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    found = Repo(pytester, draw)
    found.store()
    git(found.root, "init", "-q")
    found.commit()
    git(found.root, "switch", "-qc", "change")
    return found


def test_an_unchanged_tree_passes_without_a_word(repo):
    result = repo.run()
    assert result.ret == 0, result.stdout.str()
    assert repo.states == {"temporal_flickering": "IDENTICAL", "ssim": "IDENTICAL"}
    assert repo.json["gate_edits"]["edits"] == []
    result.stdout.no_fnmatch_line("*GATE*")
    result.stdout.fnmatch_lines(["vdb: ours on cpu; baselines baselines of main (*"])


def test_a_regression_that_brings_its_own_baseline_is_red_and_the_fix_is_green(repo):
    repo.draw(repo.root / "clips", noise=3.0)
    loose = BENCH.replace("0.93", "0.80").replace("min > 0.5", "min > 0.1")
    repo.edit("benchmarks/test_bench.py", loose)
    repo.store("--vdb-update-mode=all")
    repo.commit()
    assert repo.run(ref=None).ret == 0  # what the change would have had pass

    result = repo.run()
    assert result.ret == 1
    assert repo.states["temporal_flickering"] == "REGRESSION"
    result.stdout.fnmatch_lines(
        [
            "THIS CHANGE EDITS ITS OWN GATE*main*",
            "  baselines: baselines/ours/*/test_bench.json changed, 2 media",
            "  benchmark benchmarks/test_bench.py changed",
            "    line 5: 0.93 → 0.80, in assert*",
            "    line 6: 0.5 → 0.1, in assert*",
        ]
    )
    whats = {edit["what"] for edit in repo.json["gate_edits"]["edits"]}
    assert whats == {"baseline", "benchmark"}

    repo.draw(repo.root / "clips")
    git(repo.root, "checkout", "main", "--", "baselines", "benchmarks")
    repo.commit()
    assert repo.run().ret == 0
    assert set(repo.states.values()) == {"IDENTICAL"}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("pytest.ini", "[pytest]\nvdb_tolerance =\n    temporal_flickering=90%\n"),
        ("pytest.ini", "[pytest]\naddopts = --vdb-gate=off\n"),
        ("pytest.toml", '[pytest]\nvdb_gate = "warn"\n'),  # shadows the other
    ],
)
def test_policy_is_the_base_branchs(repo, path, text):
    repo.draw(repo.root / "clips", noise=3.0)
    repo.edit(path, text)
    assert repo.run(ref=None).ret == 0
    result = repo.run()
    assert result.ret == 1
    assert repo.states["temporal_flickering"] == "REGRESSION"
    result.stdout.fnmatch_lines([f"  configuration {path} *"])
    # The command's own word holds: the workflow gave it.
    assert repo.run("--vdb-tolerance=temporal_flickering=90%").ret == 0


def test_a_sweep_that_the_change_asks_for_lifts_no_gate(repo):
    repo.draw(repo.root / "clips", noise=3.0)
    repo.edit("pytest.ini", f"{INI}vdb_sweep = num_inference_steps=2,4\n")
    assert repo.run().ret == 1
    assert repo.states["temporal_flickering"] == "REGRESSION"


def test_workers_hold_to_the_same_policy(repo):
    repo.draw(repo.root / "clips", noise=3.0)
    repo.edit("pytest.ini", "[pytest]\nvdb_gate = off\n")
    assert repo.run("-n1", how="runpytest_subprocess").ret == 1
    assert repo.states["temporal_flickering"] == "REGRESSION"


def test_what_the_change_alone_has_is_new(repo):
    more = """
@pytest.mark.vdb(missing="warn")
def test_more(vdb):
    assert vdb.score("sharpness").mean > 0
"""
    repo.edit("benchmarks/test_bench.py", BENCH + more)
    result = repo.run()
    assert result.ret == 1, "nothing is stored anywhere, and a marker of the change loosens nothing"
    assert repo.states["sharpness"] == "NO_BASELINE"
    result.stdout.fnmatch_lines(["vdb(missing='warn') of test_more* does not count: *"])
    repo.store()
    repo.edit("benchmarks/test_other.py", BENCH)
    repo.store()
    result = repo.run()
    assert result.ret == 0, result.stdout.str()
    states = [
        (test["nodeid"].partition("::")[0], m["name"], m["verdict"]["state"])
        for test in repo.json["tests"]
        for m in test["measurements"]
    ]
    assert ("benchmarks/test_bench.py", "sharpness", "NEW") in states
    assert ("benchmarks/test_bench.py", "ssim", "IDENTICAL") in states
    assert {("benchmarks/test_other.py", name, "NEW") for name in SCORES} <= {*states}
    result.stdout.fnmatch_lines(["*Stored by this change alone, and not at main*"])


def test_a_benchmark_that_moves_with_its_baseline_is_still_compared(repo, monkeypatch):
    git(repo.root, "mv", "benchmarks/test_bench.py", "benchmarks/test_moved.py")
    [path] = (repo.root / "baselines").glob("*/*/*.json")
    path.rename(path.with_name("test_moved.json"))
    repo.draw(repo.root / "clips", noise=3.0)
    result = repo.run()
    assert result.ret == 1
    assert repo.states["temporal_flickering"] == "REGRESSION"
    result.stdout.fnmatch_lines(["  baseline baselines/ours/*/test_bench.json deleted"])

    repo.draw(repo.root / "clips")
    assert repo.run().ret == 0
    assert set(repo.states.values()) == {"NEW"}
    assert repo.run("--vdb-require").ret == 1
    assert set(repo.states.values()) == {"NO_BASELINE"}
    monkeypatch.chdir(repo.root)
    assert main(["accept", "run.json", "--reason", "moved"]) == 0
    result = repo.run("--vdb-require", "--vdb-honour-accepted")
    assert result.ret == 0, result.stdout.str()
    assert set(repo.states.values()) == {"NEW"}


def test_another_workload_escapes_no_comparison(repo):
    git(repo.root, "switch", "-q", "main")
    [path] = (repo.root / "baselines").glob("*/*/*.json")
    data = json.loads(path.read_text())
    for index in data["tests"].values():
        for names in index.values():
            names.append("latent_cosine")  # as of a model that gives latents
    path.write_text(json.dumps(data))
    repo.commit()
    git(repo.root, "switch", "-qC", "change")
    other = BENCH.replace('vdb.score("ssim").min > 0.5', 'vdb.score("latent_cosine").max < 1')
    repo.edit("benchmarks/test_bench.py", other)
    clips = repo.root / "clips/prompts.jsonl"
    clips.write_text(clips.read_text().replace("a red fox", "a fox"))
    assert repo.run().ret == 1
    assert repo.states == {
        "temporal_flickering": "NO_BASELINE",
        "latent_cosine": "UNMEASURED",
        "ssim": "NO_BASELINE",
    }
    told = [row["verdict"]["reason"] for row in repo.json["tests"][0]["measurements"]]
    assert all("the workload changed (" in reason for reason in told)


def test_where_policy_is_read_is_not_the_changes_to_say(repo):
    repo.draw(repo.root / "clips", noise=3.0)
    repo.edit("benchmarks/pytest.ini", "[pytest]\nvdb_baselines = ../baselines\n")
    result = repo.run()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*pytest's configuration lies in *benchmarks here*--rootdir=."])
    assert repo.run("--rootdir=.").ret == 1
    assert repo.states["temporal_flickering"] == "REGRESSION"


def test_a_medium_that_the_change_deleted_comes_from_the_ref(repo):
    for path in (repo.root / "baselines/media").glob("*/*"):
        path.unlink()
    result = repo.run()
    assert result.ret == 0, result.stdout.str()
    result.stdout.fnmatch_lines(["  baselines: 2 media"])


def test_a_measurement_that_the_change_drops_is_told(repo):
    repo.edit("benchmarks/test_bench.py", BENCH.replace('assert vdb.score("ssim").min > 0.5', ""))
    assert repo.run().ret == 1
    assert repo.states["ssim"] == "UNMEASURED"
    repo.store("--vdb-update-mode=all")
    result = repo.run()
    assert result.ret == 0, result.stdout.str()
    assert repo.states["ssim"] == "NOT_APPLICABLE"
    assert repo.run("--vdb-require").ret == 1


def test_a_ref_that_is_not_there(repo, tmp_path_factory):
    result = repo.run(ref="origin/main")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--vdb-baseline-ref=origin/main*no such ref*git fetch*"])
    shallow = tmp_path_factory.mktemp("shallow") / "clone"
    git(repo.root, "clone", "-q", "--depth=1", "--branch=main", f"file://{repo.root}", str(shallow))
    result = repo.run("--rootdir", str(shallow), ref="HEAD~1")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*this clone is shallow*fetch-depth: 0*"])


def test_what_a_workflow_restores_is_called_out_all_the_same(repo):
    repo.edit("benchmarks/test_bench.py", BENCH.replace("0.93", "0.80"))
    repo.edit("pyproject.toml", "[project]\nname = 'ours'\n")  # says nothing to pytest
    repo.commit()
    git(repo.root, "restore", "--source=main", "--staged", "--worktree", "--", "benchmarks")
    result = repo.run()
    assert result.ret == 0
    [edit] = repo.json["gate_edits"]["edits"]
    assert edit["path"] == "benchmarks/test_bench.py"
    assert edit["restored"]
    assert edit["lines"][0].startswith("line 5: 0.93 → 0.80")
    result.stdout.fnmatch_lines(["  benchmark *test_bench.py changed; this run has the base's"])


def test_a_change_cannot_accept_itself(repo, monkeypatch):
    git(repo.root, "switch", "-q", "main")
    repo.edit("pytest.ini", f"{INI}addopts = --vdb-honour-accepted\n")
    repo.commit()
    git(repo.root, "switch", "-qC", "change")
    repo.draw(repo.root / "clips", noise=3.0)
    assert repo.run().ret == 1
    monkeypatch.chdir(repo.root)
    assert main(["accept", "run.json", "--reason", "a faster cache"]) == 0
    result = repo.run()
    assert result.ret == 1
    assert repo.states["temporal_flickering"] == "REGRESSION"
    result.stdout.fnmatch_lines(["  accepted accepted/*.json added"])
    # Whoever gives the command has approved it.
    result = repo.run("--vdb-honour-accepted")
    assert result.ret == 0, result.stdout.str()
    assert repo.states["temporal_flickering"] == "ACCEPTED"
