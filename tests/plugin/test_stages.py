"""``vdb.latency.stage``, ``.steps``, ``.first``, ``vdb.memory.stage`` and ``vdb.energy``."""

from __future__ import annotations

import json
import sys

import pytest

from tests.plugin.conftest import Suite

STAGES = """
def test_stages(vdb):
    parts = [vdb.latency.stage(s) for s in ("text_encode", "denoise", "decode", "other")]
    total = sum(part.mean + 0 for part in parts)
    assert abs(total / (vdb.latency.mean + 0) - 1) < 0.05
    assert vdb.latency.steps.median < vdb.latency.stage("denoise").median
    assert vdb.latency.first.headline > 0
    assert abs(vdb.latency.compile.headline) < 90  # nothing is compiled here
    assert vdb.memory.cpu_stage("denoise") <= vdb.memory.cpu_peak
"""


@pytest.mark.parametrize("runner", ["inprocess", "child"])
def test_stages_are_measurements_like_others(suite: Suite, runner: str) -> None:
    suite.write(STAGES)
    result = suite.run(f"--vdb-runner={runner}", "--vdb-json=run.json")
    result.assert_outcomes(passed=1)
    data = json.loads((suite.root / "run.json").read_text())
    names = {m["name"]: m for m in data["tests"][0]["measurements"]}
    assert set(names) >= {"latency.text_encode", "latency.step", "memory.cpu_denoise"}
    assert len(names["latency.denoise"]["samples"]) == 2
    assert "exclusive time of denoise" in names["latency.denoise"]["provenance"]["how"]


def test_a_stage_that_no_model_has_is_named(suite: Suite) -> None:
    suite.write("def test_stage(vdb):\n    assert vdb.latency.stage('denois') < 9\n")
    result = suite.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*UnknownStage: there is no stage 'denois': did you mean 'denoi*"])


def test_a_stage_that_this_model_lacks_is_not_applicable(suite: Suite) -> None:
    suite.write("def test_stage(vdb):\n    assert vdb.latency.stage('image_encode') < 9\n")
    result = suite.run("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*has no stage image_encode; it has*denoise*"])


def test_device_memory_by_stage_is_not_applicable_on_a_cpu(suite: Suite) -> None:
    suite.write("def test_stage(vdb):\n    assert vdb.memory.stage('decode') < 9\n")
    suite.run().assert_outcomes(skipped=1)


def test_a_stage_may_have_a_tolerance_of_its_own(suite: Suite) -> None:
    suite.write("def test_stage(vdb):\n    assert vdb.latency.stage('denoise') < 90\n")
    suite.run("--vdb-update").assert_outcomes(passed=1)
    suite.model(
        "import time; original = pipeline.transformer.forward\n"
        "def slow(*args, **kwargs):\n"
        "    time.sleep(0.05); return original(*args, **kwargs)\n"
        "pipeline.transformer.forward = slow"
    )
    sys.modules.pop("model_under_test", None)
    suite.run().assert_outcomes(passed=1)  # a CPU's wall clock is not gated unless asked for
    result = suite.run("--vdb-tolerance=latency.denoise=10%")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*latency.denoise*INCONCLUSIVE*"])


def test_energy_is_measured_or_unmeasured_and_never_zero(suite: Suite) -> None:
    """Where no counter can be read the test fails and says which."""
    from pytest_vdb.measure.energy import meters_for

    suite.write("def test_energy(vdb):\n    assert 0 < vdb.energy.gross.mean < 1e6\n")
    result = suite.run()
    if reason := meters_for("cpu").reason:
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines([f"*UNMEASURED energy.gross*{reason[:20]}*"])
    else:
        assert "UNMEASURED" in result.stdout.str() or result.ret == 0


def test_carbon_needs_a_grid(suite: Suite) -> None:
    suite.write("def test_carbon(vdb):\n    assert vdb.energy.co2 < 1\n")
    result = suite.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*UNMEASURED energy.co2*--vdb-grid*"])


def test_a_wrong_grid_ends_the_run(suite: Suite) -> None:
    suite.write("def test_carbon(vdb):\n    assert vdb.energy.co2 < 1\n")
    result = suite.run("--vdb-grid=-3")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--vdb-grid=-3: give grams of CO2 a kWh*"])
