"""--vdb-csv, --vdb-latex, --vdb-openmetrics, --vdb-benchmark-json and examples/tensorboard, of real
runs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_vdb import cli

pytestmark = pytest.mark.usefixtures("engine")

EXAMPLE = Path(__file__).parents[2] / "examples/tensorboard"
BODY = """
def test_quality(vdb):
    assert vdb.score("sharpness").mean > 0
    assert vdb.latency.median < 100

def test_both(vdb, benchmark):
    benchmark.pedantic(lambda: vdb.latency.median, rounds=2)

def test_alone(benchmark):
    benchmark.pedantic(sum, ([1, 2],), rounds=3)
"""
TEXTS = ("csv", "latex", "openmetrics")


@pytest.fixture
def export(suite, monkeypatch):
    """A run of the suite that writes every report into a folder."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # where benchmark times nothing
    suite.write(BODY)

    def run(name):
        folder = suite.root / name
        flags = [f"--vdb-{kind}={name}/{kind}.txt" for kind in TEXTS]
        run = suite.json(f"--vdb-benchmark-json={name}/benchmark.json", *flags)
        assert run["exit"] == 0
        return folder, run

    return run


def test_two_runs(suite, export):
    first, run = export("first")
    second, _ = export("second")
    entries = json.loads((first / "benchmark.json").read_text())["benchmarks"]
    model = "[model_under_test-build]"
    assert [(entry["name"], entry["stats"]["rounds"]) for entry in entries] == [
        (f"test_both{model}", 2),
        ("test_alone", 3),
        (f"test_quality.latency{model}", 2),
        (f"test_both.latency{model}", 2),
    ]
    assert entries[0]["params"] == {"vdb_model": "model_under_test:build"}
    sharpness = next(m for m in run["tests"][0]["measurements"] if m["name"] == "sharpness")
    beside = entries[2]["extra_info"]["measurements"]["sharpness"]
    assert beside["mean"] == sharpness["statistics"]["mean"]

    compare = [sys.executable, "-m", "pytest_benchmark", "compare"]
    files = [str(folder / "benchmark.json") for folder in (first, second)]
    compared = subprocess.run(
        [*compare, *files], cwd=suite.root, capture_output=True, text=True, timeout=120, check=True
    )
    assert "benchmark 'latency': 4 tests" in compared.stdout
    assert "benchmark: 4 tests" in compared.stdout
    assert "Failed to load" not in compared.stdout + compared.stderr

    # a kept run gives the same texts
    flags = [f"--{kind}={suite.root / 'again' / kind}" for kind in TEXTS]
    kept = suite.root / "kept.json"
    kept.write_text(json.dumps(run))
    assert cli.main(["report", str(kept), *flags]) == 0
    for kind in TEXTS:
        text = (first / f"{kind}.txt").read_text()
        assert (suite.root / "again" / kind).read_text() == text
        assert "sharpness" in text


def test_the_docs_show_the_example():
    page = (EXAMPLE.parents[1] / "docs/exports.md").read_text()
    assert (EXAMPLE / "conftest.py").read_text().partition("\n\n")[2] in page


def test_tensorboard_has_a_step_a_run(suite):
    pytest.importorskip("tensorboard", reason="pip install tensorboard")
    import torch.utils.tensorboard  # noqa: F401  once for all inner runs
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shutil.copy(EXAMPLE / "conftest.py", suite.root)
    suite.write((EXAMPLE / "test_quality.py").read_text().partition("\n\n\n")[2])
    runs = [suite.json(), suite.json()]
    told = EventAccumulator(str(suite.root / "runs")).Reload()
    for name in ("latency", "sharpness", "temporal_flickering"):
        test = next(
            (t, m) for t in runs[0]["tests"] for m in t["measurements"] if m["name"] == name
        )[0]
        logged = [(e.step, e.value) for e in told.Scalars(f"{name}/{test['nodeid']}")]
        expected = [
            m["statistics"][m["headline"]]
            for run in runs
            for t in run["tests"]
            for m in t["measurements"]
            if m["name"] == name
        ]
        assert logged == [(step, pytest.approx(value)) for step, value in enumerate(expected)]
