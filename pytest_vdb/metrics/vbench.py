"""VBench's totals (Huang et al., CVPR 2024): normalised dimensions, quality, semantic, total.

The numbers are those of VBench's ``scripts/constant.py``. Scores are raw: what each dimension
gives, as a mean over the videos of a model, 0 to 1. A dimension that is not there makes the total
*missing*; VBench's own script counts it as 0. Light: only arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from pytest_vdb.errors import BadSetting, Unmeasured, nearest

LIMITS: dict[str, tuple[float, float]] = {
    "subject_consistency": (0.1462, 1.0),
    "background_consistency": (0.2615, 1.0),
    "temporal_flickering": (0.6293, 1.0),
    "motion_smoothness": (0.706, 0.9975),
    "dynamic_degree": (0.0, 1.0),
    "aesthetic_quality": (0.0, 1.0),
    "imaging_quality": (0.0, 1.0),
    "object_class": (0.0, 1.0),
    "multiple_objects": (0.0, 1.0),
    "human_action": (0.0, 1.0),
    "color": (0.0, 1.0),
    "spatial_relationship": (0.0, 1.0),
    "scene": (0.0, 0.8222),
    "appearance_style": (0.0009, 0.2855),
    "temporal_style": (0.0, 0.364),
    "overall_consistency": (0.0, 0.364),
}
"""Each dimension's empirical (lowest, highest) raw score: what becomes 0 and 1."""

QUALITY = tuple(LIMITS)[:7]
SEMANTIC = tuple(LIMITS)[7:]
COSINES = ("appearance_style", "temporal_style", "overall_consistency")
"""Of text and video, which may point away from each other: a little below 0 for a wrong text."""
HALF = "dynamic_degree"  # weighs 0.5; every other dimension weighs 1
QUALITY_SHARE = 4 / 5


def normalized(dimension: str, score: float) -> float:
    """(score − lowest) / (highest − lowest); outside 0–1 where a raw score is outside its limits:
    VBench's ``scripts/cal_final_score.py`` does not clip either.

    Raises BadSetting for a dimension that VBench does not have and for a score that is not between
    0 and 1 (VBench's files hold imaging_quality of single videos times 100), or of a cosine between
    −1 and 1, and Unmeasured for NaN.
    """
    if dimension not in LIMITS:
        raise BadSetting(f"VBench has no dimension {dimension!r}: {nearest(dimension, LIMITS)}")
    if math.isnan(score):
        raise Unmeasured(f"VBench: {dimension} is NaN, which is no measurement")
    least = -1 if dimension in COSINES else 0
    if not least <= score <= 1:
        raise BadSetting(
            f"VBench: {dimension}={score:g} is not between {least} and 1; give the raw score as a "
            "fraction (a percentage divided by 100)"
        )
    low, high = LIMITS[dimension]
    return (score - low) / (high - low)


def quality_total(scores: Mapping[str, float]) -> float:
    """The weighted mean of the seven normalised quality dimensions; dynamic_degree weighs half.

    ``scores`` holds raw scores by the metrics' names; others in it are not looked at. Raises
    Unmeasured, which names them, where dimensions are missing, and as `normalized` does.
    """
    return _mean("quality", scores, QUALITY)


def semantic_total(scores: Mapping[str, float]) -> float:
    """The mean of the nine normalised semantic dimensions; raises as `quality_total` does."""
    return _mean("semantic", scores, SEMANTIC)


def total(scores: Mapping[str, float]) -> float:
    """(4 · quality + semantic) / 5, of all sixteen dimensions; raises as `quality_total` does."""
    _require("total", scores, LIMITS)
    return QUALITY_SHARE * quality_total(scores) + (1 - QUALITY_SHARE) * semantic_total(scores)


def _mean(what: str, scores: Mapping[str, float], dimensions: Iterable[str]) -> float:
    _require(what, scores, dimensions)
    weights = {name: 0.5 if name == HALF else 1.0 for name in dimensions}
    parts = (weight * normalized(name, scores[name]) for name, weight in weights.items())
    return math.fsum(parts) / sum(weights.values())


def _require(what: str, scores: Mapping[str, float], dimensions: Iterable[str]) -> None:
    wanted = list(dimensions)
    missing = [name for name in wanted if name not in scores]
    if missing:
        raise Unmeasured(
            f"VBench {what}: missing {len(missing)} of {len(wanted)} dimensions "
            f"({', '.join(missing)}); a metric over another network (a name with brackets) does "
            "not stand in for one"
        )
