"""examples/moving and docs/moving.md: what a private script checks, on a tiny twin of the model"""

import json
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/moving"
PAGE = (ROOT / "docs/moving.md").read_text(encoding="utf-8")
BACKENDS = ("native", "_native_math")  # diffusers' that run on a CPU and differ in their rounding

MODELS = """
import os
from dataclasses import replace
import recipe

def pytest_vdb_models():
    call = {"num_frames": 5, "height": 176, "width": 176, "num_inference_steps": 2}
    return [
        replace(
            spec,
            name=f"twin-{backend}",
            location="twin:build",
            dtype="float32",
            devices=int(os.environ.get("DEVICES", 1)),
            call={**call, "max_sequence_length": 64},
            options={"attention_backend": backend, "num_threads": 1},
        )
        for spec, backend in zip(recipe.pytest_vdb_models(), ("native", "_native_math"))
    ]
"""
TWIN = """
import os
import numpy as np
import torch
from diffusers import AutoencoderKLWan
from pytest_vdb.models.embedded import finished, tiny_wan

def build():
    pipeline = tiny_wan()
    pipeline.transformer.blocks = pipeline.transformer.blocks[:1]
    pipeline.vae = AutoencoderKLWan(base_dim=2, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    finished(pipeline, seed=0, grain=0.5)
    random = np.random.Generator(np.random.PCG64(1))
    with torch.no_grad():
        for weight in pipeline.transformer.parameters():
            noise = random.standard_normal(weight.shape).astype("float32")
            weight.mul_(torch.from_numpy(1 + float(os.environ.get("NOISE", 0)) * noise))
    return pipeline
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """The example's own benchmark file and recipe, on the twin in place of its model."""
    monkeypatch.setenv("CI", "1")
    pytester.makepyfile(
        conftest=MODELS,
        twin=TWIN,
        recipe=(EXAMPLE / "conftest.py").read_text(),
        test_wan_t2v=(EXAMPLE / "test_wan_t2v.py").read_text(),
    )
    (pytester.path / "pytest.ini").write_text((EXAMPLE / "pytest.ini").read_text())
    models = [f"--vdb-model=twin-{backend}" for backend in BACKENDS]
    return lambda *args: pytester.runpytest_inprocess("-p", "no:cacheprovider", *models, *args)


def lines(path):
    return [line for line in path.read_text().splitlines() if line.strip()]


def test_the_page_shows_the_files_that_are_run_here():
    for name in ("test_wan_t2v.py", "conftest.py", "pytest.ini"):
        text = (EXAMPLE / name).read_text()
        assert f"\n{text}```" in PAGE, f"docs/moving.md shows another {name}"
        count = len(lines(EXAMPLE / name))
        assert re.search(rf"`{re.escape(name)}`[^.]*\b{count} lines", PAGE), (name, count)
    assert len(lines(EXAMPLE / "test_wan_t2v.py")) <= 25


def test_the_life_of_a_gate(run, pytester, monkeypatch):
    # A first reference: CI refuses to pass without one, and a run elsewhere drafts it.
    result = run("-k", "default and native and not math and golden")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*NO_BASELINE*--vdb-update*"])
    result = run("--vdb-update")
    result.assert_outcomes(passed=8, skipped=4)  # memory of the device: none here
    videos = list((pytester.path / "baselines/media").glob("*/*.webp"))
    assert len(videos) == 2 * 2 * 3, "two tiers on two backends are twelve different videos"
    for name in ("latency", "latency.text_encode", "latency.denoise", "latency.decode"):
        assert len(drafted(pytester.path, name)) == len(videos), name

    # Reviewed and committed, it gates.
    result = run("-k", "default and math")
    result.assert_outcomes(passed=2, skipped=1)
    result.stdout.fnmatch_lines(["*ms_ssim*IDENTICAL*", "*latent_cosine*IDENTICAL*"])
    monkeypatch.setenv("NOISE", "0.3")
    result = run("-k", "default and math")
    result.assert_outcomes(passed=1, failed=1, skipped=1)
    result.stdout.fnmatch_lines(["*assert ms_ssim.min >= 0.93*"])


def drafted(root, name):
    """Every value of a measurement in the baselines."""
    found = []
    for path in root.glob("baselines/*/*/*.json"):
        for workload in json.loads(path.read_text())["workloads"].values():
            for session in (
                workload["measurements"].get(name, {"sessions": {}})["sessions"].values()
            ):
                found += session.values()
    return found


def test_too_few_devices_are_the_machines_fault(run, monkeypatch):
    monkeypatch.setenv("DEVICES", str(1 + len(os.sched_getaffinity(0))))
    result = run("-k", "golden and default")
    assert result.ret == 10
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*CPU cores are needed and this process may use*"])
