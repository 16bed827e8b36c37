"""What an actor that computes for metrics refuses, and how a video and an error travel there."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pytest_vdb.errors import InfraError, MissingWeights, Unmeasured, WrongWeights
from pytest_vdb.metrics.engine import Extractor, stack
from pytest_vdb.metrics.features import Feature
from pytest_vdb.metrics.video import Audio, Video
from pytest_vdb.metrics.weights import Network, find
from pytest_vdb.scorers.on_node import How, Scorer


def load(path: Path) -> torch.nn.Module:
    return torch.nn.Identity()


def levels(module: Any, frames: Any) -> Any:
    return module(frames).float().mean(dim=(1, 2, 3))[:, None]


def broken(video: Video) -> Any:
    class Local(RuntimeError): ...

    raise Local(f"{video.name} is not liked")


NETWORK = Network("level", ("level.bin",), load, "https://example.org", "MIT")
LEVEL = Feature("level", levels, network=NETWORK)
BROKEN = Feature("broken", broken, of="video")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Weights as --vdb-metric-weights has them."""
    (tmp_path / "nets" / "level").mkdir(parents=True)
    (tmp_path / "nets" / "level" / "level.bin").write_bytes(b"weights")
    return tmp_path / "nets"


@pytest.fixture
def how(folder: Path) -> How:
    return How("cpu", "float32", 8, (str(folder),), torch.get_num_threads(), stack())


@pytest.fixture
def scorer() -> Scorer:
    return Scorer({}, [])


def video(name: str = "one") -> Video:
    return Video(np.arange(5 * 8 * 8 * 3, dtype=np.uint8).reshape(5, 8, 8, 3), fps=8, name=name)


def test_what_it_computes_and_fails_with_is_what_this_process_does(
    scorer: Scorer, how: How, folder: Path
) -> None:
    digests = {"level": find(NETWORK, folder).sha256}
    assert scorer.prepare(how, [LEVEL, BROKEN], digests) is None
    found = pickle.loads(
        pickle.dumps(scorer.rows([LEVEL, BROKEN], ["level", "broken"], video(), None, None))
    )
    here = Extractor(folder)
    assert np.array_equal(found["level"], here.rows([LEVEL], video())["level"])
    assert str(found["broken"]) == "Local: one is not liked"
    assert isinstance(found["broken"], Unmeasured)
    other = Extractor(folder)
    assert other.lacking([LEVEL, BROKEN], video()) == [LEVEL, BROKEN]
    other.keep([LEVEL, BROKEN], found, video())
    assert other.lacking([LEVEL, BROKEN], video()) == []
    assert other.rows([LEVEL], video())["level"] is found["level"]
    with pytest.raises(Unmeasured, match="one is not liked"):
        other.rows([BROKEN], video())


def test_a_node_without_the_folder_of_weights_says_so(scorer: Scorer, how: How) -> None:
    how = replace(how, folders=("/nowhere/nets", "nets-nowhere"))
    error = scorer.prepare(how, [LEVEL], {"level": ""})
    assert isinstance(error, MissingWeights)
    assert "has no folder /nowhere/nets or nets-nowhere; put it there on every node" in str(error)


def test_a_node_without_a_networks_file_says_so(scorer: Scorer, how: How, tmp_path: Path) -> None:
    error = scorer.prepare(replace(how, folders=(str(tmp_path),)), [LEVEL], {"level": ""})
    assert isinstance(error, MissingWeights)
    assert str(error).startswith("node ")
    assert "level: its weights are not here" in str(error)


def test_other_weights_or_libraries_than_here_are_refused(scorer: Scorer, how: How) -> None:
    error = scorer.prepare(how, [LEVEL], {"level": "0" * 64})
    assert isinstance(error, WrongWeights)
    assert "other weights of level" in str(error)
    error = scorer.prepare(replace(how, stack="torch 1.0"), [LEVEL], {"level": ""})
    assert isinstance(error, InfraError)
    assert "this process torch 1.0: install the same versions on every node" in str(error)


def test_a_video_travels_whole(tmp_path: Path) -> None:
    np.save(tmp_path / "frames.npy", video()._array)
    np.save(tmp_path / "sound.npy", np.zeros((1, 100), np.float32))
    sound = Audio(np.load(tmp_path / "sound.npy", mmap_mode="r"), 8000)
    frames = np.load(tmp_path / "frames.npy", mmap_mode="r")
    sent = pickle.dumps(Video(frames, fps=8, audio=sound, name="one").portable())
    for path in tmp_path.iterdir():
        path.unlink()
    there = pickle.loads(sent)
    assert np.array_equal(np.stack(list(there.frames())), video()._array)
    assert (there.fps, there.name, there.path, there.unevenness) == (8, "one", None, 0)
    assert (there.audio.samples.shape, there.audio.rate) == ((1, 100), 8000)
