"""What the gate says, and what a person accepted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from pytest_vdb.records.base import Json, Record


class State(StrEnum):
    """What the gate can say; the table in docs/verdicts.md says what each does to a test."""

    PASS = "PASS"
    IDENTICAL = "IDENTICAL"
    IMPROVEMENT = "IMPROVEMENT"
    REGRESSION = "REGRESSION"
    ACCEPTED = "ACCEPTED"
    NEW = "NEW"
    NO_BASELINE = "NO_BASELINE"
    INCONCLUSIVE = "INCONCLUSIVE"
    UNMEASURED = "UNMEASURED"
    NOT_APPLICABLE = "NOT_APPLICABLE"
    INFRA_ERROR = "INFRA_ERROR"


@dataclass(frozen=True)
class Verdict(Record):
    """One measurement against its baseline.

    ``effect`` and ``interval`` are relative changes (0.1 is +10 %) where ``relative``, else in
    the measurement's unit; a positive effect is a rise of the value, whatever its direction.
    ``accepted`` names the file whose reviewed entry is about it, where there is one; ``against``
    says whose baseline it is held to, where this environment has none. ``resolves`` is the smallest
    tolerance that such a run clears 95 times in 100 where nothing changed, if above its own.
    """

    state: State
    reason: str
    effect: float | None = None
    interval: tuple[float, float] | None = None
    relative: bool = True
    tolerance: str | None = None
    p: float | None = None
    n: int = 0
    baseline: float | None = None
    accepted: str = ""
    against: str = ""
    resolves: str | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Self:
        return super().from_json(_read(data))


@dataclass(frozen=True)
class Acceptance(Record):
    """One measurement of one run that a person has reviewed and lets stand.

    ``environment`` is the baseline's key, ``workload`` the workload's hash. ``state`` is what the
    gate had said: REGRESSION or NO_BASELINE. ``old`` is the stored level, ``new`` the run's own
    headline; ``effect``, ``interval``, ``relative`` and ``tolerance`` are the verdict's. ``values``
    are the run's by sample key, empty for a distance. ``compared`` is what a bridge says of the
    old stack. ``on_trust`` says what of a REGRESSION is the run's own word and was not computed
    from its samples and the stored baseline.
    """

    nodeid: str
    model: str
    workload: str
    environment: str
    measurement: str
    unit: str
    direction: str
    provenance: dict[str, str | None]
    state: State
    reason: str
    date: str
    commit: str = ""
    old: float | None = None
    new: float | None = None
    effect: float | None = None
    interval: tuple[float, float] | None = None
    relative: bool = True
    tolerance: str | None = None
    compared: str = ""
    on_trust: str = ""
    values: dict[str, float] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Self:
        return super().from_json(_read(data))

    @property
    def key(self) -> tuple[str, ...]:
        """What it is about."""
        return (self.nodeid, self.model, self.workload, self.environment, self.measurement)


def _read(data: Mapping[str, Json]) -> dict[str, Json]:
    ends = data.get("interval")
    interval = None if ends is None else tuple(ends)
    return {**data, "state": State(data["state"]), "interval": interval}
