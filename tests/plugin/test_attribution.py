"""What a report says is behind a change: the stage, the step, the block, the kind."""

from __future__ import annotations

import gzip
import json
import sys
from typing import Any

import pytest

from tests.plugin.conftest import Suite

BENCH = """
def test_quality(vdb):
    assert vdb.score("temporal_flickering").mean > 0
    assert vdb.score("ssim").mean > -1

def test_speed(vdb):
    assert vdb.latency.median < 100
"""
TOLERANCES = ("--vdb-tolerance=latency=50%", "--vdb-tolerance=temporal_flickering=0.5%")

STEP = """
original = type(pipeline.scheduler).step
class Off(type(pipeline.scheduler)):
    def step(self, *args, **kwargs):
        result = original(self, *args, **kwargs)
        return (1.01 * result[0],) if self.step_index == 2 else result
pipeline.scheduler.__class__ = Off
"""
BLOCK = """
import torch
with torch.no_grad():
    for parameter in pipeline.transformer.blocks[3].parameters():
        parameter.mul_({factor})
"""
DELAY = """
import time
original = pipeline.{component}.{method}
def slow(*args, **kwargs):
    time.sleep(0.4)
    return original(*args, **kwargs)
pipeline.{component}.{method} = slow
"""


@pytest.fixture
def stored(suite: Suite) -> Suite:
    """The suite with a baseline of the unchanged model."""
    suite.write(BENCH)
    suite.store(*TOLERANCES)
    return suite


def changed(suite: Suite, change: str, *args: str) -> tuple[pytest.RunResult, list[dict[str, Any]]]:
    """The run of a changed model, and what each test is put down to."""
    suite.model(change)
    sys.modules.pop("model_under_test", None)
    result = suite.run(*TOLERANCES, "--vdb-json=run.json", *args)
    tests = json.loads((suite.root / "run.json").read_text())["tests"]
    return result, [test["attribution"] for test in tests]


def test_an_unchanged_model_is_put_down_to_nothing(stored: Suite) -> None:
    result, found = changed(stored, "pass")
    assert found[0] is None
    assert "First difference" not in result.stdout.str()


def test_a_scheduler_that_is_off_at_one_step(stored: Suite) -> None:
    """A hundredth more: it is changed, and no regression of these scores."""
    result, (quality, _) = changed(stored, STEP)
    first = quality["first"]
    assert (first["stage"], first["step"], first["part"]) == ("denoise", 2, "scheduler")
    assert (first["before"], first["before_size"]) == ("guidance", 0)
    assert first["size"] == pytest.approx(0.01, rel=0.7)
    assert quality["kinds"] == ["changed"]
    result.stdout.fnmatch_lines(
        ["model_under_test:build: changed, more than rounding (0.0*), quality neutral. First *"]
    )


def test_a_transformer_block_that_is_worse(stored: Suite) -> None:
    result, (quality, _) = changed(stored, BLOCK.format(factor=8))
    assert quality["first"]["part"] == "transformer.blocks.3"
    assert quality["first"]["before"] == "transformer.blocks.2"
    assert quality["kinds"] == ["quality regressed", "changed"]
    result.stdout.fnmatch_lines(
        [
            "*REGRESSION temporal_flickering*",
            "First difference: denoise step 1, transformer.blocks.3 (* of its norm); the output "
            "before it (transformer.blocks.2) agrees.",
        ]
    )


def test_bit_drift_is_green_and_said(stored: Suite) -> None:
    result, (quality, _) = changed(stored, BLOCK.format(factor="1 + 1e-6"), "--no-header")
    assert quality["kinds"] == ["bit drift"]
    assert quality["first"]["part"] == "transformer.blocks.3"
    result.stdout.fnmatch_lines(["*: changed, bit drift (*e-0*), quality neutral.*"])


@pytest.mark.parametrize(
    ("component", "method", "stage"),
    [("vae", "decode", "decode"), ("text_encoder", "forward", "text_encode")],
)
def test_a_slower_stage(stored: Suite, component: str, method: str, stage: str) -> None:
    result, (_, speed) = changed(stored, DELAY.format(component=component, method=method))
    assert speed["first"] is None
    assert speed["time"]["stage"] == stage
    assert speed["time"]["share"] > 0.5
    assert "same numbers" in speed["kinds"]
    result.stdout.fnmatch_lines([f"*Of +*s, {stage} took +* s (*%).*"])


def test_a_trace_is_kept_for_quality_and_for_what_it_costs(stored: Suite) -> None:
    """Quality's does not change from run to run; that of the cost holds seconds and the load."""
    kept = {}
    for path in stored.baselines:
        (workload,) = json.loads(path.read_text())["workloads"].values()
        (sha256,) = {roles["trace"] for roles in workload["media"].values() if "trace" in roles}
        (medium,) = (stored.root / "baselines/media").rglob(f"{sha256}.gz")
        assert medium.stat().st_size < 20 * 1024
        names = "temporal_flickering" in workload["measurements"]
        kept[names] = json.loads(gzip.decompress(medium.read_bytes()))
    assert kept[True]["points"] == kept[False]["points"]
    assert kept[True]["seconds"] == {}
    assert set(kept[False]["seconds"]) == {"text_encode", "denoise", "decode", "other"}
    assert kept[False]["conditions"]["workers"] == 1


def test_a_baseline_without_traces_says_what_is_missing(stored: Suite) -> None:
    def forget(data: Any) -> None:
        for workload in data["workloads"].values():
            for roles in workload["media"].values():
                roles.pop("trace", None)

    stored.edit_baseline(forget)
    result, (quality, _) = changed(stored, BLOCK.format(factor=8))
    assert quality["first"] is None
    result.stdout.fnmatch_lines(["Where it began is not known: the baseline keeps no trace; *"])


def test_a_broken_trace_changes_no_verdict(stored: Suite) -> None:
    for medium in (stored.root / "baselines/media").rglob("*.gz"):
        medium.write_bytes(b"broken")
    result, found = changed(stored, "pass")
    assert found[0] is None
    assert result.parseoutcomes().get("errors", 0) == 0
    result.stdout.fnmatch_lines(["  temporal_flickering *IDENTICAL"])
