"""GPUs that disappear: before a run, in it, and after it. The devices are names on a list."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from pytest_vdb.errors import InfraError, SourceError
from pytest_vdb.measure.blame import blame_model
from pytest_vdb.measure.group import Group, check_devices
from pytest_vdb.measure.runner import Job
from pytest_vdb.parallel.lease import Lease
from pytest_vdb.records import ModelSpec, Prompt, Workload

BENCH = """
def test_speed(vdb):
    assert vdb.latency.median < 1

def test_quality(vdb):
    assert vdb.score("sharpness").mean > 0

def test_no_model():
    pass
"""


def test_a_gpu_that_is_gone_before_the_run_is_the_machines_fault(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-gone")
    pytester.makepyfile(BENCH)
    args = ["-pno:cacheprovider", "-pno:hypothesispytest", "--vdb-model=tiny-wan"]
    result = pytester.runpytest_inprocess(*args, "--vdb-device=cuda", "--vdb-json=run.json")
    result.assert_outcomes(passed=1, errors=2)
    assert result.ret == 10
    result.stdout.fnmatch_lines(["*CUDA_VISIBLE_DEVICES=GPU-gone*--vdb-device=cpu*"])
    run = json.loads((pytester.path / "run.json").read_text())
    assert [test["outcome"] for test in run["tests"]] == ["error"] * 2


def test_a_gpu_that_is_gone_after_the_run_does_not_pass_for_an_empty_one(tmp_path: Path) -> None:
    with Lease(2, ["GPU-here", "GPU-gone"], folder=tmp_path) as lease:
        with pytest.raises(InfraError, match="GPU-gone"):
            lease.processes()
        with Group([sys.executable, "-c", ""], lease.env, tmp_path / "log") as group:
            pass
        with pytest.raises(InfraError, match="GPU-gone"):
            check_devices(lease, group)
    with Lease(2, ["GPU-here", "GPU-gone"], wait=0, folder=tmp_path):  # given back all the same
        pass


def job(tmp_path: Path) -> Job:
    model = ModelSpec("m", "factory", "nowhere:build")
    return Job(model, Workload((Prompt("a", "a fox"),), (0,), {}), str(tmp_path), "cuda")


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors might be reported",
        "CUDA error: CUDA-capable device(s) is/are busy or unavailable",
        "CUDA error: no CUDA-capable device is detected",
        "NVML_ERROR_GPU_IS_LOST: GPU is lost",
        "No CUDA GPUs are available",
    ],
    ids=["memory", "busy", "none", "lost", "hidden"],
)
def test_a_gpu_that_fails_in_the_run_is_no_fault_of_the_model(tmp_path: Path, words: str) -> None:
    with (
        pytest.raises(InfraError, match="cuda failed during the load of model 'm'") as caught,
        blame_model(job(tmp_path), "the load"),
    ):
        raise RuntimeError(words)
    assert words.splitlines()[0] in str(caught.value)


def test_a_kernel_that_fails_is_the_models(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="illegal memory"), blame_model(job(tmp_path), "the load"):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
