"""What a machine's noise is made of: the nouns of a calibration. Plain data, light.

All numbers are of natural logarithms of seconds (or joules): 0.01 is 1 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from pytest_vdb.records import Json, Record

SESSIONS_TO_TELL = 3
"""Calibrations at different times before what they differ by takes the assumption's place."""


@dataclass(frozen=True)
class Noise(Record):
    """One measurement in one calibration: the same code in n pairs of processes.

    ``pairs`` (n) holds the pairs' values as `gate.rules.interleaved` takes them, 0 but for noise;
    ``levels`` (2n) the processes' summaries as `gate.rules.latency_screen` takes a session's;
    ``run_sd`` the sd of runs within a process, ``ar1`` their lag-1 autocorrelation (None where a
    process had too few), ``runs`` how many runs there were in all.
    """

    pairs: tuple[float, ...]
    levels: tuple[float, ...]
    run_sd: float
    runs: int
    ar1: float | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Self:
        return super().from_json({**data, **{k: tuple(data[k]) for k in ("pairs", "levels")}})


@dataclass(frozen=True)
class Calibrated(Record):
    """One calibration: when, on what code and workload (its hash), and what was seen by name.

    ``date`` is UTC, ISO 8601; ``seconds`` is what it took.
    """

    date: str
    commit: str
    workload: str
    seconds: float
    facts: dict[str, str] = field(default_factory=dict)
    noise: dict[str, Noise] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Self:
        noise = {name: Noise.from_json(seen) for name, seen in data["noise"].items()}
        return super().from_json({**data, "noise": noise})


@dataclass(frozen=True)
class Calibration:
    """What the gate assumes of one measurement on one kind of machine, instead of a constant.

    ``pair_sd`` is that of `rules.interleaved`, ``session_sd`` that of `rules.latency_screen`: upper
    limits of what was seen, with floors (docs/calibration.md). ``sessions`` counts times that lie
    apart; below `SESSIONS_TO_TELL` the assumed session sd stands, unless more was seen. ``date`` is
    the latest's day.
    """

    pair_sd: float
    session_sd: float
    pairs: int
    sessions: int
    date: str

    def __str__(self) -> str:
        many = "s" * (self.sessions > 1)
        return (
            f"calibrated ({self.pairs} process pairs, {self.sessions} session{many}, {self.date})"
        )
