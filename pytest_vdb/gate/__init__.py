"""Pure functions from measurements and a policy to verdicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_vdb.gate.policy import Tolerance
from pytest_vdb.noise import Calibration
from pytest_vdb.records import (
    WHOLE_RUN,
    Baseline,
    Kind,
    Measurement,
    Missing,
    State,
    Verdict,
    definition,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class StoredSession:
    """What one stored session holds of one measurement: values by sample key."""

    values: Mapping[str, float]
    commit: str = ""
    label: str = ""


def stored_of(baseline: Baseline | None, measurement: Measurement) -> list[StoredSession]:
    """What each stored session holds of ``measurement``, oldest first.

    Of a measurement without values, also those of another definition: that there were some is what
    matters then.
    """
    stored = baseline.measurements.get(measurement.name) if baseline else None
    if baseline is None or stored is None:
        return []
    if not measurement.missing and stored.provenance != definition(measurement.provenance):
        return []
    return [
        StoredSession(stored.sessions[key], baseline.sessions[key].commit, key[:16])
        for key in sorted(stored.sessions)
    ]


def judge(
    measurement: Measurement,
    stored: Sequence[StoredSession],
    *,
    tolerance: Tolerance,
    guard_m: int,
    identical: bool = False,
    calibration: Calibration | None = None,
) -> Verdict:
    """One measurement against its stored sessions, oldest first.

    ``identical`` says that every video equals the baseline's, bit for bit. ``calibration`` is what
    this machine's noise was measured to be, where it was.
    """
    absent = _absent(measurement, stored=bool(stored) and not tolerance.off)
    if absent:
        return absent
    if measurement.kind is Kind.DISTANCE:
        return _distance(measurement, identical)
    if tolerance.off:
        return Verdict(
            State.NOT_APPLICABLE,
            "its comparison is off; --vdb-tolerance turns it on",
            tolerance="off",
            n=len(measurement.values),
        )
    if tolerance.why:
        return Verdict(
            State.UNMEASURED, tolerance.why, tolerance=str(tolerance), n=len(measurement.values)
        )
    if not stored:
        return Verdict(
            State.NO_BASELINE, "nothing stored; --vdb-update stores it", n=len(measurement.values)
        )
    match measurement.kind:
        case Kind.LATENCY | Kind.ENERGY:
            return _latency(measurement, stored, tolerance, guard_m, calibration)
        case Kind.MEMORY:
            return _memory(measurement, stored, tolerance)
        case _ if measurement.by_key.keys() == {WHOLE_RUN}:
            why = "one number of a whole set has no spread to be judged by; assert a limit on it"
            return Verdict(State.NOT_APPLICABLE, why, tolerance=str(tolerance), n=1)
        case _:
            return _score(measurement, stored, tolerance, guard_m)


def _latency(
    measurement: Measurement,
    stored: Sequence[StoredSession],
    tolerance: Tolerance,
    guard_m: int,
    calibration: Calibration | None,
) -> Verdict:
    from pytest_vdb.gate import rules

    if any(value <= 0 for session in stored for value in session.values.values()):
        return Verdict(State.UNMEASURED, "the baseline holds a 0: it never measured")
    if any(value <= 0 for value in measurement.numbers):
        return Verdict(State.UNMEASURED, "a value of 0 or less says that nothing was timed")
    levels = [rules.fastest_half(list(session.values.values())) for session in stored]
    share = tolerance.value if tolerance.relative else 0.05
    sd = calibration.session_sd if calibration else rules.SESSION_SD
    verdict = _best_mode(
        stored,
        levels,
        2 * share,
        lambda sessions: rules.latency_screen(
            measurement.numbers,
            [list(session.values.values()) for session in sessions],
            tolerance=tolerance,
            guard_m=guard_m,
            rate=measurement.direction == "higher",
            session_sd=sd,
        ),
        least=2,  # one may have met a busy machine
    )
    return replace(verdict, reason=f"{verdict.reason}; {calibration}") if calibration else verdict


def _memory(
    measurement: Measurement, stored: Sequence[StoredSession], tolerance: Tolerance
) -> Verdict:
    from pytest_vdb.gate import rules

    floor = rules.slack_of(measurement)
    peaks = [max(session.values.values()) for session in stored]
    slack = max(floor, tolerance.value * (max(peaks) if tolerance.relative else 1))
    return _best_mode(
        stored,
        peaks,
        slack,
        lambda sessions: rules.peak_memory(
            measurement.by_key, [s.values for s in sessions], tolerance=tolerance, floor=floor
        ),
    )


def _score(
    measurement: Measurement, stored: Sequence[StoredSession], tolerance: Tolerance, guard_m: int
) -> Verdict:
    from pytest_vdb.gate import rules

    if stored[-1].values.keys() == measurement.by_key.keys():
        stored = [
            session for session in stored if session.values.keys() == stored[-1].values.keys()
        ]
    else:  # the rule says what is lost, and no older session may hide it
        stored = stored[-1:]
    levels = [sum(session.values.values()) / len(session.values) for session in stored]
    return _best_mode(
        stored,
        levels,
        tolerance.value * (abs(levels[-1]) if tolerance.relative else 1),
        lambda sessions: rules.paired(
            measurement.by_key,
            sessions[-1].values,
            higher_is_better=measurement.direction == "higher",
            tolerance=tolerance,
            guard_m=guard_m,
        ),
    )


FINE = (State.IDENTICAL, State.PASS, State.IMPROVEMENT)


def _best_mode(
    stored: Sequence[StoredSession],
    levels: Sequence[float],
    gap: float,
    rule: Callable[[list[StoredSession]], Verdict],
    least: int = 1,
) -> Verdict:
    """``rule`` against each live mode of the baseline: who matches one has not regressed."""
    from pytest_vdb.gate import rules

    modes = rules.live_modes(levels, [session.commit for session in stored], gap, least)
    verdicts = [rule([stored[index] for index in mode]) for mode in modes]
    if len(modes) == 1:
        return verdicts[0]
    chosen = next((i for i, verdict in enumerate(verdicts) if verdict.state in FINE), 0)
    of = stored[modes[chosen][-1]].label
    note = f"the baseline has {len(modes)} modes; compared with that of session {of}"
    return replace(verdicts[chosen], reason=f"{verdicts[chosen].reason}; {note}")


def _absent(measurement: Measurement, *, stored: bool) -> Verdict | None:
    match measurement.missing:
        case Missing.UNMEASURED:
            return Verdict(State.UNMEASURED, measurement.reason)
        case Missing.NOT_APPLICABLE if stored:
            # A source that no longer reports what it once did must not pass unseen.
            return Verdict(
                State.UNMEASURED, f"{measurement.reason}; yet the baseline has it for this workload"
            )
        case Missing.NOT_APPLICABLE:
            return Verdict(State.NOT_APPLICABLE, measurement.reason)
        case Missing.NO_REFERENCE:
            return Verdict(State.NO_BASELINE, measurement.reason)
    return None


def _distance(measurement: Measurement, identical: bool) -> Verdict:
    """A distance to the baseline's video triggers a look and never convicts by itself."""
    n = len(measurement.values)
    if identical:
        return Verdict(State.IDENTICAL, "the baseline's video, bit for bit", n=n)
    note = f"; {measurement.note}" if measurement.note else ""
    return Verdict(
        State.PASS,
        "differs from the baseline's video: no conviction by itself; the paired scores and your "
        f"own floor decide{note}",
        n=n,
    )
