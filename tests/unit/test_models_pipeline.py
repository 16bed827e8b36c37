"""The frames of whatever a pipeline gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pytest_vdb.errors import SourceError
from pytest_vdb.measure.samples import quantised
from pytest_vdb.models import pipeline as adapter

VIDEO = np.random.default_rng(0).integers(0, 256, (4, 6, 8, 3), np.uint8)
PILLOW = [Image.fromarray(frame) for frame in VIDEO]
TENSOR = torch.from_numpy(VIDEO).movedim(-1, 1)


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(VIDEO, id="array"),
        pytest.param(VIDEO[None], id="batch of arrays"),
        pytest.param([VIDEO], id="list of videos"),
        pytest.param(list(VIDEO), id="list of frames"),
        pytest.param(PILLOW, id="pictures"),
        pytest.param([PILLOW], id="batch of pictures"),
        pytest.param(TENSOR, id="tensor"),
        pytest.param(TENSOR[None], id="batch of tensors"),
        pytest.param(list(TENSOR), id="list of tensors"),
        pytest.param(torch.from_numpy(VIDEO), id="tensor, channels last"),
    ],
)
def test_frames_of_every_form(given: Any) -> None:
    assert np.array_equal(adapter.frames_of(given), VIDEO)


def test_a_result_without_frames_is_refused_by_its_shape() -> None:
    with pytest.raises(SourceError, match=r"frames of shape \(0,\)"):
        quantised(adapter.frames_of([]))
