"""``auto`` as a tolerance: the smallest change that this machine can tell apart.

It is derived from what is known before the run under test, and never from that run's own scatter:
a change that also makes a model less steady would widen its own tolerance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_vdb.errors import BadSetting
from pytest_vdb.gate.policy import Tolerance
from pytest_vdb.noise import Calibration
from pytest_vdb.records import Kind, Measurement

if TYPE_CHECKING:
    from pytest_vdb.gate import StoredSession

PAIRS = 3
"""Process pairs that are always allowed beside a base; where more are, they may not be needed."""


def check(name: str, kind: Kind | None, *, once: bool) -> None:
    """Raise BadSetting where ``auto`` cannot be known before the run under test.

    ``kind`` is that of a metric, None for a time or a peak; ``once``: it is taken once a run.
    """
    if kind is not None:
        raise BadSetting(
            f"{name}=auto: how far scores scatter is each change's own doing, and no property of "
            "the machine: one that scatters them more would widen its own tolerance. Give a share "
            "such as 2%; vdb doctor says what your prompts tell apart"
        )
    if once:
        raise BadSetting(
            f"{name}=auto: it is taken once a run, so vdb calibrate cannot tell how it varies; "
            "give a tolerance such as 10%, or off"
        )


def resolve(
    measurement: Measurement,
    stored: Sequence[StoredSession],
    calibration: Calibration | None,
    *,
    pairs: int | None,
    model: str,
) -> Tolerance:
    """What ``auto`` stands for; without it (``why`` says so) nothing can be judged.

    ``pairs`` is how many process pairs side by side may be run, None without a base; ``model`` is
    what ``vdb calibrate`` would be given.
    """
    if measurement.kind is Kind.MEMORY:
        return _floor(measurement, stored)
    if calibration is None:
        return _unknown(
            f"'auto' is what this machine tells apart, and nothing is known of {measurement.name} "
            f"here; run vdb calibrate --vdb-model={model}, or give a tolerance such as 5%"
        )
    from pytest_vdb.gate import rules

    if pairs is not None:
        share = rules.pairs_resolve(pairs, calibration.pair_sd)
    elif stored:
        values = [list(session.values.values()) for session in stored]
        if min(min(numbers) for numbers in values) <= 0:
            return Tolerance(auto=True)  # the rule says that it never measured
        share = rules.screen_resolves(values, calibration.session_sd)
    else:
        return Tolerance(auto=True)  # there is nothing to compare with
    if share >= 1:
        return _unknown(
            f"this machine tells no change of {measurement.name} below {share:.0%} apart: use a "
            "steadier one, or give a tolerance"
        )
    return Tolerance(share, auto=True)


def _floor(measurement: Measurement, stored: Sequence[StoredSession]) -> Tolerance:
    """Peaks repeat: the bytes that are always free are all that is."""
    from pytest_vdb.gate import rules

    highest = max((max(s.values.values()) for s in stored), default=0.0)
    return Tolerance(rules.slack_of(measurement) / highest if highest > 0 else 0.0, auto=True)


def _unknown(why: str) -> Tolerance:
    return replace(Tolerance(auto=True), why=why)
