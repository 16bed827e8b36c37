"""Change points of a measurement over sessions: report-only, by ruptures (docs/history.md)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise

from pytest_vdb.errors import BadSetting
from pytest_vdb.records import Json

LEAST = 8
"""Sessions below which nothing is looked for: their noise is not known."""
SEGMENT = 3
"""Sessions on each side of a change at least: one that stands alone is an outlier."""
FLOOR = 0.002
"""Noise as a share of the level that is assumed at least: equal values have none at all."""
INSTALL = "change points need ruptures: pip install 'pytest-vdb[history]'"


@dataclass(frozen=True)
class Change:
    """From session ``index`` (from 0) on, the level is ``after``, where it was ``before``.

    A level is the median between two changes.
    """

    index: int
    before: float
    after: float

    def to_json(self) -> dict[str, Json]:
        return {"index": self.index, "before": self.before, "after": self.after}


def installed() -> bool:
    """Whether change points can be looked for."""
    return find_spec("ruptures") is not None


def find(values: Sequence[float]) -> list[Change]:
    """Where the level of ``values`` changes, oldest first; empty for fewer than `LEAST`.

    PELT with a squared error (Killick, Fearnhead and Eckley, J. Am. Stat. Assoc. 107, 2012), in the
    exact form of ruptures' ``KernelCPD``. The penalty of a change is 4 (1 + 8 / n) σ² ln n: a BIC's
    is 2 σ² ln n for a change of the mean, and more is needed where σ itself is estimated of few
    (tools/history_study.py). σ is that of the differences between neighbours, from their median,
    so that a change does not count as noise; single outliers are left out first. Raises BadSetting
    where ruptures is not installed.
    """
    n = len(values)
    if n < LEAST:
        return []
    if not installed():
        raise BadSetting(INSTALL)
    import numpy as np
    import ruptures

    noise = spread(values)
    if noise <= 0:  # of zeros alone
        return []
    signal = np.asarray(_without_outliers(values, noise)) / noise
    search = ruptures.KernelCPD(kernel="linear", min_size=SEGMENT).fit(signal.reshape(-1, 1))
    ends = [0, *map(int, search.predict(pen=4 * (1 + 8 / n) * math.log(n)))]
    levels = [statistics.median(values[start:end]) for start, end in pairwise(ends)]
    return [
        Change(start, before, after)
        for start, (before, after) in zip(ends[1:-1], pairwise(levels), strict=True)
    ]


def marked(sessions: Sequence[Mapping[str, Json]]) -> list[dict[str, Json]]:
    """``sessions`` with ``changed`` where their ``value`` has another level from there on.

    Without ruptures no level is known to change.
    """
    found = find([one["value"] for one in sessions]) if installed() else []
    at = {change.index for change in found}
    return [{**one, "changed": index in at} for index, one in enumerate(sessions)]


def _without_outliers(values: Sequence[float], noise: float) -> list[float]:
    """Values relative to the median of all; one beyond 3 σ of its two neighbours on each side
    becomes their median (a Hampel filter), which leaves a step of three where it is."""
    middle = statistics.median(values)
    near = [statistics.median(values[max(0, i - 2) : i + 3]) for i in range(len(values))]
    return [
        (level if abs(value - level) > 3 * noise else value) - middle
        for value, level in zip(values, near, strict=True)
    ]


def spread(values: Sequence[float]) -> float:
    """The noise σ of a series, whatever steps it makes: at least `FLOOR` of its level."""
    steps = [abs(after - before) for before, after in pairwise(values)]
    robust = statistics.median(steps) / (0.6745 * math.sqrt(2))
    return max(robust, FLOOR * abs(statistics.median(values)))
