"""--vdb-prove and --vdb-prove-min"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from pytest_vdb.models.clips import write_webp
from tests.conftest import LEAN
from tests.plugin.conftest import Suite

QUALITY = """
def test_quality(vdb):
    assert vdb.score("motion_energy").min > 0.0001
    assert vdb.score("sharpness").mean > 0
    assert float(vdb.score("sharpness").max) < 1e9

def test_similarity(vdb):
    assert vdb.score("psnr").min > 30
"""
SPEED = """
def test_speed(vdb):
    assert vdb.latency.median < 9
    assert vdb.memory.peak < 2**31
    assert vdb.memory.reserved < 2**31
"""
ENGINE = """
import time

import numpy as np

def build():
    def engine(prompt, *, seed, **more):
        noise = np.random.default_rng([seed, len(prompt)]).random((5, 32, 32, 3))
        time.sleep(0.02)
        # Its own word, so that nothing else that runs on this machine is in it.
        memory = {"allocated": 2**30, "reserved": 2**30}
        return {"frames": noise.astype(np.float32), "memory": memory, "seconds": 0.01}
    return engine

def pytest_vdb_models():
    from pytest_vdb import ModelSpec
    return [ModelSpec("engine", "factory", "conftest:build")]
"""


def scene(number: int) -> np.ndarray:
    """A textured square that moves over a gradient: no fault leaves it as it is."""
    frames = np.tile(np.linspace(40, 200, 48)[None, :, None], (32, 1, 3)).astype(np.uint8)
    video = np.stack([frames] * 9)
    patch = np.random.default_rng(number).integers(0, 256, (10, 10, 3), dtype=np.uint8)
    for i in range(9):
        video[i, number : number + 10, 3 * i + number : 3 * i + number + 10] = patch
    return video


@pytest.fixture
def clips(suite: Suite) -> Suite:
    """Eight clips of eight prompts beside a suite, and their baseline."""
    folder = suite.root / "clips"
    folder.mkdir()
    lines = []
    for number in range(8):
        write_webp(folder / f"{number}.webp", scene(number), 8, lossless=True)
        lines.append({"file": f"{number}.webp", "prompt": f"square {number}", "model": "squares"})
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    suite.write(QUALITY)
    return suite


def run(suite: Suite, *args: str) -> pytest.RunResult:
    return suite.pytester.runpytest_inprocess(*LEAN, "benchmarks", "--vdb-videos=clips", *args)


def proven(suite: Suite) -> tuple[dict[str, Any], dict[str, Any]]:
    """What run.json says: each test's proof by name, and each model's."""
    found = json.loads((suite.root / "run.json").read_text())
    tests = {test["nodeid"].partition("::")[2]: test["prove"] for test in found["tests"]}
    return tests, found["prove"]


def kills(proof: dict[str, Any]) -> dict[str, set[str]]:
    return {row.get("comparison") or row["name"]: set(row["kills"]) for row in _rows(proof)}


def _rows(proof: dict[str, Any]) -> list[Any]:
    return [*proof["assertions"], *proof["rules"]]


def test_every_assertion_and_rule_says_what_it_notices(clips: Suite) -> None:
    assert run(clips, "--vdb-update").ret == 0
    result = run(clips, "--vdb-prove", "--vdb-prove-min=0.9", "--vdb-json=run.json")
    result.assert_outcomes(passed=2)
    tests, models = proven(clips)
    quality, similarity = (kills(proof) for proof in tests.values())
    assert quality["motion_energy.min > 0.0001"] == {"black", "frozen"}
    assert quality["sharpness.mean > 0"] == {"black"}
    assert quality["sanity checks"] == {"black", "frozen"}
    assert quality["sharpness"] == {"black", "blur"}  # noise and order do not lower it
    assert {"black", "frozen"} <= quality["motion_energy"]
    assert {"black", "noise", "wrong prompt", "shuffled"} <= similarity["psnr.min > 30"]
    assert similarity["psnr"] == set()  # a distance convicts nobody
    (untraced,) = tests["test_quality[squares]"]["untraced"]
    assert (untraced["file"], untraced["line"]) == ("benchmarks/test_bench.py", 8)
    squares = models["squares"]
    assert (squares["score"], squares["survivors"]) == (1.0, [])
    assert squares["never_fail"] == []
    result.stdout.fnmatch_lines(
        [
            "*= vdb prove =*",
            "*::test_quality?squares?: * of 6 faults noticed",
            '  :6 vdb.score("motion_energy").min > 0.0001 * black, frozen',
            "  untraced test_bench.py:8 *becomes a plain number here*",
            "squares: 6 of 6 faults noticed (100%)",
        ]
    )


def test_a_suite_that_notices_too_little_is_red(clips: Suite) -> None:
    """Without a baseline there is no gate, and these asserts hold whatever the video shows."""
    clips.write(
        'def test_quality(vdb):\n    assert vdb.score("sharpness").mean > 1\n'
        '    assert vdb.score("motion_energy").mean < 1e9'
    )
    args = ["--vdb-prove", "--vdb-prove-min=0.9", "--vdb-json=run.json"]
    result = run(clips, *args)
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "--vdb-prove-min=0.9: the tests of squares notice 2 of 6 faults (0.33); "
            "nothing notices: noise, shuffled, blur, wrong prompt",
            "  :6 * no fault fails it (*: 0.01755 to *)",
            "  nothing notices: shuffled (the frames in another order); metrics that see*psnr*",
            "  no fault fails: benchmarks/test_bench.py:6 motion_energy.mean < 1000000000.0",
        ]
    )
    assert json.loads((clips.root / "run.json").read_text())["exit"] == 1
    assert run(clips, "--vdb-prove", "--vdb-prove-min=0.3").ret == 0


def test_a_test_that_fails_proves_nothing(clips: Suite) -> None:
    clips.write('def test_quality(vdb):\n    assert vdb.score("sharpness").mean < 0')
    result = run(clips, "--vdb-prove", "--vdb-prove-min=0.1", "--vdb-json=run.json")
    result.assert_outcomes(failed=1)
    found = json.loads((clips.root / "run.json").read_text())
    assert "prove" not in found["tests"][0]
    result.stdout.fnmatch_lines(["--vdb-prove-min=0.1: no test was proven"])


def test_time_and_memory_that_an_engine_reports(suite: Suite) -> None:
    (suite.root / "conftest.py").write_text(ENGINE)
    suite.write(SPEED)
    args = ("-p", "no:cacheprovider", "benchmarks", "--vdb-model=engine")
    on = ["--vdb-tolerance=latency=20%", "--vdb-prove", "--vdb-json=run.json"]
    result = suite.pytester.runpytest_inprocess(*args, *on)
    assert proven(suite)[1]["engine"]["noticed"] == 1  # by the assert on the memory alone
    result.stdout.fnmatch_lines(
        [
            "  gate: latency * NO_BASELINE*",
            "  nothing notices: latency past tolerance (+40%)",
            "  no fault fails: benchmarks/test_bench.py:6 latency.median < 9",
        ]
    )
    suite.pytester.runpytest_inprocess(*args, "--vdb-update")
    suite.pytester.runpytest_inprocess(*args, *on)
    (proof,), models = proven(suite)[0].values(), proven(suite)[1]
    found = kills(proof)
    assert models["engine"]["survivors"] == []
    assert found["latency"] == {"latency past tolerance", "latency doubled"}
    assert found["memory.peak"] == {"memory past tolerance", "memory doubled"}
    assert found["memory.peak.max < 2147483648"] == {"memory doubled"}
    assert found["latency.median < 9"] == set()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--vdb-prove-min=0.9"], "*--vdb-prove-min is a limit of --vdb-prove: add that"),
        (["--vdb-prove-generate"], "*--vdb-prove-generate adds faults to --vdb-prove: add that"),
        (["--vdb-prove", "--vdb-update"], "*run the one after the other"),
    ],
)
def test_flags_that_do_not_go_together(suite: Suite, flags: list[str], words: str) -> None:
    suite.write("def test_nothing(vdb): pass")
    result = suite.run(*flags)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([words])


def test_a_workers_proof_reaches_the_controller(clips: Suite) -> None:
    result = run(clips, "-n1", "--vdb-prove", "--vdb-json=run.json")
    result.assert_outcomes(passed=2)
    tests, models = proven(clips)
    assert set(tests) == {"test_quality[squares]", "test_similarity[squares]"}
    assert models["squares"]["faults"] == 6
    result.stdout.fnmatch_lines(["squares: * of 6 faults noticed*"])


def test_a_model_made_worse_generates_again_and_is_itself_afterwards(suite: Suite) -> None:
    suite.write(
        'def test_same(vdb):\n    assert vdb.score("latent_cosine").max < 1e-6\n'
        'def test_loose(vdb):\n    assert vdb.score("ssim").min > -2\n'
        "def test_pipeline(vdb, vdb_pipeline):\n"
        "    each = vdb_pipeline.transformer.parameters()\n"
        "    weights = sum(float(p.double().sum()) for p in each)\n"
        "    scheduler = type(vdb_pipeline.scheduler).__name__\n"
        "    open('after.txt', 'a').write(f'{weights} {scheduler}\\n')"
    )
    assert suite.run("--vdb-update").ret == 0
    suite.run("--vdb-prove", "--vdb-prove-generate", "--vdb-json=run.json")
    tests, _ = proven(suite)
    same = tests["test_same[model_under_test-build]"]
    worse = {"one step fewer", "other scheduler", "other weights"}
    assert kills(same)["latent_cosine.max < 1e-06"] >= worse
    assert same["not_tried"] == {}
    loose = tests["test_loose[model_under_test-build]"]
    assert kills(loose)["ssim.min > -2"] == set()
    before, after = (suite.root / "after.txt").read_text().split("\n")[:2]
    assert before == after
