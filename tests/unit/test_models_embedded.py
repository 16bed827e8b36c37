"""The tiny models: reproducible, alive, and sensitive to what a gate must see."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from pytest_vdb.models import embedded
from pytest_vdb.models.catalog import EMBEDDED
from pytest_vdb.models.open import open_source
from pytest_vdb.records import ModelSpec, Prompt

FOX = Prompt("fox", "a red fox runs through snow")
SEA = Prompt("sea", "waves break on a beach at dusk")


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


SEEDED = [spec for spec in EMBEDDED if spec.source == "factory"]  # `shapes` has learned its weights


@pytest.fixture(scope="module", params=SEEDED, ids=lambda spec: spec.name)
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    return request.param


@pytest.fixture(scope="module")
def healthy(spec: ModelSpec) -> np.ndarray:
    return video(open_source(spec), spec)


def video(
    source: Any, spec: ModelSpec, prompt: Prompt = FOX, seed: int = 0, **call: Any
) -> np.ndarray:
    return source.generate(prompt, seed, {**spec.call, **call}).frames


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    pair = [torch.from_numpy(np.round(x * 255) / 255).movedim(-1, 1) for x in (a, b)]
    return float(structural_similarity_index_measure(*pair, data_range=1.0))


def modules(pipeline: Any) -> dict[str, torch.nn.Module]:
    return {k: c for k, c in pipeline.components.items() if isinstance(c, torch.nn.Module)}


def disturb(pipeline: Any, amount: float) -> None:
    """Multiply every weight by 1 + ``amount`` N(0, 1)."""
    random = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for module in modules(pipeline).values():
            for weight in module.parameters():
                weight.mul_(1 + amount * torch.randn(weight.shape, generator=random))


def test_the_video_uses_its_range_moves_and_has_structure(healthy: np.ndarray) -> None:
    assert healthy.shape == (17, 64, 64, 3)
    assert healthy.dtype == np.float32
    assert np.isfinite(healthy).all()
    assert 0.2 < healthy.mean() < 0.8
    assert healthy.std() > 0.1
    assert np.mean((healthy <= 0) | (healthy >= 1)) < 0.05
    steps = np.abs(np.diff(healthy, axis=0)).mean((1, 2, 3))
    assert steps.min() > 0.02  # no two frames alike
    neighbours = np.abs(np.diff(healthy, axis=2)).mean()
    strangers = np.abs(healthy - healthy[:, :, np.random.default_rng(0).permutation(64)]).mean()
    assert neighbours < strangers * 0.75  # white noise has as much of both


def test_prompt_and_seed_decide_the_video(spec: ModelSpec, healthy: np.ndarray) -> None:
    source = open_source(spec)
    assert np.array_equal(video(source, spec), healthy)
    assert ssim(video(source, spec, seed=1), healthy) < 0.9
    assert ssim(video(source, spec, SEA), healthy) < 0.9


def test_faults_show(spec: ModelSpec, healthy: np.ndarray) -> None:
    source = open_source(spec)
    assert ssim(video(source, spec, num_inference_steps=7), healthy) < 0.9
    scheduler = source.pipeline.scheduler
    source.pipeline.scheduler = type(scheduler).from_config(
        scheduler.config, shift=5.0, use_dynamic_shifting=False
    )
    assert ssim(video(source, spec), healthy) < 0.9
    source.pipeline.scheduler = scheduler
    disturb(source.pipeline, 0.1)
    assert ssim(video(source, spec), healthy) < 0.8


def test_rounding_does_not_show(spec: ModelSpec, healthy: np.ndarray) -> None:
    source = open_source(spec)
    disturb(source.pipeline, 1e-6)
    assert ssim(video(source, spec), healthy) > 0.999


def test_every_component_is_in_eval_mode(spec: ModelSpec) -> None:
    found = modules(open_source(spec).pipeline)
    assert set(found) == {"text_encoder", "transformer", "vae"}
    assert not any(m.training for c in found.values() for m in c.modules())


FINGERPRINT = """
import hashlib, sys, torch
from pytest_vdb.models import embedded
pipeline = getattr(embedded, sys.argv[1])()
total = hashlib.sha256()
for name in sorted(pipeline.components):
    component = pipeline.components[name]
    if isinstance(component, torch.nn.Module):
        for key, value in component.named_parameters():
            total.update(f"{name}.{key}".encode() + value.detach().numpy().tobytes())
print(total.hexdigest())
"""


def fingerprint(name: str) -> str:
    """Sha256 of every parameter, made in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", FINGERPRINT, name], capture_output=True, text=True, check=True
    )
    return done.stdout.split()[-1]


def test_weights_are_byte_identical_in_another_process() -> None:
    total = hashlib.sha256()
    found = modules(embedded.tiny_wan())
    for name in sorted(found):
        for key, value in found[name].named_parameters():
            total.update(f"{name}.{key}".encode() + value.detach().numpy().tobytes())
    assert fingerprint("tiny_wan") == total.hexdigest()


def test_seed_weights_overwrites_everything_and_leaves_buffers_alone() -> None:
    one, other = modules(embedded.tiny_ltx(1)), modules(embedded.tiny_ltx(2))
    for name, module in one.items():
        twins = dict(other[name].named_parameters())
        for key, value in module.named_parameters():
            assert not torch.equal(value, twins[key]), f"{name}.{key} does not depend on the seed"
        for key, value in module.named_buffers():
            assert torch.equal(value, dict(other[name].named_buffers())[key])


def test_weights_are_scaled_by_fan_in() -> None:
    transformer = embedded.tiny_wan().transformer
    weight = transformer.blocks[0].ffn.net[0].proj.weight
    assert float(weight.detach().std()) == pytest.approx(weight.shape[1] ** -0.5, rel=0.05)
    assert float(transformer.blocks[0].attn1.norm_q.weight.detach().mean()) == pytest.approx(
        1, abs=0.05
    )
    assert float(transformer.blocks[0].ffn.net[0].proj.bias.detach().mean()) == pytest.approx(
        0, abs=0.05
    )
