"""An engine behind ``module:function``: what it reports is gated, what it stops reporting fails."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import Suite

ENGINE = """
import time
import numpy as np

def build():
    def engine(prompt, *, seed, num_frames=5, height=32, width=32, num_inference_steps=2, **more):
        start = time.perf_counter()
        noise = np.random.default_rng([seed, len(prompt)]).random((num_frames, height, width, 3))
        said = {{"frames": noise.astype(np.float32), "memory": {{"allocated": 2**30}}}}
        said["latent"] = noise[:, ::8, ::8].astype(np.float32)
        {change}
        return said
    return engine
"""
BODY = """
def test_speed(vdb):
    assert vdb.latency < 9

def test_memory(vdb):
    assert vdb.memory.peak < 2**31

def test_latent(vdb):
    assert vdb.score("latent_cosine").max < 0.5
"""


def run(suite: Suite, *args: str, change: str = "pass", model: str = "") -> pytest.RunResult:
    name = f"engine_{len(list(suite.root.glob('engine_*.py')))}"
    (suite.root / f"{name}.py").write_text(ENGINE.format(change=change))
    (suite.root / "conftest.py").write_text(
        "def pytest_vdb_models():\n"
        "    from pytest_vdb import ModelSpec\n"
        f"    return [ModelSpec('engine', 'factory', '{name}:build'{model})]\n"
    )
    suite.write(BODY)
    return suite.pytester.runpytest_inprocess(
        "-p", "no:cacheprovider", "benchmarks", "--vdb-model=engine", "-rs", *args
    )


def test_what_an_engine_reports_is_gated(suite: Suite) -> None:
    run(suite, "--vdb-update").assert_outcomes(passed=3)
    run(suite).assert_outcomes(passed=3)
    worse = run(suite, change='said["memory"] = {"allocated": 3 * 2**29}')
    worse.assert_outcomes(passed=2, failed=1)
    worse.stdout.fnmatch_lines(["*REGRESSION memory.peak*1.5 GiB*"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ('del said["memory"]', "*UNMEASURED memory.peak*yet the baseline has it*"),
        ('del said["latent"]', "*UNMEASURED latent_cosine*o latent of*"),
    ],
)
def test_what_an_engine_reports_no_longer_is_unmeasured(
    suite: Suite, change: str, words: str
) -> None:
    run(suite, "--vdb-update").assert_outcomes(passed=3)
    result = run(suite, change=change)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines([words])


def test_an_engines_own_seconds_are_not_compared_with_a_wall_clock(suite: Suite) -> None:
    gated = "--vdb-tolerance=latency=5%"
    run(suite, "--vdb-update", gated).assert_outcomes(passed=3)
    told = 'time.sleep(0.2); said["seconds"] = (time.perf_counter() - start) / 4'
    result = run(suite, gated, change=told)
    result.stdout.fnmatch_lines(
        ["*NO_BASELINE: the stored values have another definition*latency*"]
    )


def test_an_engine_of_two_devices_needs_a_child(suite: Suite) -> None:
    result = run(suite, "--vdb-runner=inprocess", model=", devices=2")
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(["*BadSetting: engine runs on 2 devices*--vdb-runner*"])
