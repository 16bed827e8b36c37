"""What one measurement is held to: this environment's baseline, a new one, or a near machine's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_vdb.baseline.identity import Step, step
from pytest_vdb.baseline.schema import BaselineFile
from pytest_vdb.baseline.store import Store
from pytest_vdb.errors import BaselineError
from pytest_vdb.records import Baseline, Environment, Kind

TIMES = {2: "doubled", 4: "fourfold"}


@dataclass(frozen=True)
class Yardstick:
    """``new``: stored by the change under test alone. ``step``: another machine's, ``key`` says
    whose."""

    baseline: Baseline | None
    new: bool = False
    step: Step | None = None
    key: str = ""

    def workers(self, name: str) -> str:
        """Concurrent workers of the run that measured ``name`` last; empty where none did."""
        stored = self.baseline.measurements.get(name) if self.baseline else None
        if self.baseline is None or stored is None or not stored.sessions:
            return ""
        return self.baseline.sessions[max(stored.sessions)].facts.get("workers", "1")

    @property
    def against(self) -> str:
        """Whose baseline it is, where it is not this environment's; else empty."""
        if self.step is None:
            return ""
        return f"{self.key} ({self.step.alike}; tolerance {TIMES[self.step.factor]})"


@dataclass(frozen=True)
class Wanted:
    """A measurement that needs something to be held to. ``definition`` None: any will do."""

    workload: str
    name: str
    kind: Kind
    definition: Mapping[str, str | None] | None = None

    def of(self, file: BaselineFile | None) -> Baseline | None:
        return file.workloads.get(self.workload) if file else None

    def named(self, baseline: Baseline | None) -> bool:
        """Whether ``baseline`` holds something under this name."""
        if baseline is None:
            return False
        is_distance = self.kind is Kind.DISTANCE
        return bool(baseline.media) if is_distance else self.name in baseline.measurements

    def held(self, baseline: Baseline | None) -> bool:
        """Whether ``baseline`` holds what can be compared."""
        if baseline is None or not self.named(baseline):
            return False
        if self.kind is Kind.DISTANCE or self.definition is None:
            return True
        return baseline.measurements[self.name].provenance == self.definition


def choose(store: Store, path: str, wanted: Wanted, ours: Environment, *, exact: bool) -> Yardstick:
    """What ``wanted`` is held to; ``path`` is that of this environment's baseline file.

    The baseline of ``ours`` before all else. Where the gate reads another ref, what the checked-out
    tree alone has is new. Then, unless only ``exact`` will do, the nearest other machine with the
    same software. Raises BaselineError for a file of this environment that cannot be trusted.
    """
    baseline = wanted.of(store.read(path))
    if wanted.held(baseline):
        return Yardstick(baseline)
    if store.head is not None and wanted.held(fresh := wanted.of(store.head(path))):
        return Yardstick(fresh, new=True)
    if not exact and not wanted.named(baseline):
        return _nearest(store, path, wanted, ours) or Yardstick(baseline)
    return Yardstick(baseline)


def _nearest(store: Store, path: str, wanted: Wanted, ours: Environment) -> Yardstick | None:
    """The newest baseline of the machines that are most alike."""
    model, own, *rest = path.split("/")
    found = []
    for key in store.environments(model, "/".join(rest)):
        if key == own:
            continue
        try:
            file = store.read("/".join((model, key, *rest)))
        except BaselineError:
            continue  # another machine's file is not this run's trouble
        baseline = wanted.of(file)
        if file is None or baseline is None or not wanted.held(baseline):
            continue
        is_distance = wanted.kind is Kind.DISTANCE
        dates = baseline.sessions if is_distance else baseline.measurements[wanted.name].sessions
        newest = max(dates, default="")
        facts = baseline.sessions[newest].facts if newest else {}
        if (near := step(ours, file.environment, facts, wanted.kind)) is not None:
            found.append((-near.factor, newest, key, Yardstick(baseline, step=near, key=key)))
    return max(found, key=lambda one: one[:3])[-1] if found else None
