"""Base and candidate side by side: what can be seen without running a model.

Real pairs of processes are in tests/plugin/test_against.py.
"""

import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pytest_vdb.errors import GenerationTimeout, NoBase
from pytest_vdb.gate.policy import Tolerance
from pytest_vdb.gate.rules import interleaved
from pytest_vdb.measure.runner import Job
from pytest_vdb.parallel.lease import Lease
from pytest_vdb.records import ModelSpec, Prompt, Run, Sample, Workload
from pytest_vdb.trial.base import Side, candidate
from pytest_vdb.trial.interleave import Pair, Trial, at_steps, check_code, environment

SAMPLE = Sample(
    "p",
    0,
    "",
    "",
    (0, 0, 0, 3),
    wall=3.0,
    cpu=6.0,
    stages={"denoise": 2.0, "decode": 1.0},
    steps=(0.2, 0.2, 1.6),
    energy={"gpu": 30.0},
)


def trial(steps=8, asked=40, expected=None, **more):
    model = ModelSpec("m", "factory", "m:build")
    workload = Workload((Prompt("p", "a fox"),), (0,), {"num_inference_steps": asked})
    run = expected or Run((SAMPLE,), load=60.0, first_call=5.0)
    return Trial(Job(model, workload, "out"), candidate(), candidate(), steps, run, **more)


def test_a_block_of_few_steps_is_told_as_the_whole_run():
    longer = at_steps(SAMPLE, 40)
    assert longer.wall == pytest.approx(1.0 + 40 * 2 / 3)  # a step in three is an expensive one
    assert longer.stages == {"denoise": pytest.approx(80 / 3), "decode": 1.0}
    assert longer.cpu == pytest.approx(2 * longer.wall)
    assert longer.energy["gpu"] == pytest.approx(10 * longer.wall)


def test_what_has_no_steps_is_told_as_it_is():
    engine = Sample("p", 0, "", "", (0, 0, 0, 3), wall=3.0)
    assert at_steps(engine, 40) is engine


def test_the_cost_is_told_before():
    # 6 times: a start, a load of 60 s, a warm-up of 5 s, 6 blocks of a fifth of 3 s, at least 1 s
    assert trial().estimate(3) == pytest.approx(6 * (5 + 60 + 5 + 6 * 1))
    assert trial(asked=8).estimate(3) == pytest.approx(6 * (5 + 60 + 5 + 6 * 3))


def test_a_budget_is_kept_and_named(tmp_path):
    lines = []
    limited = trial(budget=lambda: 120.0, announce=lines.append)
    assert not limited.reach(3)
    assert limited.failure == (
        "3 more process pairs beside candidate take about 7.6 min, and --vdb-budget leaves 2.0 min"
    )
    assert not lines
    assert not limited.pairs


def test_two_sides_of_one_code_are_no_comparison():
    torch = {"torch": "2.13 /x/torch"}
    base = Side("main", (), tree="/base", top="/head")
    check_code(base, torch | {"ours": "/base/ours"}, torch | {"ours": "/head/ours"})
    with pytest.raises(NoBase, match=r"main and the candidate load the same code \(torch 2.13"):
        check_code(base, torch | {"gone": "/base/gone"}, torch | {"conftest": "/head/conftest.py"})
    mixed = {"ours": "/base/ours", "other": "/head/lib/other"}
    with pytest.raises(NoBase, match="loaded other from the change's own tree"):
        check_code(base, mixed, mixed | {"ours": "/head/ours"})


def timed(seconds):
    return Run(tuple(replace(SAMPLE, seed=i, wall=s) for i, s in enumerate(seconds)))


def walls(run):
    return [sample.wall for sample in run.samples]


RULE = partial(interleaved, tolerance=Tolerance(0.05), guard_m=200)


@pytest.mark.parametrize(("slower", "state"), [(1.0, "REGRESSION"), (0.05, "INCONCLUSIVE")])
def test_what_the_pairs_of_a_spent_budget_show_is_said(slower, state):
    """Three convict where no fourth can follow."""
    limited = trial(budget=lambda: 0.0, most=8, seconds=90.0)
    for wobble in (-0.005, 0.0, 0.005):
        limited.pairs.append(Pair(timed([1.0] * 5), timed([1.0 + slower + wobble] * 5)))
    verdict = limited.judge("latency", walls, RULE)
    assert verdict.state == state
    assert verdict.reason.endswith("--vdb-budget leaves 0 s")
    assert len(limited.ratios["latency"]) == 3


def test_three_pairs_wait_for_a_fourth_that_can_follow():
    unlimited = trial(most=4)
    for wobble in (-0.005, 0.0, 0.005, 0.0):
        unlimited.pairs.append(Pair(timed([1.0] * 5), timed([2.0 + wobble] * 5)))
    verdict = unlimited.judge("latency", walls, RULE)
    assert (verdict.state, verdict.n) == ("REGRESSION", 4)


def test_what_was_not_run_or_not_measured_has_no_verdict():
    limited = trial(budget=lambda: 0.0)
    assert limited.judge("latency", walls, RULE).startswith("not run side by side: 3 more")
    limited.pairs += [Pair(timed([1.0]), timed([]))] * 3
    assert limited.judge("latency", walls, RULE) == "latency is not measured side by side"


def test_a_budget_ends_what_is_under_way():
    limited = trial()
    limited._deadline = time.monotonic() + 100
    assert limited._limit() == pytest.approx(100, abs=1)
    limited._deadline = time.monotonic() - 1
    with pytest.raises(GenerationTimeout, match="--vdb-budget is spent"):
        limited._limit()


def test_a_child_finds_this_plugin_and_nothing_beside_it(tmp_path):
    env = environment(tmp_path / "plugin")
    assert environment(tmp_path / "plugin") == env  # again: the link is there
    (folder,) = map(Path, [env["PYTHONPATH"]])
    assert [path.name for path in folder.iterdir()] == ["pytest_vdb"]
    assert (folder / "pytest_vdb" / "measure" / "child.py").is_file()


def test_two_processes_that_need_a_device_each_swap_the_halves_of_a_lease(tmp_path):
    with Lease(4, among=["cpu0", "cpu1", "cpu2", "cpu3"], kind="cpu", folder=tmp_path) as lease:
        first, second = lease.halves()
    assert (first.devices, second.devices) == (("cpu0", "cpu1"), ("cpu2", "cpu3"))
    assert first.env["PYTEST_VDB_CPUS"] == "0,1"
    assert first.env["MASTER_PORT"] != second.env["MASTER_PORT"]


def test_processes_of_a_pair_keep_their_memory_on_a_cpu(monkeypatch, tmp_path):
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "1000000")  # the user's own word
    of_a_pair = trial()
    of_a_pair.job = replace(of_a_pair.job, folder=str(tmp_path), device="cpu")
    with ExitStack() as stack:
        for runner in of_a_pair._runners(stack, 0).values():
            assert runner.env["MALLOC_TRIM_THRESHOLD_"] == str(1 << 30)
            assert "MALLOC_MMAP_THRESHOLD_" not in runner.env
