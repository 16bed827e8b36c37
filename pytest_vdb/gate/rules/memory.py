"""Peak memory: exact, without a test, since allocators are repeatable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_vdb.gate.policy import Tolerance
from pytest_vdb.records import REPORTED, Measurement, State, Verdict

REPORTED_SLACK = 256 * 2**20
"""Bytes that an engine's or a server's own figure may rise by: it holds caches and contexts."""

MEMORY_SLACK = 2 * 2**20
"""Bytes of peak memory that never matter: allocator rounding."""


def slack_of(measurement: Measurement) -> int:
    """Bytes by which two peaks may differ and be the same."""
    return REPORTED_SLACK if measurement.provenance.version == REPORTED else MEMORY_SLACK


def peak_memory(
    new: Mapping[str, float],
    base: Sequence[Mapping[str, float]],
    *,
    tolerance: Tolerance,
    floor: float = MEMORY_SLACK,
) -> Verdict:
    """Peak bytes by sample against those of the stored sessions.

    A sample is above where its peak exceeds the largest one stored for it (for any sample, where
    it has none of its own) by more than the tolerance and ``floor`` bytes. REGRESSION where most
    samples are above, INCONCLUSIVE where fewer are and the run's peak is a new record: a leak
    grows from sample to sample, and an autotuner's work space comes and goes.
    """
    everything = [value for session in base for value in session.values()]
    lowest, highest = min(everything), max(everything)
    if lowest <= 0:
        return Verdict(State.UNMEASURED, "the baseline holds a peak of 0 bytes: it never measured")
    slack = max(highest * tolerance.value if tolerance.relative else tolerance.value, floor)
    peaks = list(new.values())
    seen: dict[str, Any] = {
        "effect": max(peaks) / highest - 1,
        "tolerance": str(tolerance),
        "n": len(peaks),
        "baseline": float(highest),
    }
    note = "; the baseline itself varies" if _varies(base) else ""
    above = [
        key
        for key, peak in new.items()
        if peak > max((s[key] for s in base if key in s), default=highest) + slack
    ]
    if 2 * len(above) > len(peaks):
        return Verdict(State.REGRESSION, "peak above the baseline's and the slack" + note, **seen)
    if above and max(peaks) > highest + slack:
        told = f"{len(above)} of {len(peaks)} samples peak above the baseline's and the slack"
        return Verdict(
            State.INCONCLUSIVE,
            f"{told} (first {above[0]}): a leak, or chance; more seeds tell{note}",
            **seen,
        )
    if max(peaks) < lowest - slack:
        return Verdict(State.IMPROVEMENT, "peak below the baseline's and the slack" + note, **seen)
    if all(session == dict(new) for session in base):
        return Verdict(State.IDENTICAL, "the same peaks to the byte", **seen)
    return Verdict(State.PASS, "changed by less than the slack" + note, **seen)


def _varies(base: Sequence[Mapping[str, float]]) -> bool:
    return any(dict(session) != dict(base[0]) for session in base)
