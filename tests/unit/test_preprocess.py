"""Frames for networks against Pillow, which torchvision's transforms of pictures use."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pytest_vdb.errors import Unmeasured
from pytest_vdb.metrics import preprocess

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
SIZES = [(97, 131), (131, 97), (64, 64), (37, 200), (224, 225), (500, 301)]


def picture(height, width, seed=0):
    """Noise: the hardest input of a resize. uint8 (H, W, 3)."""
    rng = np.random.Generator(np.random.PCG64(seed))
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]


@pytest.mark.parametrize("mode", FILTERS)
@pytest.mark.parametrize("size", SIZES)
def test_resize_of_8_bits_is_pillows(size, mode):
    """Equal but for ties that Pillow's fixed-point weights round the other way."""
    frame = picture(*size)
    target = 83, 59
    ours = preprocess.resize(tensor(frame), *target, mode)
    theirs = tensor(Image.fromarray(frame).resize(target[::-1], FILTERS[mode])).float()
    assert ours.dtype is torch.float32
    assert (ours - theirs).abs().max() <= 1
    assert (ours != theirs).float().mean() < 0.02


def test_a_frame_of_the_right_size_is_untouched():
    frame = tensor(picture(32, 40))
    assert torch.equal(preprocess.resize(frame, 32, 40, "bicubic"), frame.float())


def test_overshoot_is_clipped_where_pillow_clips_it():
    edge = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    edge[..., 8:] = 255
    clipped = preprocess.resize(edge, 40, 40, "bicubic")
    assert (clipped.min(), clipped.max()) == (0, 255)
    floats = preprocess.resize(edge.float(), 40, 40, "bicubic")
    plain = preprocess.resize(edge, 40, 40, "bicubic", antialias=False)
    for kept in (floats, plain):
        assert kept.min() < -5
        assert kept.max() > 260


def test_without_antialiasing_only_the_nearest_pixels_count():
    """Half-pixel centres, linear between the two nearest: by hand, in one row."""
    row = np.random.Generator(np.random.PCG64(1)).uniform(0, 255, 50)
    centres = (np.arange(7) + 0.5) * 50 / 7 - 0.5
    expected = np.interp(centres, np.arange(50), row)
    frame = torch.from_numpy(row).float().expand(1, 3, 50, 50)
    ours = preprocess.resize(frame, 50, 7, antialias=False)[0, 0, 0]
    assert ours.numpy() == pytest.approx(expected, abs=1e-3)
    assert (preprocess.resize(frame, 50, 7)[0, 0, 0] - ours).abs().max() > 5


@pytest.mark.parametrize("size", SIZES)
def test_the_shorter_side_and_the_middle_are_torchvisions(size):
    """Resize(48): the longer side is truncated; CenterCrop: corners are rounded half to even."""
    height, width = size
    frame = tensor(picture(*size))
    longer = int(48 * max(size) / min(size))
    expected = (48, longer) if height <= width else (longer, 48)
    small = preprocess.resize_shorter(frame, 48)
    assert tuple(small.shape[-2:]) == expected
    middle = preprocess.center_crop(small, 48)
    corner = round((longer - 48) / 2)
    cut = slice(corner, corner + 48)
    assert torch.equal(middle, small[..., cut] if height <= width else small[..., cut, :])


@pytest.mark.parametrize("size", [(1, 500), (500, 1), (3, 49)])
def test_a_strip_is_unmeasured_instead_of_filling_the_memory(size):
    frame = torch.zeros(1, 3, *size, dtype=torch.uint8)
    with pytest.raises(Unmeasured, match=rf"frames of {size[1]}×{size[0]} px"):
        preprocess.resize_shorter(frame, 224)


def test_a_frame_smaller_than_its_middle_is_unmeasured():
    with pytest.raises(Unmeasured, match="frames of 30×20 px"):
        preprocess.center_crop(torch.zeros(1, 3, 20, 30), 21)


def test_normalize_is_a_channel_each():
    frame = torch.tensor([0, 127, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    ours = preprocess.normalize(frame, (0.1, 0.2, 0.3), (1.0, 2.0, 4.0)).flatten()
    assert ours.tolist() == pytest.approx([-0.1, (127 / 255 - 0.2) / 2, 0.175], abs=1e-6)
