import pytest

pytestmark = pytest.mark.vdb(prompts="smoke", num_frames=9, num_inference_steps=4)


def test_speed(vdb):
    assert vdb.latency.median < 60


def test_quality(vdb):
    assert vdb.score("temporal_flickering").mean > 0.5
    assert vdb.score("sharpness").mean > 0
