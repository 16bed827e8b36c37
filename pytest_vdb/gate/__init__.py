"""Pure functions from measurements and a policy to verdicts."""

from __future__ import annotations

from pytest_vdb.gate.policy import Tolerance
from pytest_vdb.records import REPORTED, Kind, Measurement, Missing, State, Verdict


def judge(
    measurement: Measurement,
    stored: list[dict[str, float]],
    *,
    tolerance: Tolerance,
    guard_m: int,
    identical: bool = False,
) -> Verdict:
    """One measurement against its stored sessions (values by sample key, oldest first).

    ``identical`` says that every video equals the baseline's, bit for bit.
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
    if not stored:
        return Verdict(
            State.NO_BASELINE, "nothing stored; --vdb-update stores it", n=len(measurement.values)
        )
    from pytest_vdb.gate import rules

    match measurement.kind:
        case Kind.LATENCY | Kind.ENERGY:
            sessions = [list(s.values()) for s in stored]
            if any(value <= 0 for session in sessions for value in session):
                return Verdict(State.UNMEASURED, "the baseline holds a 0: it never measured")
            if any(value <= 0 for value in measurement.numbers):
                return Verdict(State.UNMEASURED, "a value of 0 or less says that nothing was timed")
            return rules.latency_screen(
                measurement.numbers,
                sessions,
                tolerance=tolerance,
                guard_m=guard_m,
                rate=measurement.direction == "higher",
            )
        case Kind.MEMORY:
            reported = measurement.provenance.version == REPORTED
            return rules.peak_memory(
                measurement.numbers,
                [list(s.values()) for s in stored],
                tolerance=tolerance,
                floor=rules.REPORTED_SLACK if reported else rules.MEMORY_SLACK,
            )
        case _:
            return rules.paired(
                measurement.by_key,
                stored[-1],
                higher_is_better=measurement.direction == "higher",
                tolerance=tolerance,
                guard_m=guard_m,
            )


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
    return Verdict(
        State.PASS,
        "differs from the baseline's video: no conviction by itself; the paired scores and your "
        "own floor decide",
        n=n,
    )
