"""From what a test touched to its verdicts, and from those to its outcome."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from pytest_vdb import keep, swept
from pytest_vdb.baseline.identity import PERFORMANCE, Step, test_name
from pytest_vdb.baseline.yardstick import Yardstick
from pytest_vdb.bench import Bench
from pytest_vdb.errors import InfraError
from pytest_vdb.expected import Expected
from pytest_vdb.explained import explain, trace_media
from pytest_vdb.gate import FINE, acceptance, auto, judge
from pytest_vdb.gate.attribution import Attribution
from pytest_vdb.gate.policy import Tolerance, tolerance_for
from pytest_vdb.models.sources import SERVE
from pytest_vdb.noise import Calibration
from pytest_vdb.options import Settings
from pytest_vdb.records import (
    BASE,
    REPORTED,
    TIMED,
    Json,
    Kind,
    Measurement,
    ModelSpec,
    State,
    Verdict,
)
from pytest_vdb.report import reused, rows
from pytest_vdb.statistic import summarize
from pytest_vdb.view import Vdb


@dataclass(frozen=True)
class Row:
    """One measurement of one test and what became of it."""

    measurement: Measurement
    verdict: Verdict
    consequence: str


@dataclass
class TestRun:
    """The record of one test that uses ``vdb``, from its setup to its report."""

    vdb: Vdb
    settings: Settings
    rows: list[Row] = field(default_factory=list)
    proof: dict[str, Json] | None = None
    attribution: Attribution | None = None
    errors: list[str] = field(default_factory=list)
    """What broke in place of a measurement, as the test's failure says it."""

    __test__ = False  # not a test class, whatever its name says

    @cached_property
    def expected(self) -> Expected:
        """What the baseline says that this test takes."""
        return Expected(self.vdb)

    @property
    def failing(self) -> list[Row]:
        return [row for row in self.rows if row.consequence in ("fail", "error")]

    @property
    def infra(self) -> bool:
        return any(row.verdict.state is State.INFRA_ERROR for row in self.rows)

    @property
    def only_not_applicable(self) -> bool:
        """Whether nothing this test touched could be measured of this source at all."""
        missing = [row.measurement.missing for row in self.rows]
        return bool(missing) and all(one == "NOT_APPLICABLE" for one in missing)

    def conclude(self, *, completed: bool) -> None:
        """Judge every touched measurement; after a completed body also what was not touched."""
        for measurement in self.vdb.touched.values():
            self._add(measurement, self._verdict(measurement))
        self.vdb.judged = True
        attempted = self.vdb.attempted or "samples"
        if isinstance(self.vdb.error, InfraError):
            self._add(_nothing(attempted), Verdict(State.INFRA_ERROR, str(self.vdb.error)))
        elif self.vdb.error is not None:
            said = f"{type(self.vdb.error).__name__}: {self.vdb.error}".partition("\n")[0]
            why = rows.NOT_REACHED + said
            self._add(_nothing(attempted), Verdict(State.UNMEASURED, why))
        elif completed and self.settings.gate != "off" and not self._rewriting:
            for name, kind in self.expected.lost:
                self._add(_nothing(name, kind), self.expected.why_lost(name, kind))
        if self.settings.gate != "off":
            self.attribution = explain(self)
        if completed and self.settings.prove:
            from pytest_vdb.trial.prove import prove

            self.proof = prove(self)

    @property
    def _rewriting(self) -> bool:
        """Whether this run decides anew which measurements the test takes."""
        return self.settings.update and self.settings.update_mode == "all"

    def _add(self, measurement: Measurement, verdict: Verdict) -> None:
        consequence = self.settings.consequences.of(verdict, measurement.kind)
        self.rows.append(Row(measurement, verdict, consequence))

    def _verdict(self, measurement: Measurement) -> Verdict:
        vdb = self.vdb
        if self.settings.explores:
            return swept.verdict(measurement)
        if self.settings.gate == "off" and not measurement.missing:
            n = len(measurement.values)
            return Verdict(State.NOT_APPLICABLE, "nothing is compared under --vdb-gate off", n=n)
        beside, tolerance = vdb._bench.session.beside, self._tolerance(measurement)
        held = vdb.held_to(measurement)
        verdict = judge(
            measurement,
            vdb.stored(measurement),
            tolerance=_widened(tolerance, held.step),
            guard_m=self.settings.guard_m,
            identical=measurement.kind is Kind.DISTANCE
            and vdb._bench.identical(vdb.references(measurement.name)),
            calibration=self.calibration(measurement),
        )
        if verdict.state is State.NO_BASELINE:
            verdict = Verdict(State.NO_BASELINE, self._why_no_baseline(measurement), n=verdict.n)
        if verdict.state is State.NOT_APPLICABLE and measurement.missing and not self._rewriting:
            off = tolerance.off and measurement.kind is not Kind.DISTANCE
            verdict = verdict if off else self.expected.unless_stored(measurement, verdict)
        verdict = self._told(measurement, held, verdict)
        # The base runs on this machine: nothing is widened for it, and nothing was accepted so.
        if beside is not None and not self.settings.update:
            verdict = beside.verdict(vdb._bench, measurement, verdict, tolerance)
        if held.new and verdict.state is State.NO_BASELINE and not self.settings.require:
            verdict = replace(verdict, state=State.NEW)
        return self._reviewed(measurement, verdict, tolerance)

    def _reviewed(
        self, measurement: Measurement, verdict: Verdict, tolerance: Tolerance
    ) -> Verdict:
        """``verdict`` as an entry that a person reviewed leaves it, where there is one."""
        if verdict.state not in acceptance.OPEN:
            return verdict
        bench = self.vdb._bench
        found = bench.session.standards.accepted.find(
            self.vdb.nodeid,
            self.vdb.model.name,
            self.vdb.workload.hash,
            bench.environments[measurement.kind in PERFORMANCE].key,
            measurement.name,
        )
        if found is None:
            return verdict
        return acceptance.reviewed(
            measurement,
            verdict,
            found.entry,
            found.file,
            honour=self.settings.honour_accepted,
            tolerance=tolerance,
            guard_m=self.settings.guard_m,
            calibration=self._calibration(measurement),
        )

    def _told(self, measurement: Measurement, held: Yardstick, verdict: Verdict) -> Verdict:
        """``verdict`` of a stored baseline, with what a reader must know of that.

        One that only the change under test has convicts, but clears nothing: it compares as none.
        """
        compared = verdict.baseline is not None or measurement.kind is Kind.DISTANCE
        if held.new and verdict.state in FINE:
            trusted = self.vdb._bench.session.standards.ref
            why = f"stored by this change alone, and not at {trusted}; it is reviewed with it"
            return Verdict(State.NO_BASELINE, why, n=verdict.n)
        ours, theirs = str(self.vdb._bench.session.workers), held.workers(measurement.name)
        shared = compared and measurement.kind in TIMED
        if shared and theirs not in ("", ours):
            beside = f"{verdict.reason}; workers at a time: {ours}, and {theirs} in the baseline"
            verdict = replace(verdict, reason=beside)
        if held.step is not None and compared:
            reason = f"{verdict.reason}, against {held.against}"
            return replace(verdict, reason=reason, against=held.against)
        return verdict

    def tolerance(self, measurement: Measurement) -> Tolerance:
        """How much worse ``measurement`` may get; more where another machine's baseline serves."""
        return _widened(self._tolerance(measurement), self.vdb.held_to(measurement).step)

    def calibration(self, measurement: Measurement) -> Calibration | None:
        """This machine's noise; what another's sessions differ by is not known from it."""
        if self.vdb.held_to(measurement).step is not None:
            return None
        return self._calibration(measurement)

    def _calibration(self, measurement: Measurement) -> Calibration | None:
        bench, kind = self.vdb._bench, measurement.kind
        if kind not in TIMED:
            return None
        return bench.session.standards.calibration(
            bench.spec.name, bench.environments[1], measurement.name
        )

    def _tolerance(self, measurement: Measurement) -> Tolerance:
        asked = self._chosen(measurement)
        if not asked.auto:
            return asked
        return auto.resolve(
            measurement,
            self.vdb.stored(measurement),
            self._calibration(measurement),
            pairs=(self.settings.ab_processes or auto.PAIRS) if self._has_base else None,
            model=self.vdb.model.name,
        )

    def _chosen(self, measurement: Measurement) -> Tolerance:
        session = self.vdb._bench.session
        return tolerance_for(
            measurement.name,
            measurement.kind,
            _device(measurement, session.device_of(self.vdb.model)),
            self.settings.tolerance,
            beside=self._has_base,
        )

    @property
    def _has_base(self) -> bool:
        """Whether a base can be run beside this model."""
        bench = self.vdb._bench
        return bench.session.beside is not None and bench.session.beside.can_ask(bench)

    def _why_no_baseline(self, measurement: Measurement) -> str:
        """What exists instead: another workload, another environment, another definition."""
        vdb = self.vdb
        base = vdb._bench.session.standards.run_source == BASE
        update = "--vdb-update stores this run" if base else "vdb accept lets it stand"
        baseline = vdb.baseline(measurement.kind)
        if baseline is not None and measurement.name in baseline.measurements:
            return f"the stored values have another definition of {measurement.name}; {update}"
        if baseline is not None:
            return f"stored for this workload, but without {measurement.name}; {update}"
        if changed := self.expected.changed(measurement.kind):
            return f"{changed}; {update}"
        model, environment, *_ = vdb.path(measurement.kind).split("/")
        others = vdb.elsewhere(measurement)
        beside = f"; stored for {', '.join(others[:2])}" if others else ""
        return f"nothing stored for {model} on {environment}{beside}; {update}"

    # ------------------------------------------------------------------ what leaves the process

    def message(self) -> str:
        """Why the gate fails this test, but for what ``errors`` say already."""
        said = [
            _sentence(row)
            for row in self.failing
            if not any(rows.repeats(e, row.measurement, row.verdict) for e in self.errors)
        ]
        return "\n".join((*said, *self._explained))

    @property
    def _explained(self) -> tuple[str, ...]:
        return () if self.attribution is None else (self.attribution.text,)

    def evidence(self) -> str:
        """Every row, as the report section shows them."""
        made = [reused.told(self.vdb.made)] if self.vdb.made else []
        return "\n".join((*map(_sentence, self.rows), *self._explained, *made))

    def properties(self) -> list[tuple[str, str | float]]:
        """A few scalars for JUnit."""
        found: list[tuple[str, str | float]] = []
        for row in self.rows:
            m = row.measurement
            if m.values:
                found.append((f"vdb.{m.name}.{m.headline}", summarize(m)[m.headline]))
            found.append((f"vdb.{m.name}.verdict", row.verdict.state.value))
        return found

    def to_json(self) -> dict[str, Json]:
        """The test's entry in ``--vdb-json``, without its outcome."""
        beside = self.vdb._bench.session.beside
        return {
            "nodeid": self.vdb.nodeid,
            "outcome": None,
            "model": _shown(self.vdb.model),
            "workload": {"hash": self.vdb.workload.hash, **self.vdb.workload.portable.to_json()},
            "environments": [e.to_json() for e in self.vdb._bench.environments],
            "beside": beside.to_json(self.vdb._bench) if beside else None,
            "measurements": [
                _row_json(row) | {"line": self.vdb.lines.get(row.measurement.name)}
                for row in self.rows
            ],
            "attribution": self.attribution.to_json() if self.attribution else None,
            "memory_over_time": self._memory,
            **({"reused": made} if (made := self.vdb.made) else {}),
            **({"overruled": [*over]} if (over := self.settings.overruled) else {}),
            **swept.told(self.vdb, self.settings),
            **({} if self.proof is None else {"prove": self.proof}),
            **self._shown,
            **({"kept": keep.of_test(self)} if self.settings.keep else {}),
        }

    @property
    def _memory(self) -> Json:
        """Of what this process generated: a cost is never another's."""
        run = self.vdb._bench._run
        return run.timeline.to_json() if run is not None and run.timeline is not None else None

    @property
    def _shown(self) -> dict[str, Json]:
        """What the controller needs for ``--vdb-html`` alone, and keeps out of the results."""
        if self.settings.html is None:
            return {}
        from pytest_vdb import shown

        return {"shown": shown.of(self)}

    def updates(self) -> list[dict[str, Any]]:
        """What a passed test contributes to the baselines, as ``Update`` arguments in JSON."""
        bench = self.vdb._bench
        contributions = []
        for performance in (False, True):
            measurements = [
                row.measurement
                for row in self.rows
                if (row.measurement.kind in PERFORMANCE) is performance
                and not row.measurement.missing
                and row.measurement.kind is not Kind.DISTANCE
            ]
            distances = [
                row
                for row in self.rows
                if row.measurement.kind is Kind.DISTANCE and not performance
            ]
            if not measurements and not distances and not self._rewriting:
                continue
            contributions.append(
                {
                    "path": self.vdb.paths[performance],
                    "test": test_name(self.vdb.nodeid),
                    "model": self.vdb.model.name,
                    "environment": bench.environments[performance].identity,
                    "workload": self.vdb.workload.portable.to_json(),
                    "measurements": [m.to_json() for m in measurements],
                    "distances": [row.measurement.name for row in distances],
                    "media": _media(bench, performance) if measurements + distances else {},
                }
            )
        return contributions


def _widened(tolerance: Tolerance, step: Step | None) -> Tolerance:
    """``tolerance`` as another machine's baseline has it."""
    if step is None:
        return tolerance
    wide = tolerance.value * step.factor
    return replace(tolerance, value=min(wide, 0.99) if tolerance.relative else wide)


def _sentence(row: Row) -> str:
    return rows.sentence(row.measurement, row.verdict)


def _media(bench: Bench, performance: bool) -> dict[str, dict[str, str]]:
    """What a baseline of performance keeps of a run, or one of quality."""
    return trace_media(bench, performance=True) if performance else bench.media


def _shown(model: ModelSpec) -> dict[str, Json]:
    """A model for people to read: the command that starts its server may hold a key."""
    served = model.location.startswith(SERVE)
    return {**model.to_json(), **({"location": SERVE} if served else {})}


def _device(measurement: Measurement, device: str) -> str:
    """Whose counter a tolerance is for: the device's, or the word of an engine or a server."""
    reported = measurement.provenance.version == REPORTED
    return REPORTED if reported and measurement.kind is Kind.MEMORY else device


def _nothing(name: str, kind: Kind = Kind.SCORE) -> Measurement:
    return Measurement(name, "1", "higher", kind, "mean")


def _row_json(row: Row) -> dict[str, Json]:
    m = row.measurement
    return {
        "name": m.name,
        "unit": m.unit,
        "direction": m.direction,
        "kind": m.kind.value,
        "samples": [v.to_json() for v in m.values],
        "statistics": summarize(m),
        "headline": m.headline,
        "provenance": m.provenance.to_json(),
        "verdict": {**row.verdict.to_json(), "consequence": row.consequence},
    }
