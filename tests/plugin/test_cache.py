"""One load a pipeline: the order of tests, ``--vdb-cache-budget``, what a test holds."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import Suite

COUNTED = """
from pytest_vdb.models.embedded import tiny_wan

def counted(name):
    with open("loads.txt", "a") as file:
        file.write(name + "\\n")
    return tiny_wan()

def a():
    return counted("a")

def b():
    return counted("b")
"""
BODY = """
@pytest.mark.parametrize("n", range(2))
def test_plain(vdb, n):
    assert vdb.samples

@pytest.mark.vdb(vae_tiling=True)
def test_tiled(vdb):
    assert vdb.samples

def test_again(vdb):
    assert vdb.samples
"""


@pytest.fixture
def counted(suite: Suite) -> Suite:
    (suite.root / "counted_models.py").write_text(COUNTED)
    suite.write(BODY)
    suite.write("def test_other(vdb):\n    assert vdb.samples\n", name="test_other.py")
    return suite


def loads(suite: Suite, *args: str) -> list[str]:
    (suite.root / "loads.txt").write_text("")
    models = ("--vdb-model=counted_models:a", "--vdb-model=counted_models:b")
    result = suite.pytester.runpytest_inprocess(
        "-p", "no:cacheprovider", "benchmarks", *models, *args
    )
    result.assert_outcomes(passed=10)
    return (suite.root / "loads.txt").read_text().split()


def test_each_model_and_its_options_load_once(counted: Suite) -> None:
    """Two models, each plain and tiled, over two files: four loads."""
    assert loads(counted) == ["a", "a", "b", "b"]


ENGINE = """
import numpy as np

def a(vae_tiling=False):
    with open("loads.txt", "a") as file:
        file.write("a\\n")
    return lambda prompt, *, seed, **size: np.random.default_rng(seed).random((5, 32, 32, 3))
"""


def test_a_child_process_keeps_its_model_for_the_tests_that_follow(counted: Suite) -> None:
    (counted.root / "counted_models.py").write_text(ENGINE)
    result = counted.pytester.runpytest_inprocess(
        "-p", "no:cacheprovider", "benchmarks", "--vdb-model=counted_models:a", "--vdb-runner=child"
    )
    result.assert_outcomes(passed=5)
    assert (counted.root / "loads.txt").read_text().split() == ["a", "a"]  # plain and tiled


def test_a_budget_below_two_pipelines_still_loads_each_once(counted: Suite) -> None:
    assert loads(counted, "--vdb-cache-budget=7MB") == ["a", "a", "b", "b"]


def test_two_pipelines_in_hands_at_once_beyond_the_budget_name_the_holder(suite: Suite) -> None:
    (suite.root / "counted_models.py").write_text(COUNTED)
    suite.write(
        "def test_both(vdb, vdb_pipeline):\n"
        "    session = vdb._bench.session\n"
        "    from dataclasses import replace\n"
        "    other = replace(vdb.model, location='counted_models:b')\n"
        "    job = replace(vdb._bench.job(), model=other)\n"
        "    session.runner('inprocess', vdb.model).source(job, 'x')\n"
    )
    result = suite.run("--vdb-cache-budget=7MB")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*PipelinesHeld: *test_both* still holds one*"])


def test_a_wrong_size_ends_the_run(suite: Suite) -> None:
    suite.write(BODY)
    result = suite.run("--vdb-cache-budget=7")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--vdb-cache-budget: '7' is no size; write e.g. 20GiB*"])


HUNGRY = """
import torch

def hungry():
    pipeline = counted("hungry")
    forward = pipeline.transformer.forward

    def sometimes(*args, **kwargs):
        if "fox" in open("prompt.txt").read():
            torch.empty(2**60)  # more than any machine has
        return forward(*args, **kwargs)

    pipeline.transformer.forward = sometimes
    return pipeline
"""


def test_out_of_memory_fails_its_test_drops_the_pipeline_and_the_next_test_runs(
    suite: Suite,
) -> None:
    (suite.root / "counted_models.py").write_text(COUNTED + HUNGRY)
    suite.write(
        "def use(text):\n"
        "    open('prompt.txt', 'w').write(text)\n"
        "def test_fox(vdb):\n"
        "    use('fox'); vdb.latency.mean + 0\n"
        "@pytest.mark.vdb(prompts=['a blue boat'])\n"
        "def test_boat(vdb):\n"
        "    use('boat'); assert vdb.latency < 90\n"
    )
    result = suite.pytester.runpytest_inprocess(
        "-p", "no:cacheprovider", "benchmarks", "--vdb-model=counted_models:hungry"
    )
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "*OutOfMemory: the warm-up generation of prompt*ran out of memory on cpu at a request*",
        ]
    )
    assert (suite.root / "loads.txt").read_text().split() == ["hungry", "hungry"]
