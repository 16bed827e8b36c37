import pytest

pytestmark = pytest.mark.vdb(prompts="smoke")


def test_quality(vdb):
    assert vdb.score("temporal_flickering").mean > 0.8
    assert vdb.score("sharpness").mean > 0


def test_similarity(vdb):
    assert vdb.score("ssim").min > 0.9
