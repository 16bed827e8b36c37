"""VBench's totals: its constants, its weights, and what it does not do: count a gap as 0."""

from __future__ import annotations

import math

import pytest

from pytest_vdb.errors import BadSetting, Unmeasured
from pytest_vdb.metrics import vbench
from pytest_vdb.metrics.scoring import Score, Scores

# scripts/constant.py of Vchitect/VBench: (Min, Max, weight)
PUBLISHED = {
    "subject_consistency": (0.1462, 1.0, 1),
    "background_consistency": (0.2615, 1.0, 1),
    "temporal_flickering": (0.6293, 1.0, 1),
    "motion_smoothness": (0.706, 0.9975, 1),
    "aesthetic_quality": (0.0, 1.0, 1),
    "imaging_quality": (0.0, 1.0, 1),
    "dynamic_degree": (0.0, 1.0, 0.5),
    "object_class": (0.0, 1.0, 1),
    "multiple_objects": (0.0, 1.0, 1),
    "human_action": (0.0, 1.0, 1),
    "color": (0.0, 1.0, 1),
    "spatial_relationship": (0.0, 1.0, 1),
    "scene": (0.0, 0.8222, 1),
    "appearance_style": (0.0009, 0.2855, 1),
    "temporal_style": (0.0, 0.364, 1),
    "overall_consistency": (0.0, 0.364, 1),
}
SCORES = {name: 0.75 + 0.01 * i for i, name in enumerate(PUBLISHED)}
SCORES |= {"appearance_style": 0.24, "temporal_style": 0.25, "overall_consistency": 0.27}


def by_hand(names):
    parts, weights = 0.0, 0.0
    for name in names:
        low, high, weight = PUBLISHED[name]
        parts += weight * (SCORES[name] - low) / (high - low)
        weights += weight
    return parts / weights


def test_the_totals_are_those_of_vbenchs_script():
    names = list(PUBLISHED)
    quality, semantic = by_hand(names[:7]), by_hand(names[7:])
    assert vbench.quality_total(SCORES) == pytest.approx(quality, abs=1e-12)
    assert vbench.semantic_total(SCORES) == pytest.approx(semantic, abs=1e-12)
    assert vbench.total(SCORES) == pytest.approx((4 * quality + semantic) / 5, abs=1e-12)


def test_the_limits_become_0_and_1():
    for name, (low, high, _) in PUBLISHED.items():
        assert vbench.normalized(name, low) == 0
        assert vbench.normalized(name, high) == 1
    assert vbench.normalized("motion_smoothness", 1.0) > 1  # VBench does not clip either
    assert vbench.normalized("temporal_flickering", 0.5) < 0
    assert vbench.normalized("overall_consistency", -0.01) == pytest.approx(-0.01 / 0.364)


def test_a_missing_dimension_makes_the_total_missing():
    lacking = {k: v for k, v in SCORES.items() if k not in ("dynamic_degree", "scene")}
    with pytest.raises(
        Unmeasured, match=r"VBench quality: missing 1 of 7 dimensions \(dynamic_degree\)"
    ):
        vbench.quality_total(lacking)
    with pytest.raises(
        Unmeasured, match=r"total: missing 2 of 16 dimensions \(dynamic_degree, scene\)"
    ):
        vbench.total(lacking)
    quality_alone = {k: v for k, v in SCORES.items() if k in vbench.QUALITY}
    assert vbench.quality_total(quality_alone) == vbench.quality_total(SCORES)


def test_scores_of_videos_have_a_quality_total():
    """Each dimension's mean over two videos; a video without a number makes its dimension miss."""
    around = {n: (Score(SCORES[n] - 0.02), Score(SCORES[n] + 0.02)) for n in vbench.QUALITY}
    scores = Scores(("a", "b"), around | {"sharpness": (Score(None, "lost"),) * 2}, {})
    assert scores.vbench_quality() == pytest.approx(vbench.quality_total(SCORES), abs=1e-12)
    lacking = around | {"motion_smoothness": (Score(0.9), Score(None, "one frame"))}
    with pytest.raises(Unmeasured, match=r"missing 1 of 7 dimensions \(motion_smoothness\)"):
        Scores(("a", "b"), lacking, {}).vbench_quality()


def test_another_network_does_not_stand_in_for_a_dimension():
    scores = dict(SCORES)
    scores["subject_consistency[efficientnet_lite0]"] = scores.pop("subject_consistency")
    with pytest.raises(
        Unmeasured, match=r"missing 1 of 7 dimensions \(subject_consistency\); .*brackets"
    ):
        vbench.quality_total(scores)


@pytest.mark.parametrize(
    ("name", "score", "error", "reason"),
    [
        ("imaging_quality", 67.2, BadSetting, "divided by 100"),
        ("color", -0.1, BadSetting, "between 0 and 1"),
        ("temporal_style", -1.1, BadSetting, "between -1 and 1"),
        ("color", math.nan, Unmeasured, "NaN"),
        ("colour", 0.5, BadSetting, "did you mean 'color'"),
    ],
)
def test_a_score_that_cannot_be_raw_is_refused(name, score, error, reason):
    with pytest.raises(error, match=reason):
        vbench.normalized(name, score)
