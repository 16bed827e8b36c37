import pytest

from pytest_vdb import GiB

pytestmark = pytest.mark.vdb(prompts=["a red fox trots through snow"], num_seeds=2)


def test_speed(vdb):
    assert vdb.latency.median < 30
    assert vdb.latency.stage("denoise").median < 20


def test_memory(vdb):
    assert vdb.memory.peak < 4 * GiB  # the larger rank's
    assert vdb.memory.rank(1).max < 4 * GiB


def test_quality(vdb):
    assert vdb.score("temporal_flickering").mean > 0.8
