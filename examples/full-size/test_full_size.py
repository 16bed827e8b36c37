"""Latency, stages and memory of a model at its own default size. No quality: weights may be random.

pytest examples/full-size --vdb-model=cogvideox --vdb-weights=random --vdb-update
"""

import pytest

pytestmark = pytest.mark.vdb(prompts=["a red fox runs through snow"], num_seeds=3)


def test_latency(vdb):
    assert vdb.latency.median > 0
    assert vdb.latency.steps.median > 0
    assert vdb.latency.first.headline > 0
    assert vdb.load.headline > 0


@pytest.mark.parametrize("stage", ["text_encode", "denoise", "decode", "other"])
def test_stage(vdb, stage):
    assert vdb.latency.stage(stage).median >= 0


def test_memory(vdb):
    assert vdb.memory.peak > 0
    assert vdb.memory.cpu_peak > 0


def test_energy(vdb):
    assert vdb.energy.gross.median > 0  # what published tables show
    assert vdb.energy.joules.median > 0  # beyond what the device draws at rest
