"""Quantising and hashing: what becomes of the values that a model gives."""

import hashlib

import numpy as np
import pytest

from pytest_vdb.errors import SourceError
from pytest_vdb.measure.samples import frames_sha256, quantised


def test_quantisation_rounds_and_clips():
    values = np.array([0, 0.499 / 255, 0.501 / 255, 0.5, 1, -3, 7, 254.6 / 255], np.float32)
    frames = np.broadcast_to(values[:, None, None, None], (8, 2, 2, 3))
    pixels, broken = quantised(frames)
    assert pixels[:, 0, 0, 0].tolist() == [0, 0, 1, 128, 255, 0, 255, 255]
    assert broken == 0


def test_what_is_not_finite_is_counted_before_it_is_lost():
    frames = np.full((2, 4, 4, 3), 0.5, np.float32)
    frames[0, 0, 0] = np.nan
    frames[1, 0, 0, 0], frames[1, 0, 0, 1] = np.inf, -np.inf
    pixels, broken = quantised(frames)
    assert broken == 5
    assert pixels[0, 0, 0].tolist() == [0, 0, 0]
    assert pixels[1, 0, 0].tolist() == [255, 0, 128]


def test_bytes_are_taken_as_they_are():
    frames = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    assert np.array_equal(quantised(frames)[0], frames)


@pytest.mark.parametrize(
    "shape", [(4, 4, 3), (2, 4, 4), (2, 4, 4, 4), (1, 2, 4, 4, 3), (0, 4, 4, 3)]
)
def test_frames_of_another_shape_are_refused_with_the_shape(shape):
    with pytest.raises(SourceError) as caught:
        quantised(np.zeros(shape, np.float32))
    assert str(shape) in str(caught.value)


def test_frames_of_another_type_are_refused():
    with pytest.raises(SourceError, match="int64"):
        quantised(np.zeros((2, 4, 4, 3), np.int64))


def test_the_hash_of_frames_knows_their_shape():
    frames = np.zeros((2, 4, 8, 3), np.uint8)
    assert frames_sha256(frames) != frames_sha256(frames.reshape(2, 8, 4, 3))
    assert frames_sha256(frames) == hashlib.sha256(b"2,4,8,3;" + bytes(192)).hexdigest()
