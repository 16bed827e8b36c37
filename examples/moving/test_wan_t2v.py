import pytest
from pytest_vdb import GiB

pytestmark = pytest.mark.vdb(prompts=["A man eats noodles in a busy night market."], seeds=[0, 1, 2])
DEFAULT, FULL = pytest.mark.vdb(num_inference_steps=4, guidance_scale=3.0), ()

@pytest.fixture(autouse=True, params=[pytest.param(34, id="default", marks=DEFAULT), pytest.param(400, id="full")])
def seconds(request):
    return request.param

def test_golden_video(vdb):
    assert vdb.score("ms_ssim").mean > 0.93
    assert vdb.score("latent_cosine").max < 0.01

def test_time(vdb, seconds):
    assert vdb.latency.median < seconds
    assert vdb.latency.stage("text_encode").median < 5
    assert vdb.latency.stage("denoise").median < 10
    assert vdb.latency.stage("decode").median < 10

def test_memory(vdb):
    assert vdb.memory.peak < 11 * GiB
