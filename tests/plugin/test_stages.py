"""``vdb.latency.stage``, ``vdb.memory.stage`` and ``vdb.energy``; that stages are measured in both
runners: `test_runner.py`."""

from __future__ import annotations

import sys

from tests.plugin.conftest import Suite


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
