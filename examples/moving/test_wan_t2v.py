import pytest

from pytest_vdb import MiB

PROMPT = "A man eats noodles at a street food market. Mid-shot, vibrant lighting."
DRAFT = pytest.mark.vdb(num_inference_steps=4, guidance_scale=3.0)
TIERS = [pytest.param(10, id="default", marks=DRAFT), pytest.param(125, id="full")]
pytestmark = pytest.mark.vdb(prompts=[PROMPT], seeds=range(1024, 1029))


@pytest.fixture(params=TIERS, autouse=True)
def dit(request):
    return request.param  # seconds


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
