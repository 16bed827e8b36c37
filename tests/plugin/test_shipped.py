"""benchmarks/ on the embedded model, against the baselines of this repository"""

import json
from pathlib import Path

import pytest

from pytest_vdb.scenes import ATTRIBUTES

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shipped(pytester, monkeypatch):
    monkeypatch.delenv("CI", raising=False)

    def run(*args):
        where = [
            str(ROOT / "benchmarks"),
            f"--rootdir={ROOT}",
            f"--config-file={ROOT}/pyproject.toml",
        ]
        result = pytester.runpytest_inprocess("-p", "no:cacheprovider", *where, *args)
        return result, json.loads((pytester.path / "run.json").read_text())

    return run


def test_green_out_of_the_box(shipped):
    before = sorted(ROOT.glob("baselines/**/*"))
    result, run = shipped("--vdb-json=run.json")
    result.assert_outcomes(passed=5)
    states = {m["name"]: m["verdict"]["state"] for t in run["tests"] for m in t["measurements"]}
    quality = ROOT / "baselines/shapes" / _key(run)
    scores = {"temporal_flickering", "motion_energy", "sharpness", "ssim", "latent_cosine"}
    scores |= {f"shapes_{name}" for name in (*ATTRIBUTES, "adherence")}
    # Another stack than the one of constraints.txt has no baseline here, and says so.
    allowed = {"IDENTICAL", "PASS"} if quality.exists() else {"NO_BASELINE"}
    assert {states[name] for name in scores} <= allowed
    assert states["memory.peak"] == states["latency"] == "NOT_APPLICABLE"
    assert sorted(ROOT.glob("baselines/**/*")) == before


def _key(run):
    from pytest_vdb.records import Environment

    return Environment(run["environment"]["quality"]).key
