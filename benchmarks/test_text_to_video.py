"""Text to video: is it still as fast, as small and as good? Copy this file and set your limits.

pytest benchmarks/                              the embedded model, no download
pytest benchmarks/ --vdb-videos=DIR             videos that were made elsewhere

Every model gets its own default prompts, size and number of steps.
"""

import pytest

from pytest_vdb import GiB

pytestmark = pytest.mark.vdb(num_seeds=1)


def test_speed(vdb):
    assert vdb.latency.median < 30  # seconds a video, warm
    assert vdb.latency.cpu.median < 30  # on a CPU, this is what the baseline compares
    assert vdb.latency.stage("denoise").median < 25
    assert vdb.latency.stage("decode").median < 5


def test_memory(vdb):
    assert vdb.memory.peak < 20 * GiB  # of the device
    assert vdb.memory.cpu_peak < 2 * GiB


def test_quality(vdb):
    assert vdb.score("temporal_flickering").mean > 0.8
    assert vdb.score("motion_energy").min > 0.001  # a still video scores well on flicker
    assert vdb.score("sharpness").mean > 0


def test_similarity(vdb):
    # Another good model differs from the stored videos: a floor, far below what noise leaves.
    assert vdb.score("ssim").min > 0.5
    assert vdb.score("latent_cosine").max < 0.5
