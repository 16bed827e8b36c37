"""A worsened model fails, with the right reason; an unchanged one does not."""

import pytest

from tests.plugin.conftest import FAST

BENCH = """
def test_quality(vdb):
    assert vdb.score("temporal_flickering").mean > 0.5

def test_similarity(vdb):
    assert vdb.score("ssim").min > 0.9
    assert vdb.score("latent_cosine").max < 0.01
"""
PROMPTS = "prompts=['a red fox', 'a blue boat']"
LARGE = f"{PROMPTS}, num_frames=17, num_inference_steps=8, height=64, width=64"
"""Small differences show as they do in a large video."""

NOISE = """
import numpy as np, torch
rng = np.random.Generator(np.random.PCG64(1))
with torch.no_grad():
    for part in (pipeline.text_encoder, pipeline.transformer, pipeline.vae):
        for p in part.parameters():
            p.mul_(1 + 0.1 * torch.from_numpy(rng.standard_normal(p.shape).astype("float32")))
"""
FEWER = """
call = type(pipeline).__call__
class Fewer(type(pipeline)):
    def __call__(self, *args, num_inference_steps=8, **kwargs):
        return call(self, *args, num_inference_steps=num_inference_steps - 1, **kwargs)
pipeline.__class__ = Fewer
"""
SHIFT = """
config = dict(pipeline.scheduler.config)
key = "flow_shift" if "flow_shift" in config else "shift"
config[key] = 4.0 * (config[key] or 1.0)
pipeline.scheduler = type(pipeline.scheduler).from_config(config)
"""
DECODED = """
decode = pipeline.vae.decode
def changed(latents, *args, **kwargs):
    out = decode(latents, *args, **kwargs)
    video = out[0] if isinstance(out, tuple) else out.sample
    {change}
    return out
pipeline.vae.decode = changed
"""
BLACK = DECODED.format(change="video.fill_(-1.0)")
FROZEN = DECODED.format(change="video.copy_(video[:, :, :1].expand_as(video).clone())")
NAN = """
step = pipeline.scheduler.step
import torch
forward = pipeline.transformer.forward
def broken(*args, **kwargs):
    out = forward(*args, **kwargs)
    (out[0] if isinstance(out, tuple) else out.sample).fill_(float("nan"))
    return out
pipeline.transformer.forward = broken
"""


@pytest.fixture
def stored(suite):
    suite.write(BENCH)
    suite.store()
    return suite


@pytest.fixture
def large(suite):
    suite.write(BENCH, LARGE)
    suite.store()
    return suite


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(NOISE, id="weights-10-percent-noise"),
        pytest.param(FEWER, id="one-step-fewer"),
        pytest.param(SHIFT, id="wrong-scheduler-shift"),
    ],
)
def test_a_worsened_model_fails(large, change):
    large.model(change)
    result = large.run("--vdb-missing=fail")
    assert result.ret == 1
    assert result.parseoutcomes()["failed"] >= 1
    result.stdout.fnmatch_lines(["*assert ssim.min > 0.9*"])


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        pytest.param(BLACK, ["*Insane: *sanity checks*", "*black: *"], id="black"),
        pytest.param(FROZEN, ["*frozen: *"], id="frozen"),
        pytest.param(NAN, ["*nonfinite: *NaN or infinite*"], id="nan-latents"),
    ],
)
def test_a_broken_model_fails(stored, change, reasons):
    stored.model(change)
    result = stored.run("--vdb-missing=fail")
    assert result.ret == 1
    assert result.parseoutcomes()["failed"] >= 1
    result.stdout.fnmatch_lines(reasons)


def test_a_worsened_model_fails_in_a_child_process(suite):
    suite.engine()
    suite.write(BENCH)
    suite.store()
    suite.engine("return np.full((num_frames, height, width, 3), np.nan, np.float32)")
    result = suite.run("--vdb-missing=fail", "--vdb-runner=child")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*nonfinite: *NaN or infinite*"])


def test_an_unchanged_model_is_identical_again_and_again(stored):
    for _ in range(2):
        states = stored.states("--vdb-missing=fail")
        assert set(states.values()) == {"IDENTICAL"}


def test_an_allowed_fault_passes_sanity(suite):
    suite.model(FROZEN)
    suite.write("def test_speed(vdb):\n    assert vdb.latency.median < 100")
    suite.run().assert_outcomes(failed=1)
    allowed = FAST + ", allow='frozen'"
    suite.write("def test_speed(vdb):\n    assert vdb.latency.median < 100", allowed)
    suite.run().assert_outcomes(passed=1)
