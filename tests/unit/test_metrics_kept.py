"""Rows of features that are kept, in memory and on disk: what is, how long, and what is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pytest_vdb.errors import Unmeasured
from pytest_vdb.metrics.engine import Extractor
from pytest_vdb.metrics.features import Feature
from pytest_vdb.metrics.kept import Kept
from pytest_vdb.metrics.video import Video

CLIP = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (11, 6, 5, 3), np.uint8)


def numbers(frames: np.ndarray) -> np.ndarray:
    return frames[:, 0, 0, :1]


def test_rows_on_disk_serve_the_next_process_and_survive_damage(tmp_path: Path) -> None:
    calls: list[int] = []

    def counted(frames: np.ndarray) -> np.ndarray:
        calls.append(len(frames))
        return numbers(frames)

    feature = Feature("single", counted)
    for _ in range(2):
        rows = Extractor(cache=tmp_path).rows([feature], Video(CLIP))["single"]
    assert sum(calls) == 11
    (stored,) = tmp_path.glob("*.npy")
    stored.write_bytes(stored.read_bytes()[:40])
    again = Extractor(cache=tmp_path).rows([feature], Video(CLIP))["single"]
    assert sum(calls) == 22
    assert np.array_equal(again, rows)
    newer = Feature("single", counted, version="2")
    Extractor(cache=tmp_path).rows([newer], Video(CLIP))
    assert sum(calls) == 33
    assert not list(tmp_path.glob("*.draft"))


def test_one_feature_that_fails_loses_no_other() -> None:
    def broken(frames: np.ndarray) -> np.ndarray:
        raise ZeroDivisionError("in a third party's code")

    calls: list[int] = []

    def counted(frames: np.ndarray) -> np.ndarray:
        calls.append(len(frames))
        return numbers(frames)

    fine = Feature("fine", counted)
    extractor = Extractor()
    with pytest.raises(ZeroDivisionError):
        extractor.rows([Feature("broken", broken), fine], Video(CLIP))
    extractor.rows([fine], Video(CLIP))
    assert sum(calls) == 11


def test_a_failure_is_remembered_and_bad_luck_is_not() -> None:
    calls: list[str] = []

    def unlucky(frames: np.ndarray) -> np.ndarray:
        calls.append("unlucky")
        if calls.count("unlucky") == 1:
            raise torch.OutOfMemoryError("another process has it")
        return numbers(frames)

    def short(frames: np.ndarray) -> np.ndarray:
        calls.append("short")
        raise Unmeasured("short: not of such a video")

    extractor, video = Extractor(batch=11), Video(CLIP)
    for _ in range(3):
        with pytest.raises(Unmeasured, match="not of such a video") as raised:
            extractor.rows([Feature("short", short)], video)
    assert calls == ["short"]
    assert len(raised.traceback) < 6, "it does not grow with each time"
    with pytest.raises(torch.OutOfMemoryError):
        extractor.rows([Feature("unlucky", unlucky)], video)
    assert len(extractor.rows([Feature("unlucky", unlucky)], video)["unlucky"]) == 11


def test_rows_in_memory_are_bounded_and_those_used_last_stay() -> None:
    calls: list[str] = []

    def wide(frames: np.ndarray) -> np.ndarray:
        calls.append("pass")
        return np.zeros((len(frames), 1000))

    feature = Feature("wide", wide)
    videos = [Video(np.roll(CLIP, i, axis=0)) for i in range(3)]
    extractor = Extractor(batch=11, memory=2 * 11 * 8000)
    for index in (0, 1, 0, 2, 0):  # 1 is the one that was not used for longest
        extractor.rows([feature], videos[index])
    assert len(calls) == 3
    assert extractor._kept.nbytes == 2 * 11 * 8000
    extractor.rows([feature], videos[1])
    assert len(calls) == 4
    extractor.forget()
    assert extractor._kept.nbytes == 0


def test_what_is_larger_than_the_memory_is_given_and_not_kept() -> None:
    kept = Kept(memory=100)
    kept.keep("a", np.zeros((5, 5)))
    assert kept.find("a") is None
    assert kept.nbytes == 0
