"""What is kept: environments, sessions, baselines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from pytest_vdb.names import digest, words
from pytest_vdb.records.asked import Workload
from pytest_vdb.records.base import Json, Record
from pytest_vdb.records.measured import Provenance


@dataclass(frozen=True)
class Environment(Record):
    """``identity`` decides comparability; ``facts`` are shown beside it and decide nothing."""

    identity: dict[str, str]
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """A readable folder name that ends in a hash of the whole identity."""
        readable = "-".join(words(v).lower() for v in self.identity.values() if v)
        return f"{readable[:60].rstrip('-.')}-{digest(self.identity)[:6]}"


BASE, CHANGE = "base", "change"
"""Where a run was made: on the base branch, or on a change (a pull request) to it."""


@dataclass(frozen=True)
class Session(Record):
    """When, on which commit and on what a stored run was made.

    ``source`` is ``"base"`` or ``"change"``: only what was run on the base branch gates.
    """

    date: str
    commit: str
    facts: dict[str, str] = field(default_factory=dict)
    source: str = BASE


@dataclass(frozen=True)
class Stored(Record):
    """One measurement in a baseline: values by session id and sample key, and how they were made.

    ``provenance`` holds ``version`` and ``weights``: with another definition nothing is compared.
    """

    unit: str
    direction: str
    provenance: dict[str, str | None]
    sessions: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Baseline(Record):
    """What one workload of one model is compared with in one environment.

    ``sessions`` are keyed by an id that sorts by time; ``media`` maps a sample key to the sha256
    of its reference media by role: ``frames`` (of the raw frames, no file), ``latent`` (fp16),
    ``video`` (lossless) or ``preview`` (small, for people).
    """

    workload: Workload
    sessions: dict[str, Session] = field(default_factory=dict)
    measurements: dict[str, Stored] = field(default_factory=dict)
    media: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Self:
        return cls(
            workload=Workload.from_json(data["workload"]),
            sessions={k: Session.from_json(s) for k, s in data["sessions"].items()},
            measurements={k: Stored.from_json(m) for k, m in data["measurements"].items()},
            media=data["media"],
        )


def definition(provenance: Provenance) -> dict[str, str | None]:
    """The part of a provenance that two compared values must share."""
    return {"version": provenance.version, "weights": provenance.weights}
