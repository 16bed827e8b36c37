"""What the stored baseline says that a test takes, and what to say where the test does not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from pytest_vdb.baseline.identity import WORKLOAD_CHANGED, difference, test_name
from pytest_vdb.baseline.schema import BaselineFile
from pytest_vdb.records import Kind, Measurement, State, Verdict
from pytest_vdb.view import Vdb

FILES = (Kind.SCORE, Kind.LATENCY)
"""A kind of each of a test's two baseline files: quality's and performance's."""


@dataclass(frozen=True)
class Expected:
    """Measurements that the baseline lists for one test.

    Those of the test's workload, where the baseline knows it of this test; else those of any
    workload: nobody escapes a comparison by asking the model for something else.
    """

    vdb: Vdb

    @cached_property
    def names(self) -> dict[str, Kind]:
        """Raises BaselineError."""
        return {
            name: kind
            for kind, index in self._indices.items()
            for workload, names in index.items()
            if workload == self.vdb.workload.hash or self.of_another
            for name in names
        }

    @cached_property
    def of_another(self) -> bool:
        """Whether the baseline knows this test, and by other workloads alone."""
        indices = self._indices.values()
        return any(indices) and not any(self.vdb.workload.hash in index for index in indices)

    @cached_property
    def _indices(self) -> dict[Kind, dict[str, list[str]]]:
        return {kind: self._index(self.vdb.file(kind)) for kind in FILES}

    def _index(self, file: BaselineFile | None) -> dict[str, list[str]]:
        return file.tests.get(test_name(self.vdb.nodeid), {}) if file else {}

    @property
    def lost(self) -> list[tuple[str, Kind]]:
        """What is expected and was not touched."""
        return [pair for pair in self.names.items() if pair[0] not in self.vdb.touched]

    def why_lost(self, name: str, kind: Kind) -> Verdict:
        """What to say of a stored measurement that this run did not take."""
        head = self.vdb._bench.session.store.head
        index = self._index(head(self.vdb.path(kind))) if head else {}
        names = index.get(self.vdb.workload.hash)
        if names is not None and name not in names:
            why = "this change drops it from the test and from its baseline; it is reviewed with it"
            return Verdict(State.NOT_APPLICABLE, why)
        if self.of_another:
            why = f"{self.changed(kind) or WORKLOAD_CHANGED}, and what was stored is not taken"
            return Verdict(
                State.NO_BASELINE,
                f"{why}; where that is meant, --vdb-update --vdb-update-mode all on the base "
                "branch stores the new workload",
            )
        return Verdict(
            State.UNMEASURED,
            "stored in the baseline and not taken by this run; where that is meant, "
            "--vdb-update --vdb-update-mode all forgets it",
        )

    def unless_stored(self, measurement: Measurement, verdict: Verdict) -> Verdict:
        """``verdict``, which is NOT_APPLICABLE, unless ``measurement`` is expected."""
        if measurement.name not in self.names:
            return verdict
        changed = self.changed(measurement.kind)
        why = f"{verdict.reason}; yet the baseline has it for this test"
        todo = (
            "where that is meant, --vdb-update --vdb-update-mode all on the base branch forgets it"
        )
        return Verdict(State.UNMEASURED, f"{why}{f': {changed}' if changed else ''}; {todo}")

    def changed(self, kind: Kind) -> str:
        """How the workload differs from what is stored, where that is another; else empty."""
        file = self.vdb.file(kind)
        if file is None or not file.workloads or self.vdb.workload.hash in file.workloads:
            return ""
        stored = [baseline.workload for baseline in file.workloads.values()]
        return f"{WORKLOAD_CHANGED} ({difference(self.vdb.workload, stored)})"
