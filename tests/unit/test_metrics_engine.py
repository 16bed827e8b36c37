"""One pass over the frames: windows, sampling, sharing, streams, and what goes wrong."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pytest_vdb.errors import BadSetting, MissingWeights, Unmeasured, UnreadableClip
from pytest_vdb.metrics.engine import Extractor
from pytest_vdb.metrics.features import Feature, Stream, stream_rows
from pytest_vdb.metrics.onepass import middles
from pytest_vdb.metrics.video import Video
from pytest_vdb.metrics.weights import Network, read_state
from pytest_vdb.models import clips

CLIP = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (11, 6, 5, 3), np.uint8)
CLIP[:, 0, 0, 0] = np.arange(11)  # each frame says which one it is
LOADS: list[Path] = []  # of the network `linear`, in one test


def numbers(frames: np.ndarray) -> np.ndarray:
    return frames[:, 0, 0, :1]


def pairs(frames: np.ndarray) -> np.ndarray:
    """(M, 2): which frames each window of two begins and ends with."""
    return np.stack([frames[:-1, 0, 0, 0], frames[1:, 0, 0, 0]], axis=1)


def triples(frames: np.ndarray) -> np.ndarray:
    """(M, 3) of windows of three that share an end."""
    which = frames[:, 0, 0, 0]
    return np.stack([which[i : i + 3] for i in range(0, len(which) - 2, 2)])


@pytest.fixture
def linear(tmp_path: Path) -> Network:
    """A real network of one layer, its weights in ``tmp_path/one/one.pth``."""
    (tmp_path / "one").mkdir()
    torch.manual_seed(0)
    torch.save(torch.nn.Linear(90, 4).state_dict(), tmp_path / "one" / "one.pth")

    def load(path: Path) -> torch.nn.Module:
        LOADS.append(path)
        layer = torch.nn.Linear(90, 4)
        layer.load_state_dict(read_state(path))
        return layer

    LOADS.clear()
    return Network("one", ("one.pth",), load, "https://example.org/one.pth", "MIT")


def embedding(network: torch.nn.Module, frames: torch.Tensor) -> torch.Tensor:
    assert frames.dtype == torch.uint8
    assert frames.shape[1:] == (3, 6, 5)
    return network(frames.flatten(1).float() / 255)


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 20])
def test_windows_are_whole_whatever_the_batch(batch: int) -> None:
    features = [
        Feature("single", numbers),
        Feature("pair", pairs, window=2),
        Feature("triple", triples, window=3, stride=2),
    ]
    rows = Extractor(batch=batch).rows(features, Video(CLIP))
    assert rows["single"][:, 0].tolist() == list(range(11))
    assert rows["pair"].tolist() == [[i, i + 1] for i in range(10)]
    assert rows["triple"].tolist() == [[i, i + 1, i + 2] for i in range(0, 9, 2)]


def test_frames_are_taken_by_rate_and_from_the_middle_of_parts() -> None:
    features = [
        Feature("slow", numbers, fps=8),
        Feature("few", numbers, samples=4),
        Feature("more", numbers, samples=40),
    ]
    rows = Extractor().rows(features, Video(CLIP, fps=25))
    assert rows["slow"][:, 0].tolist() == [0, 3, 6, 9]
    assert rows["few"][:, 0].tolist() == middles(11, 4) == [0, 3, 6, 9]
    assert rows["more"][:, 0].tolist() == list(range(11))
    with pytest.raises(Unmeasured, match=r"slow is of 8 frames a second.*give fps"):
        Extractor().rows(features, Video(CLIP))


def test_the_earlier_of_two_middles() -> None:
    assert middles(16, 8) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert middles(3, 8) == [0, 1, 2]


def test_a_network_sees_each_frame_once_and_its_rows_are_kept(
    linear: Network, tmp_path: Path
) -> None:
    seen: list[int] = []

    def counted(network: torch.nn.Module, frames: torch.Tensor) -> torch.Tensor:
        seen.append(len(frames))
        return embedding(network, frames)

    extractor = Extractor(weights=tmp_path, batch=4)
    feature = Feature("embedding", counted, network=linear)
    first = extractor.rows([feature], Video(CLIP))["embedding"]
    assert seen == [4, 4, 3]
    again = extractor.rows([feature], Video(CLIP.copy()))["embedding"]  # equal frames
    assert sum(seen) == 11
    assert again is first
    with pytest.raises(ValueError, match="read-only"):
        again += 1
    extractor.rows([feature], Video(CLIP[::-1]))
    assert sum(seen) == 22
    assert len(LOADS) == 1


def test_neither_batch_nor_order_changes_a_network_s_rows(linear: Network, tmp_path: Path) -> None:
    feature = Feature("embedding", embedding, network=linear)
    other = Video(CLIP[::-1].copy())
    expected = Extractor(weights=tmp_path).rows([feature], Video(CLIP))["embedding"]
    extractor = Extractor(weights=tmp_path, batch=3)
    extractor.rows([feature], other)
    rows = extractor.rows([feature], Video(CLIP))["embedding"]
    assert rows == pytest.approx(expected, abs=1e-6)


def test_a_reference_of_another_shape_loses_no_other_feature() -> None:
    calls: list[int] = []

    def counted(frames: np.ndarray) -> np.ndarray:
        calls.append(len(frames))
        return numbers(frames)

    fine, against = Feature("fine", counted), Feature("against", pairwise, of="reference")
    for reference in (CLIP[:4], np.concatenate([CLIP, CLIP]), CLIP[:, :4]):
        extractor = Extractor()
        with pytest.raises(Unmeasured, match="must be equal"):
            extractor.rows([against, fine], Video(CLIP), Video(reference))
        done = len(calls)
        assert extractor.rows([fine], Video(CLIP))["fine"][:, 0].tolist() == list(range(11))
        assert len(calls) == done
        with pytest.raises(Unmeasured, match="against: the video has shape"):
            extractor.rows([against], Video(CLIP), Video(reference))


def pairwise(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    return numbers(ours) - numbers(theirs)


def folded(*, fail: bool = False) -> Stream:
    """Three numbers of the whole video, whatever its length."""
    total = 0
    try:
        while (given := (yield)) is not None:
            total += int(given[0][0, 0, 0])
            if fail:
                raise Unmeasured("folded: not these frames")
        return np.full((1, 3), total)
    finally:
        CLOSED.append("folded")


CLOSED: list[str] = []


def test_a_stream_gets_every_frame_in_order_and_gives_any_rows() -> None:
    def differences() -> Stream:
        rows = []
        while (given := (yield)) is not None:
            rows.append([float(given[0][0, 0, 0]) - float(given[1][0, 0, 0])])
        return rows

    features = [
        Feature("folded", folded, of="stream"),
        Feature("some", folded, of="stream", samples=4),
        Feature("differences", differences, of="stream_reference"),
        Feature("single", numbers),
    ]
    rows = Extractor().rows(features, Video(CLIP), Video(np.roll(CLIP, 1, axis=0)))
    assert rows["folded"].tolist() == [[55] * 3]
    assert rows["some"].tolist() == [[18] * 3]
    assert rows["differences"][:, 0].tolist() == [-10] + [1] * 10
    assert stream_rows(folded(), ((frame,) for frame in CLIP)).tolist() == [[55] * 3]


def test_a_stream_runs_its_network_as_windows_do(linear: Network, tmp_path: Path) -> None:
    def streamed(network: torch.nn.Module) -> Stream:
        seen = []
        while (given := (yield)) is not None:
            assert torch.is_inference_mode_enabled()
            seen.append(embedding(network, given[0][None]))
        return torch.cat(seen)

    features = [
        Feature("windows", embedding, network=linear),
        Feature("stream", streamed, of="stream", network=linear),
    ]
    rows = Extractor(weights=tmp_path).rows(features, Video(CLIP))
    assert rows["stream"] == pytest.approx(rows["windows"], abs=1e-6)
    assert len(LOADS) == 1


def test_a_stream_that_fails_or_is_cut_short_is_closed_and_loses_no_other(tmp_path: Path) -> None:
    def early() -> Stream:
        yield
        return np.zeros((1, 1))

    def endless() -> Stream:
        while True:
            yield

    fine = Feature("fine", numbers)
    for name, rows, reason in (
        ("bad", lambda: folded(fail=True), "not these frames"),
        ("early", early, "returned before the last frame"),
        ("endless", endless, "after the last frame it gave no rows"),
    ):
        extractor = Extractor()
        with pytest.raises(Unmeasured, match=reason):
            extractor.rows([Feature(name, rows, of="stream"), fine], Video(CLIP))
        assert len(extractor._kept.find(extractor._key(fine, Video(CLIP), None, None))) == 11
    CLOSED.clear()
    path = tmp_path / "clip.webp"
    clips.write_webp(path, CLIP, 8, lossless=True)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UnreadableClip):
        Extractor().rows([Feature("folded", folded, of="stream")], Video(path))

    def damaged(self: Video) -> Iterator[np.ndarray]:
        yield CLIP[0]
        raise UnreadableClip("the rest is lost")

    video = Video(CLIP)
    video.frames = damaged.__get__(video)  # type: ignore[method-assign]
    with pytest.raises(UnreadableClip, match="the rest is lost"):
        Extractor().rows([Feature("folded", folded, of="stream")], video)
    assert CLOSED == ["folded"]


def test_headers_that_lie_about_the_length_cost_a_second_pass_and_no_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "clip.webp"
    clips.write_webp(path, CLIP, 8, lossless=True)
    few = Feature("few", numbers, samples=4)
    passes: list[int] = []
    original = Video.frames

    def counted(self: Video) -> Iterator[np.ndarray]:
        passes.append(1)
        return original(self)

    monkeypatch.setattr(Video, "frames", counted)
    expected = Extractor().rows([few, Feature("all", numbers)], Video(path))
    assert expected["few"][:, 0].tolist() == [0, 3, 6, 9]
    assert len(passes) == 1
    monkeypatch.setattr(clips.Stream, "count", property(lambda _: 7))
    again = Extractor().rows([few, Feature("all", numbers)], Video(path))
    assert len(passes) == 3
    assert {n: r.tolist() for n, r in again.items()} == {n: r.tolist() for n, r in expected.items()}


def test_a_network_leaves_an_accelerator_when_it_is_told_to(
    linear: Network, tmp_path: Path
) -> None:
    """``cpu:0`` stands for an accelerator: a device that is not called cpu."""
    feature = Feature("embedding", embedding, network=linear)
    rows = {}
    for device in ("cpu", "cpu:0"):
        extractor = Extractor(weights=tmp_path, device=device)
        rows[device] = extractor.rows([feature], Video(CLIP))["embedding"]
        module = weakref.ref(extractor.module(linear))
        extractor.release()
        gc.collect()
        assert (module() is None) == (device != "cpu")
        again = extractor.rows([feature], Video(CLIP[::-1]))["embedding"]  # loaded again
        assert again == pytest.approx(rows[device][::-1], abs=1e-6)
    assert rows["cpu"] == pytest.approx(rows["cpu:0"], abs=1e-6)


def test_weights_that_are_not_there_say_what_to_fetch(linear: Network, tmp_path: Path) -> None:
    feature = Feature("embedding", embedding, network=linear)
    with pytest.raises(MissingWeights, match=r"put one.pth \(https://example.org/one.pth\) into"):
        Extractor(weights=tmp_path / "elsewhere").rows([feature], Video(CLIP))


def test_a_video_too_short_and_one_without_a_partner() -> None:
    with pytest.raises(Unmeasured, match=r"pair is of 2 frames.*one frame.*num_frames=2"):
        Extractor().rows([Feature("pair", pairs, window=2)], Video(CLIP[:1]))
    against = Feature("against", lambda a, b: numbers(a) - numbers(b), of="reference")
    with pytest.raises(Unmeasured, match="no reference"):
        Extractor().rows([against], Video(CLIP))
    with pytest.raises(Unmeasured, match=r"\(11, 6, 5, 3\) and its reference \(4, 6, 5, 3\)"):
        Extractor().rows([against], Video(CLIP), Video(CLIP[:4]))
    with pytest.raises(Unmeasured, match="must be equal"):
        Extractor().rows([against], Video(CLIP), Video(CLIP[:, :4]))
    assert not Extractor().rows([against], Video(CLIP), Video(CLIP))["against"].any()


def test_rows_of_a_wrong_shape() -> None:
    with pytest.raises(Unmeasured, match=r"rows of shape \(11, 6, 5\)"):
        Extractor(batch=11).rows([Feature("flat", lambda f: f[..., 0])], Video(CLIP))


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"of": "frame"}, "did you mean 'frames'|frames"),
        ({"window": 2, "stride": 3}, "window=2, stride=3"),
        ({"samples": 8, "fps": 8.0}, "give one of them"),
        ({"of": "stream", "window": 2}, "has no windows"),
    ],
)
def test_fields_that_cannot_mean_anything(field: dict, message: str) -> None:
    with pytest.raises(BadSetting, match=message):
        Feature("mine", numbers, **field)


@pytest.mark.parametrize("field", [{"dtype": "fp8"}, {"batch": 0}])
def test_settings_that_cannot_mean_anything(field: dict) -> None:
    with pytest.raises(BadSetting, match="of metrics; write"):
        Extractor(**field)
