"""``vdb calibrate``, ``vdb doctor``, ``auto`` as a tolerance, and tolerances out of reach.

One real calibration of an engine that sleeps; the rest is judged on baselines made by hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_vdb import cli
from pytest_vdb.baseline import calibration as files
from pytest_vdb.environment import performance_environment
from pytest_vdb.noise import Calibrated, Noise

ENGINE = """
import time
import numpy as np

def build():
    def engine(prompt, *, seed, num_frames=5, height=32, width=32, num_inference_steps=2, **more):
        noise = np.random.default_rng([seed, len(prompt)]).random((num_frames, height, width, 3))
        time.sleep(0.02)
        return {"frames": noise.astype(np.float32), "memory": {"allocated": 2**30}}
    return engine
"""
CONFTEST = """
def pytest_vdb_models():
    from pytest_vdb import ModelSpec
    size = dict(num_frames=5, height=32, width=32, num_inference_steps=2)
    return [ModelSpec("engine", "factory", "engine:build", call=size)]
"""
BENCH = """
import pytest
pytestmark = pytest.mark.vdb(prompts=["a red fox", "a blue boat"])

def test_cost(vdb):
    assert vdb.latency.median < 9
    assert vdb.memory.peak < 2**34
"""


class Repo:
    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.root = pytester.path
        (self.root / "conftest.py").write_text(CONFTEST)
        (self.root / "engine.py").write_text(ENGINE)
        (self.root / "benchmarks").mkdir()
        (self.root / "benchmarks" / "test_engine.py").write_text(BENCH)

    @property
    def calibration(self) -> Path:
        key = performance_environment("cpu").key
        return self.root / "baselines" / "engine" / key / files.NAME

    def calibrate(self, sd: float) -> None:
        """A calibration by hand, of three days on which everything varies by ``sd``."""
        signs = (1, -1, 1, -1, -1, 1, -1, 1)
        days = {}
        for day, shift in enumerate((0, sd, -sd)):
            noise = Noise(
                tuple(sd * sign for sign in signs[:4]),
                tuple(shift + sd * sign for sign in signs),
                sd,
                40,
            )
            date = f"2026-01-0{day + 1}T00:00:00Z"
            days[date] = Calibrated(date, "", "w", 1.0, noise={"latency": noise})
        environment = performance_environment("cpu")
        file = files.CalibrationFile("engine", environment.identity, days)
        self.calibration.parent.mkdir(parents=True, exist_ok=True)
        self.calibration.write_text(file.dumps())

    def run(self, *args: str) -> pytest.RunResult:
        return self.pytester.runpytest_inprocess(
            *("-p", "no:cacheprovider", "benchmarks", "--vdb-model=engine", "--vdb-json=run.json"),
            *args,
        )

    def verdicts(self) -> dict[str, Any]:
        tests = json.loads((self.root / "run.json").read_text())["tests"]
        return {m["name"]: m["verdict"] for test in tests for m in test["measurements"]}


@pytest.fixture
def repo(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Repo:
    monkeypatch.delenv("CI", raising=False)
    return Repo(pytester)


def test_a_calibration_runs_is_told_and_stored(
    repo: Repo, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["calibrate", "--vdb-model=engine", "--pairs=1"]) == 0
    lines = pytest.LineMatcher(capfd.readouterr().out.splitlines())
    lines.fnmatch_lines(
        [
            "vdb: calibrating engine: 1 process pair of the same code, 2 loads; *",
            "engine: 1 process pair, 2 loads, * s; load average before: *",
            "latency * –  *",
            "1 of 3 sessions that tell how days differ*",
            "written baselines/engine/*/calibration.json",
        ]
    )
    (seen,) = files.loads(repo.calibration.read_text(), "", "").sessions.values()
    assert seen.noise.keys() == {"latency"}  # all that this engine's process tells
    noise = seen.noise["latency"]
    assert (len(noise.pairs), len(noise.levels)) == (1, 2)
    assert 10 <= noise.runs <= 50  # 10 blocks, of up to 5 where the machine lets them be short
    assert -4 < noise.levels[0] < -2  # ln of some .02 s and more


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--pairs=none"], "vdb: vdb calibrate: --pairs: 'none' is no positive whole number"),
        (["--budget=1s"], "*nothing was measured of engine: 1 more process pairs*leaves 1 s*"),
        (["--vdb-model=http://localhost:1"], "*http://localhost:1: nothing of it is loaded here"),
    ],
)
def test_what_cannot_be_calibrated(
    repo: Repo, capfd: pytest.CaptureFixture[str], args: list[str], words: str
) -> None:
    model = [] if any("model" in arg for arg in args) else ["--vdb-model=engine"]
    repo.pytester.syspathinsert()
    assert cli.main(["calibrate", *model, *args]) == 2
    lines = pytest.LineMatcher(capfd.readouterr().err.splitlines())
    lines.fnmatch_lines([words])
    assert not repo.calibration.exists()


def test_auto_is_shown_and_judged_by_the_calibration(repo: Repo) -> None:
    repo.run("--vdb-update", "--vdb-tolerance=latency=50%").assert_outcomes(passed=1)
    auto = ["--vdb-tolerance=latency=auto", "--vdb-tolerance=memory=auto"]
    repo.run(*auto).assert_outcomes(failed=1)
    assert repo.verdicts()["latency"]["state"] == "UNMEASURED"
    assert "run vdb calibrate --vdb-model=engine" in repo.verdicts()["latency"]["reason"]
    repo.calibrate(0.1)
    result = repo.run(*auto)
    verdicts = repo.verdicts()
    assert verdicts["latency"]["tolerance"].startswith("auto ")
    assert verdicts["latency"]["reason"].endswith(
        "calibrated (12 process pairs, 3 sessions, 2026-01-03)"
    )
    assert verdicts["latency"]["resolves"] is None
    assert verdicts["memory.peak"]["tolerance"] == "auto 25%"  # an engine's own word: 256 MiB
    assert verdicts["memory.peak"]["state"] == "IDENTICAL"
    result.stdout.no_fnmatch_line("*is below what this run tells apart*")
    result = repo.run("--vdb-tolerance=latency=3%")
    result.stdout.fnmatch_lines(
        ["latency: tolerance 3% is below what this run tells apart (*%): vdb calibrate *"]
    )


@pytest.mark.parametrize(
    ("tolerance", "words"),
    [
        ("sharpness=auto", "*sharpness=auto: how far scores scatter*vdb doctor says*"),
        ("latency.first=auto", "*latency.first=auto: it is taken once a run*"),
        ("latency=automatic", "*a tolerance says of what kind it is*'auto' or 'off'*"),
        ("memori=auto", "*a tolerance for 'memori': did you mean 'memory'*"),
    ],
)
def test_auto_that_cannot_be_meant_ends_the_run(repo: Repo, tolerance: str, words: str) -> None:
    result = repo.run(f"--vdb-tolerance={tolerance}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {words}"])


def test_doctor_names_what_is_out_of_reach(repo: Repo, capfd: pytest.CaptureFixture[str]) -> None:
    repo.run("--vdb-update", "--vdb-tolerance=latency=50%").assert_outcomes(passed=1)
    repo.calibrate(0.1)
    (repo.root / "pytest.ini").write_text("[pytest]\nvdb_guard_m = 1\n")
    capfd.readouterr()
    assert cli.main(["doctor", "--vdb-tolerance=latency=3%"]) == 0
    lines = pytest.LineMatcher(capfd.readouterr().out.splitlines())
    lines.fnmatch_lines(
        [
            "engine/*/test_engine.json: * latency: tolerance 3%, but the screen against 1 session "
            "(calibrated (12 process pairs, *)) tells *% apart",
            "2 comparisons are stored, and the guard is for 1: *set vdb_guard_m = 2 or more",
        ]
    )
    assert cli.main(["doctor", "--vdb-tolerance=latency=90%"]) == 0
    lines = pytest.LineMatcher(capfd.readouterr().out.splitlines())
    lines.fnmatch_lines(["every tolerance of the settings is within reach of what is stored"])
