"""`pytest_vdb.metrics.evaluate`: many videos and metrics, and reasons where there is no number."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pytest_vdb import Feature, Kind, MetricSpec, metrics
from pytest_vdb.errors import BadSetting, UnknownMetric, Unmeasured
from pytest_vdb.metrics import stateful
from pytest_vdb.metrics.registry import Metrics
from pytest_vdb.metrics.registry import evaluate as evaluate_one
from pytest_vdb.models import clips
from pytest_vdb.models.clips import write_webp

VIDEOS = np.random.Generator(np.random.PCG64(1)).integers(0, 256, (3, 5, 16, 16, 3), np.uint8)
NAMES = ["sharpness", "temporal_flickering", "motion_energy", "ssim", "psnr_worst_frame", "mad"]


def gap(ours: np.ndarray, theirs: np.ndarray) -> float:
    return abs(float(ours.mean() - theirs.mean()))


BRIGHTNESS = Feature("brightness", lambda frames: frames.reshape(len(frames), -1).mean(1)[:, None])
GAP = MetricSpec(
    name="gap",
    unit="grey levels",
    direction="lower",
    kind=Kind.DISTANCE,
    needs="set",
    version="1",
    range=(0.0, 255.0),
    summary="of means",
    how="difference of means",
    compute=gap,
    features=(BRIGHTNESS,),
    minimum=3,
)


def test_the_numbers_are_those_of_each_metric_alone() -> None:
    scores = metrics.evaluate(VIDEOS, NAMES, references=VIDEOS[::-1])
    for name in NAMES:
        spec = Metrics().find(name)
        alone = [
            evaluate_one(spec, v, reference=r) for v, r in zip(VIDEOS, VIDEOS[::-1], strict=True)
        ]
        assert scores.values(name) == tuple(alone)
        assert scores.provenance[name] == spec.provenance()


def test_neither_the_order_of_videos_nor_the_batch_changes_a_bit() -> None:
    whole = metrics.evaluate(VIDEOS, NAMES, references=VIDEOS[::-1])
    backwards = metrics.evaluate(VIDEOS[::-1], NAMES[::-1], references=VIDEOS, batch=1)
    for name in NAMES:
        assert whole.values(name) == backwards.values(name)[::-1]
        assert whole.mean(name) == backwards.mean(name)


def test_files_are_read_as_they_are(tmp_path: Path) -> None:
    for index, video in enumerate(VIDEOS):
        write_webp(tmp_path / f"{index}.webp", video, fps=8, lossless=True)
    paths = sorted(tmp_path.iterdir())
    of_files = metrics.evaluate(paths, ["sharpness", "motion_energy"])
    of_arrays = metrics.evaluate(VIDEOS, ["sharpness", "motion_energy"])
    assert of_files.scores == of_arrays.scores
    assert of_files.videos == tuple(map(str, paths))


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The file of every decoding that begins; each is the real one."""
    begun: list[str] = []
    original = clips.Stream.frames.fget

    def counted(stream: clips.Stream) -> Iterator[np.ndarray]:
        begun.append(stream.path.name)
        return original(stream)

    monkeypatch.setattr(clips.Stream, "frames", property(counted))
    return begun


def test_every_metric_together_decodes_each_file_once(tmp_path: Path, decodes: list[str]) -> None:
    """Of one frame, of pairs, of sampled and of all frames in order, of whole videos, of a set."""
    sampled = Feature("sampled", lambda frames: frames[:, 0, 0].astype(float), samples=3)
    own = [
        replace(GAP, name="spread", kind=Kind.SCORE, needs="own_set", compute=np.std, minimum=2),
        replace(
            GAP,
            name="few",
            kind=Kind.SCORE,
            needs="frames",
            compute=np.mean,
            features=(sampled,),
        ),
        replace(GAP, name="whole", needs="reference", compute=gap, features=()),
    ]
    names = [*NAMES, "p99_difference", "av_sync", "shapes_color", "shapes_shape"]
    names += ["few", "whole", "spread", "vmaf", "cuts"]
    folders = [tmp_path / "new", tmp_path / "old"]
    for folder, videos in zip(folders, (VIDEOS[:2], VIDEOS[1:]), strict=True):
        folder.mkdir()
        for index, video in enumerate(videos.repeat(2, 2).repeat(2, 3)):
            write_webp(folder / f"{folder.name}{index}.webp", video, fps=8, lossless=True)
    ours, theirs = (sorted(folder.iterdir()) for folder in folders)
    scores = metrics.evaluate(ours, names, references=theirs, prompts=["a"] * 2, extra=own)
    assert sorted(decodes) == [path.name for path in (*ours, *theirs)]
    unknown = {"av_sync", "shapes_color", "shapes_shape", "vmaf", "cuts"}  # mute, or not here
    for name in set(names) - unknown:
        assert None not in {score.value for score in scores.scores[name]}, scores.scores[name]


def test_references_of_sets_are_decoded_once(tmp_path: Path, decodes: list[str]) -> None:
    other = Feature("other", lambda frames: frames[:, 0, 0].astype(float))
    extra = [GAP, replace(GAP, name="second", features=(other,))]
    for index, video in enumerate(VIDEOS):
        write_webp(tmp_path / f"{index}.webp", video, fps=8, lossless=True)
    paths = sorted(tmp_path.iterdir())
    scores = metrics.evaluate(VIDEOS, ["gap", "second"], references=paths, extra=extra)
    assert None not in {found[0].value for found in scores.scores.values()}
    assert decodes == [path.name for path in paths]


def test_a_damaged_file_is_decoded_once(tmp_path: Path, decodes: list[str]) -> None:
    path = tmp_path / "clip.webp"
    write_webp(path, VIDEOS[0], fps=8, lossless=True)
    path.write_bytes(path.read_bytes()[:-30])
    scores = metrics.evaluate([path], ["sharpness", "motion_energy", "cuts"])
    assert all("truncated" in found[0].reason for found in scores.scores.values())
    assert decodes == ["clip.webp"]


def test_what_cannot_be_measured_has_a_reason_and_loses_nothing_else() -> None:
    videos = [VIDEOS[0], VIDEOS[1][:1], VIDEOS[2]]
    scores = metrics.evaluate(videos, ["motion_energy", "sharpness", "ssim", "clip_score"])
    found = scores.scores["motion_energy"]
    assert [score.value is None for score in found] == [False, True, False]
    assert "num_frames=2" in found[1].reason
    assert all(score.value for score in scores.scores["sharpness"])
    with pytest.raises(Unmeasured, match="num_frames=2"):
        scores.mean("motion_energy")
    assert "no reference" in scores.scores["ssim"][0].reason
    assert "prompt=None is no text" in scores.scores["clip_score"][0].reason


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    scores = metrics.evaluate([tmp_path / "bad.mp4", VIDEOS[0]], ["sharpness"])
    bad, good = scores.scores["sharpness"]
    assert "bad.mp4 cannot be decoded" in bad.reason
    assert good.value is not None


def test_a_third_party_s_metric_may_raise_anything() -> None:
    def broken(frames: np.ndarray) -> float:
        raise ZeroDivisionError("on purpose")

    spec = MetricSpec(
        name="mine",
        unit="score",
        direction="higher",
        kind=Kind.SCORE,
        needs="frames",
        version="1",
        range=(0.0, math.inf),
        summary="mine",
        how="mine",
        compute=broken,
    )
    scores = metrics.evaluate(VIDEOS[:1], ["mine"], extra=[spec])
    assert scores.scores["mine"][0].reason == "ZeroDivisionError: on purpose"


@pytest.mark.parametrize("name", ["nowhere.mp4", "."])
def test_a_file_that_is_none_is_named_and_loses_nothing(name: str) -> None:
    scores = metrics.evaluate([name, VIDEOS[0]], ["sharpness", "motion_energy"])
    for found in scores.scores.values():
        assert f"{name} cannot be read" in found[0].reason
        assert found[1].value is not None


def broken_rows(frames: np.ndarray) -> np.ndarray:
    raise ZeroDivisionError("on purpose")


def test_a_feature_that_fails_or_is_no_number_loses_no_other_score() -> None:
    odd = {
        "raises": (broken_rows, "ZeroDivisionError"),
        "nan": (lambda frames: np.full((len(frames), 1), np.nan), "not finite"),
        "short": (lambda frames: np.zeros((1, 1)), "5 windows gave rows of shape"),
    }
    extra = [
        MetricSpec(
            name=name,
            unit="score",
            direction="higher",
            kind=Kind.SCORE,
            needs="frames",
            version="1",
            range=(0.0, 1.0),
            summary=name,
            how=name,
            compute=np.mean,
            features=(Feature(name, rows),),
        )
        for name, (rows, _) in odd.items()
    ]
    scores = metrics.evaluate(VIDEOS, [*odd, "sharpness"], extra=extra)
    assert None not in {score.value for score in scores.scores["sharpness"]}
    for name, (_, reason) in odd.items():
        assert all(s.value is None and reason in s.reason for s in scores.scores[name])


def test_two_features_of_one_name_are_refused() -> None:
    mine = Feature("sharpness", lambda frames: frames[:, 0, 0, :1])
    spec = replace(GAP, name="mine", features=(mine,))
    with pytest.raises(BadSetting, match="two features are called 'sharpness'"):
        metrics.evaluate(VIDEOS, ["sharpness", "mine"], extra=[spec])


def test_mistakes_are_told() -> None:
    with pytest.raises(BadSetting, match="a list of videos"):
        metrics.evaluate(VIDEOS[0], ["sharpness"])
    with pytest.raises(BadSetting, match="a list of videos"):
        metrics.evaluate(VIDEOS, "sharpness")
    with pytest.raises(UnknownMetric, match="sharpness"):
        metrics.evaluate(VIDEOS, ["sharpnes"])
    with pytest.raises(BadSetting, match="3 videos and 2 prompts"):
        metrics.evaluate(VIDEOS, ["sharpness"], prompts=["a", "b"])
    with pytest.raises(BadSetting, match="3 videos and 1 references"):
        metrics.evaluate(VIDEOS, ["ssim"], references=VIDEOS[:1])


def test_progress_counts_videos() -> None:
    told: list[tuple[int, int]] = []
    metrics.evaluate(VIDEOS, ["sharpness"], progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_metric_of_a_set_has_one_score_and_no_order() -> None:
    dark = VIDEOS // 2
    scores = metrics.evaluate(VIDEOS, ["gap", "sharpness"], references=dark, extra=[GAP])
    (score,) = scores.scores["gap"]
    assert score.value == pytest.approx(VIDEOS.mean() - dark.mean(), abs=1e-9)
    assert len(scores.scores["sharpness"]) == 3
    metric = stateful.metric_class(GAP)()
    for ours, theirs in zip(VIDEOS[::-1], dark, strict=True):
        metric.update(ours, theirs)
    assert float(metric.compute()) == pytest.approx(score.value, abs=1e-9)


def test_a_set_that_is_too_small_says_nothing() -> None:
    scores = metrics.evaluate(VIDEOS[:2], ["gap"], references=VIDEOS, extra=[GAP])
    assert "gap: 2 videos, and fewer than 3" in scores.scores["gap"][0].reason
    metric = stateful.metric_class(GAP)()
    metric.update(VIDEOS, VIDEOS[:1])
    with pytest.raises(Unmeasured, match="gap: 1 reference videos, and fewer than 3"):
        metric.compute()
    with pytest.raises(Unmeasured, match="gap is of a set of videos"):
        evaluate_one(GAP, VIDEOS[0], reference=VIDEOS[1])


def test_a_set_of_its_own_needs_no_reference() -> None:
    spread = replace(
        GAP, name="spread", kind=Kind.SCORE, needs="own_set", compute=lambda rows: rows.std()
    )
    (score,) = metrics.evaluate(VIDEOS, ["spread"], extra=[spread]).scores["spread"]
    means = VIDEOS.reshape(15, -1).mean(1)
    assert score.value == pytest.approx(means.std(), abs=1e-9)
    metric = stateful.metric_class(spread)()
    metric.update(VIDEOS)
    assert float(metric.compute()) == pytest.approx(score.value, abs=1e-9)
