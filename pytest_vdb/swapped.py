"""Beside a distance of two sets: could their videos be exchanged, prompt by prompt?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_vdb.metrics.engine import Extractor
    from pytest_vdb.metrics.registry import MetricSpec
    from pytest_vdb.metrics.video import Video


def told(
    spec: MetricSpec, ours: Sequence[Video], theirs: Sequence[Video], extractor: Extractor
) -> str:
    """What `gate.rules.swap_test` says of the videos' mean features, in a phrase.

    ``ours[i]`` and ``theirs[i]`` are of one prompt and seed. Empty below 32 pairs, which say
    nothing. It informs and never convicts: it tells a change, not whether it is for the worse.
    """
    import numpy as np

    from pytest_vdb.gate.rules import swap_test
    from pytest_vdb.gate.rules.sets import VIDEOS_TO_REPORT

    if len(ours) < VIDEOS_TO_REPORT or len(spec.features) != 1:
        return ""
    (feature,) = spec.features
    new, base = (
        np.stack([extractor.rows([feature], video)[feature.name].mean(axis=0) for video in side])
        for side in (ours, theirs)
    )
    p = swap_test(new, base)
    said = "another set of videos" if p < 0.05 else "no other set than chance would make"
    return f"{said} (p {p:.2g}: MMD, swapped within pairs)"
