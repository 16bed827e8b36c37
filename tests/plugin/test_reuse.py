"""Videos that another process generated: judged as if they were its own, and never timed.

The model is an engine that writes down every generation, with the process that made it.
"""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pytest_vdb.measure import identity
from tests.conftest import LEAN

ENGINE = """
import os, time
from pathlib import Path
import numpy as np

LOG = Path(__file__).with_name("generated.log")

def build():
    def engine(prompt, *, seed, num_frames=5, height=32, width=32, num_inference_steps=2, **more):
        with LOG.open("a") as log:
            log.write(f"{os.getpid()}\\n")
        time.sleep(0.1)
        noise = np.random.default_rng([seed, len(prompt)]).random((num_frames, height, width, 3))
        return {"frames": noise.astype(np.float32), "memory": {"allocated": 2**30}}
    return engine
"""
CONFTEST = """
import os
import pytest

def pytest_vdb_models():
    from pytest_vdb import ModelSpec
    size = dict(num_frames=5, height=32, width=32, num_inference_steps=2)
    return [ModelSpec("engine", "factory", "engine:build", revision="1", call=size)]

@pytest.hookimpl(wrapper=True, tryfirst=True, optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    # Halves, so that two workers want the same videos, and not one after the other.
    from xdist.scheduler import LoadScheduling
    yield
    return LoadScheduling(config, log)
"""
BENCH = """
import os
import pytest
pytestmark = pytest.mark.vdb(prompts=["a red fox", "a blue boat"])

def test_sharpness(vdb):
    assert vdb.score("sharpness").mean > 0

def test_flickering(vdb):
    assert vdb.score("temporal_flickering").mean > 0

def test_motion(vdb):
    assert vdb.score("motion_energy").mean > 0
    assert all(os.path.exists(sample.frames) for sample in vdb.samples)

def test_cost_and_sharpness(vdb, record_property):
    assert vdb.score("sharpness").mean > 0
    assert vdb.memory.peak < 2**34
    record_property("pid", os.getpid())
"""
GENERATIONS = 3  # of one run: the warm-up, and two prompts


class Repo:
    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.root = pytester.path
        (self.root / "pytest.ini").write_text("[pytest]\n")
        (self.root / "conftest.py").write_text(CONFTEST)
        (self.root / "engine.py").write_text(ENGINE)
        (self.root / "test_engine.py").write_text(BENCH)
        (self.root / ".gitignore").write_text("generated.log\n*.json\n*.xml\n")

    def git(self, *arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(self.root), *who, *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    def commit(self) -> None:
        self.git("init", "--quiet")
        self.git("add", "-A")
        self.git("commit", "--quiet", "-m", "one")

    def run(self, *args: str) -> tuple[pytest.RunResult, dict[str, Any]]:
        """The result, and the tests' entries in the JSON by name."""
        result = self.pytester.runpytest_inprocess(
            *LEAN, "--vdb-model=engine", "--vdb-json=run.json", *args
        )
        tests = json.loads((self.root / "run.json").read_text())["tests"]
        return result, {test["nodeid"].partition("::")[2].partition("[")[0]: test for test in tests}

    @property
    def generated(self) -> Counter[str]:
        """How often each process generated."""
        log = self.root / "generated.log"
        return Counter(log.read_text().split()) if log.exists() else Counter()


@pytest.fixture(autouse=True)
def _own_code_alone(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """This checkout is on the path as well, and may be edited while its tests run."""
    monkeypatch.setattr(identity, "_editable", lambda packages: [])
    monkeypatch.setattr(identity, "_loose_roots", lambda: [pytester.path])


@pytest.fixture
def repo(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Repo:
    monkeypatch.delenv("CI", raising=False)
    return Repo(pytester)


def numbers(tests: dict[str, Any]) -> dict[str, Any]:
    """Everything that quality's verdicts are made from, and the verdicts."""
    return {
        f"{name} {m['name']}": (m["samples"], m["verdict"]["state"], m["verdict"]["reason"])
        for name, test in tests.items()
        for m in test["measurements"]
        if m["kind"] in ("score", "distance")
    }


def test_two_workers_generate_once_and_the_cost_is_measured_where_it_is_asserted(
    repo: Repo,
) -> None:
    result, tests = repo.run("-n2", "--junit-xml=junit.xml")
    result.assert_outcomes(passed=4)
    generated = repo.generated
    assert set(generated.values()) == {GENERATIONS}
    junit = (repo.root / "junit.xml").read_text()
    (asked,) = [pid for pid in generated if f'name="pid" value="{pid}"' in junit]
    # The first test of each worker wanted the same videos: one made them, the other says whose.
    makers = {name: test.get("reused") for name, test in tests.items()}
    assert (makers["test_sharpness"] is None) is (makers["test_motion"] is not None)
    lender = next(made for made in makers.values() if made)
    assert lender["from"] == "another worker"
    result.stdout.fnmatch_lines([f"* judged videos generated by {lender['worker']} of this run"])
    # What asserts a cost as well generated by itself, all the same.
    assert len(generated) == (1 if makers["test_motion"] is None else 2)
    assert asked in generated
    (peak,) = [m for m in tests["test_cost_and_sharpness"]["measurements"] if m["unit"] == "B"]
    assert [value["value"] for value in peak["samples"]] == [2**30, 2**30]
    _, alone = repo.run("-n0")
    assert numbers(tests) == numbers(alone)
    assert not any("reused" in test for test in alone.values())


def test_a_later_run_reuses_the_videos_of_the_same_code_alone(repo: Repo) -> None:
    quality = ("--deselect=test_engine.py::test_cost_and_sharpness", "--vdb-reuse")
    quality += ("--vdb-reuse-folder=kept",)
    (repo.root / ".gitignore").write_text("generated.log\n*.json\n*.xml\nkept\nbaselines\n")
    repo.commit()
    _, first = repo.run(*quality, "--vdb-update")
    assert repo.generated.total() == GENERATIONS
    result, second = repo.run(*quality)
    assert repo.generated.total() == GENERATIONS
    result.stdout.fnmatch_lines(["3 tests judged videos reused from an earlier run of *"])
    assert {n: s for n, (s, *_) in numbers(second).items()} == {
        n: s for n, (s, *_) in numbers(first).items()
    }
    assert {state for _, state, _ in numbers(second).values()} == {"IDENTICAL"}
    assert all(test["reused"]["worker"] == "main" for test in second.values())
    # What something costs is measured now, whatever is stored.
    _, cost = repo.run("--vdb-reuse", "--vdb-reuse-folder=kept", "-k", "cost")
    assert repo.generated.total() == 2 * GENERATIONS
    assert cost["test_cost_and_sharpness"]["reused"]["from"] == "an earlier run"
    (repo.root / "engine.py").write_text(ENGINE.replace("time.sleep(0.1)", "pass"))
    _, changed = repo.run(*quality)
    assert repo.generated.total() == 3 * GENERATIONS
    assert not any("reused" in test for test in changed.values())
    assert len([path for path in (repo.root / "kept").iterdir() if path.is_dir()]) == 2


def test_a_damaged_entry_is_generated_again(repo: Repo) -> None:
    where = ("--vdb-reuse", "--vdb-reuse-folder=kept", "-k", "test_sharpness")
    (repo.root / ".gitignore").write_text("generated.log\n*.json\nkept\n")
    repo.commit()
    _, first = repo.run(*where)
    path = next((repo.root / "kept").glob("*/*.npy"))
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-1])
    result, second = repo.run(*where)
    assert repo.generated.total() == 2 * GENERATIONS
    assert numbers(second) == numbers(first)
    result.stdout.fnmatch_lines(["*is damaged (* does not match its name)*made anew"])
    _, third = repo.run(*where)
    assert repo.generated.total() == 2 * GENERATIONS
    assert third["test_sharpness"]["reused"]


def test_a_folder_that_cannot_be_written_is_a_note(repo: Repo) -> None:
    (repo.root / "file").write_text("")
    repo.commit()
    result, tests = repo.run("--vdb-reuse", "--vdb-reuse-folder=file", "-k", "test_sharpness")
    result.assert_outcomes(passed=1, deselected=3)
    assert repo.generated.total() == GENERATIONS
    result.stdout.fnmatch_lines(["videos were not kept for reuse in */file: *"])
    assert "reused" not in tests["test_sharpness"]


def test_code_that_nobody_can_tell_is_not_reused_and_says_so(repo: Repo) -> None:
    where = ("--vdb-reuse", "--vdb-reuse-folder=kept", "-k", "test_sharpness")
    for runs in (1, 2):
        result, tests = repo.run(*where)
        assert repo.generated.total() == runs * GENERATIONS
    assert not any("reused" in test for test in tests.values())
    line = "--vdb-reuse: engine's videos are not reused across runs: what * holds is not known*"
    result.stdout.fnmatch_lines([line])
    assert not (repo.root / "kept").exists()


def test_a_model_that_gives_other_videos_says_so(repo: Repo) -> None:
    """Its score would be another in the next run: that is told, and the newest stays."""
    where = ("--vdb-reuse", "--vdb-reuse-folder=kept")
    text = ENGINE.replace("[seed, len(prompt)]", "time.time_ns()")
    (repo.root / "engine.py").write_text(text)
    (repo.root / ".gitignore").write_text("generated.log\n*.json\nkept\n")
    repo.commit()
    repo.run(*where, "-k", "test_sharpness")
    result, _ = repo.run(*where, "-k", "cost")
    result.stdout.fnmatch_lines(["engine gave other videos for the same prompts and seeds *"])


def test_flags_about_reuse_alone_mean_nothing(repo: Repo) -> None:
    result = repo.pytester.runpytest_inprocess("--vdb-reuse-size=1GiB", "--vdb-model=engine")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*are about --vdb-reuse: add that"])


def test_a_pipeline_that_a_test_held_is_nobody_elses(suite: Any) -> None:
    """It may have changed the model: neither are its videos kept, nor does it get any."""
    suite.write("def test_held(vdb, vdb_pipeline):\n    assert vdb.score('sharpness').mean > 0\n")
    (suite.root / "conftest.py").write_text(
        "def pytest_vdb_models():\n"
        "    from pytest_vdb import ModelSpec\n"
        "    return [ModelSpec('ours', 'factory', 'model_under_test:build', revision='1')]\n"
    )
    for arguments in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "one")):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        subprocess.run(command, cwd=suite.root, check=True, capture_output=True, timeout=60)
    flags = ("--vdb-reuse", "--vdb-reuse-folder=kept", "--vdb-model=ours")
    command = ("-p", "no:cacheprovider", "benchmarks", *flags)
    suite.pytester.runpytest_inprocess(*command).assert_outcomes(passed=1)
    assert not Path(suite.root / "kept").exists()
