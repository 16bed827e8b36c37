"""Is it still as good, as fast and as small?"""

import pytest

from pytest_vdb import GiB

pytestmark = pytest.mark.vdb(prompts="smoke")


def test_quality(vdb):
    assert vdb.score("temporal_flickering").mean > 0.8
    assert vdb.score("motion_energy").min > 0.001


def test_similarity(vdb):
    assert vdb.score("ssim").min > 0.9  # to the committed videos of the same seeds
    assert vdb.score("latent_cosine").max < 0.01


def test_cost(vdb):
    assert vdb.latency.cpu.median < 10
    assert vdb.latency.stage("denoise").median < 20
    assert vdb.memory.cpu_peak < 1 * GiB
