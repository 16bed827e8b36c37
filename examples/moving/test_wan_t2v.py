import pytest

from pytest_vdb import MiB

pytestmark = pytest.mark.vdb(prompts=["A man eats noodles."], num_seeds=3, guidance_scale=3)
SHORT = pytest.mark.vdb(num_inference_steps=4)
TIERS = [pytest.param(10, id="default", marks=SHORT), pytest.param(125, id="full")]


@pytest.fixture(params=TIERS, autouse=True)
def dit(request):
    return request.param  # seconds that the transformer may take


def test_golden_video(vdb):
    assert vdb.score("ms_ssim").min >= 0.93
    assert vdb.score("latent_cosine").max <= 0.01


def test_time(vdb, dit):
    assert vdb.latency.median < dit + 24
    assert vdb.latency.stage("text_encode").median < 5
    assert vdb.latency.stage("denoise").median < dit
    assert vdb.latency.stage("decode").median < 10


def test_memory(vdb):
    assert vdb.memory.peak < 11_000 * MiB
