"""What a reviewed acceptance makes of a verdict: pure, and no looser than what was reviewed."""

from __future__ import annotations

from dataclasses import replace

from pytest_vdb.gate import FINE, StoredSession, judge
from pytest_vdb.gate.auto import resolve
from pytest_vdb.gate.policy import Tolerance
from pytest_vdb.noise import Calibration
from pytest_vdb.records import (
    TIMED,
    Acceptance,
    Kind,
    Measurement,
    Missing,
    State,
    Verdict,
    definition,
)

OPEN = (State.REGRESSION, State.NO_BASELINE, State.INCONCLUSIVE)
"""Verdicts that an entry may be about.

Who accepted a regression of 6 % accepted a run that cannot tell 6 % from the tolerance of 5 %.
"""

FLAG = "--vdb-honour-accepted"


def reviewed(
    measurement: Measurement,
    verdict: Verdict,
    entry: Acceptance,
    file: str,
    *,
    honour: bool,
    tolerance: Tolerance,
    guard_m: int,
    calibration: Calibration | None = None,
) -> Verdict:
    """``verdict`` as ``entry`` of ``file`` leaves it.

    With ``honour``: ACCEPTED for REGRESSION and INCONCLUSIVE, NEW for NO_BASELINE, unless the
    measurement is worse than the entry's. Without it the state stays, and the reason tells of the
    entry. ``tolerance``, ``guard_m`` and ``calibration`` are those of the verdict.
    """
    if verdict.state not in OPEN or not _about(measurement, verdict, entry):
        return verdict
    if not honour:
        reason = f"{verdict.reason}; {file} has an entry for it, which {FLAG} honours"
        return replace(verdict, reason=reason, accepted=file)
    if measurement.kind is not Kind.DISTANCE and not entry.values:
        reason = f"{verdict.reason}; the entry of {file} holds no values: accept it anew"
        return replace(verdict, reason=reason, accepted=file)
    by_rule = _against_accepted(measurement, entry, tolerance, guard_m, calibration)
    if verdict.state is State.NO_BASELINE:
        found = _new(verdict, by_rule, entry)
    else:
        found = _accepted(measurement, verdict, by_rule, entry, tolerance)
    return replace(found, accepted=file)


def _about(measurement: Measurement, verdict: Verdict, entry: Acceptance) -> bool:
    """Whether the two speak of the same: an entry without a comparison says nothing about one."""
    if measurement.missing not in (None, Missing.NO_REFERENCE):
        return False
    if not measurement.missing and entry.provenance != definition(measurement.provenance):
        return False
    if verdict.state is State.NO_BASELINE or entry.state is State.REGRESSION:
        return True
    # Peaks repeat: what some samples showed is as exact as what all of them did.
    return entry.state is State.INCONCLUSIVE and measurement.kind is Kind.MEMORY


def _against_accepted(
    measurement: Measurement,
    entry: Acceptance,
    tolerance: Tolerance,
    guard_m: int,
    calibration: Calibration | None,
) -> Verdict | None:
    """The ordinary rule, with the accepted values as its baseline; none for a distance."""
    if measurement.kind is Kind.DISTANCE:
        return None
    stored = StoredSession(entry.values, entry.commit, entry.date[:16])
    if tolerance.auto and not tolerance.value and not tolerance.why:  # there was no baseline
        tolerance = resolve(measurement, [stored], calibration, pairs=None, model="")
    return judge(
        measurement, [stored], tolerance=tolerance, guard_m=guard_m, calibration=calibration
    )


def _new(verdict: Verdict, by_rule: Verdict | None, entry: Acceptance) -> Verdict:
    if by_rule is None:
        why = "a distance has nothing to be compared with yet"
        return replace(verdict, state=State.NEW, reason=f"accepted ({entry.reason}); {why}")
    if by_rule.state in FINE:
        reason = f"accepted ({entry.reason}); against what was accepted: {by_rule.reason}"
        return replace(by_rule, state=State.NEW, reason=reason)
    if by_rule.state is State.REGRESSION:
        return replace(by_rule, reason=f"worse than what was accepted: {by_rule.reason}")
    return replace(by_rule, reason=f"against what was accepted: {by_rule.reason}")


def _accepted(
    measurement: Measurement,
    verdict: Verdict,
    by_rule: Verdict | None,
    entry: Acceptance,
    tolerance: Tolerance,
) -> Verdict:
    why = _void(measurement, verdict, entry, tolerance) or _worse(
        measurement, verdict, by_rule, entry, tolerance
    )
    if why:
        return replace(verdict, reason=f"{verdict.reason}; {why}")
    reason = f"accepted ({entry.reason}); without that: {verdict.state}, {verdict.reason}"
    return replace(verdict, state=State.ACCEPTED, reason=reason)


def _void(
    measurement: Measurement, verdict: Verdict, entry: Acceptance, tolerance: Tolerance
) -> str:
    """Why the entry does not speak of this baseline, or an empty string."""
    if verdict.effect is None or verdict.baseline is None or verdict.relative != entry.relative:
        return "its acceptance tells another kind of change; accept it anew"
    if entry.interval is None and measurement.kind in TIMED:
        return "its acceptance holds no interval, so nothing bounds it; accept it anew"
    assert entry.old is not None
    # The policy's own: an entry's tolerance is what a run said of itself.
    slack = tolerance.value * (abs(entry.old) if tolerance.relative else 1)
    if _sign(measurement) * (verdict.baseline - entry.old) > slack:
        # It may hold the accepted change by now, and nobody accepted it twice.
        moved = f"from {entry.old:.4g} to {verdict.baseline:.4g}"
        return f"the baseline has moved {moved} since this was accepted; accept it anew"
    return ""


def _worse(
    measurement: Measurement,
    verdict: Verdict,
    by_rule: Verdict | None,
    entry: Acceptance,
    tolerance: Tolerance,
) -> str:
    """Why this is worse than what was accepted, or an empty string.

    Beyond the interval that was measured then; or, where values can be paired or are exact, a
    regression from those values. A peak that only some samples exceed is one as well.
    """
    sign = _sign(measurement)
    effect = _least(measurement, verdict)
    bound = _bound(measurement, entry, tolerance)
    if bound is not None and sign * effect > sign * bound:
        beyond = f"{_shown(effect, verdict)} is beyond {_shown(bound, verdict)}"
        return f"worse than what was accepted: {beyond}"
    if by_rule is None:
        return ""
    exact = measurement.kind is Kind.MEMORY
    if by_rule.state is State.REGRESSION or (exact and by_rule.state not in FINE):
        return f"worse than what was accepted: {by_rule.reason}"
    if by_rule.state is State.UNMEASURED:
        return f"what was accepted cannot be compared: {by_rule.reason}"
    return ""


def _bound(measurement: Measurement, entry: Acceptance, tolerance: Tolerance) -> float | None:
    """The worst change that the entry covers; None for memory, whose rule is exact.

    The worse end of the interval, or of a score without one (of a single prompt, or forged) its
    effect and once the tolerance: values that scatter enough would never be convicted by the rule.
    """
    sign = _sign(measurement)
    if entry.interval is not None:
        return max(entry.interval, key=lambda end: sign * end)
    if measurement.kind is Kind.MEMORY:
        return None
    assert entry.effect is not None
    slack = tolerance.value if tolerance.relative == entry.relative else 0.0
    return entry.effect + sign * slack


def _least(measurement: Measurement, verdict: Verdict) -> float:
    """The least change for the worse that the verdict speaks of.

    Times differ from run to run, so of a conviction it is the near end of the interval: by the
    effect alone, 13 of 100 reruns of an accepted commit were red in simulation, and so 1.4. What
    could not be told is taken at its effect, or a wide interval would excuse it.
    """
    assert verdict.effect is not None
    noisy = measurement.kind in TIMED and verdict.state is State.REGRESSION
    if not noisy or verdict.interval is None:
        return verdict.effect
    return min(verdict.interval, key=lambda end: _sign(measurement) * end)


def _sign(measurement: Measurement) -> int:
    """1 where a rise is for the worse."""
    return 1 if measurement.direction == "lower" else -1


def _shown(effect: float, verdict: Verdict) -> str:
    return f"{100 * effect:+.1f}%" if verdict.relative else f"{effect:+.3g}"
