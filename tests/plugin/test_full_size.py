"""``examples/full-size`` as docs/full-size.md runs it, on tiny twins; ``--vdb-weights``."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.plugin.conftest import Suite

ROOT = Path(__file__).parents[2]


def test_the_command_of_the_docs_on_a_tiny_twin(suite: Suite) -> None:
    page = (ROOT / "docs/full-size.md").read_text(encoding="utf-8")
    block = re.search(r"```\n(pytest examples/full-size[^`]*)```", page)
    assert block
    words = [w for w in block[1].replace("\\\n", " ").split() if not w.startswith("--vdb-model")]
    shutil.copytree(ROOT / "examples/full-size", suite.root / "examples/full-size")
    result = suite.pytester.runpytest_inprocess(
        "-p", "no:cacheprovider", *words[1:], "--vdb-model=tiny-ltx", "-k", "not energy"
    )
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["*memory.cpu_peak*NO_BASELINE*", "*latency.decode*"])
    assert list(suite.root.glob("baselines/tiny-ltx/**/*.json"))  # what was measured is stored


def test_random_weights_have_no_quality_and_are_another_workload(suite: Suite) -> None:
    suite.write(
        "def test_speed(vdb):\n    assert vdb.latency < 90\n"
        "def test_quality(vdb):\n    assert vdb.score('motion_energy') > 1e9\n"
    )
    data = suite.json("--vdb-weights=random")
    rows = {m["name"]: m["verdict"] for test in data["tests"] for m in test["measurements"]}
    assert rows["motion_energy"]["state"] == "NOT_APPLICABLE"
    assert rows["motion_energy"]["reason"] == "videos of random weights have no quality"
    assert [test["outcome"] for test in data["tests"]] == ["passed", "skipped"]
    hashes = {test["workload"]["hash"] for test in data["tests"]}
    plain = {test["workload"]["hash"] for test in suite.json()["tests"]}
    assert not hashes & plain


def test_require_fails_what_random_weights_cannot_say(suite: Suite) -> None:
    suite.write("def test_quality(vdb):\n    assert vdb.score('motion_energy') > 0\n")
    suite.run("--vdb-weights=random", "--vdb-require").assert_outcomes(failed=1)


@pytest.mark.parametrize("option", ["--vdb-set=vae_tilin=true", "--vdb-set=attention_backend=flsh"])
def test_a_misspelt_load_option_says_what_was_meant(suite: Suite, option: str) -> None:
    suite.write("def test_speed(vdb):\n    assert vdb.latency < 90\n")
    result = suite.run(option)
    assert result.ret != 0
    assert re.search(r"did you mean|give one of|attention_backend", result.stdout.str())
