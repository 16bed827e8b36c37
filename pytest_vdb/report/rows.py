"""One measurement with its verdict, in words."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_vdb.records import Json, Kind, Measurement, State, Verdict
from pytest_vdb.statistic import summarize
from pytest_vdb.units import show

NOT_REACHED = "not reached: "
"""How the reason of a measurement begins that an error took the place of: its class and words."""


def parsed(entry: Mapping[str, Json]) -> tuple[Measurement, Verdict]:
    """A measurement of docs/json.md as the nouns."""
    return Measurement.from_run(entry), Verdict.from_json(entry["verdict"])


def repeats(failure: str, m: Measurement, verdict: Verdict) -> bool:
    """Whether ``failure`` is what was raised in place of this measurement's value."""
    raised = f"Unmeasured: {m.name} is UNMEASURED: "
    if verdict.reason.startswith(NOT_REACHED):
        raised = verdict.reason.removeprefix(NOT_REACHED)
    return verdict.state is State.UNMEASURED and failure.startswith(raised)


def label(m: Measurement, verdict: Verdict) -> str:
    """The state, but for what was measured and not judged: that passed no test of ours."""
    if verdict.state is State.PASS and m.kind is Kind.DISTANCE:
        return "changed"
    if verdict.state is State.NOT_APPLICABLE and m.values:
        return "not gated"
    return verdict.state.value


def value(m: Measurement) -> str:
    """The headline statistic with its unit, or a dash."""
    return show(summarize(m)[m.headline], m.unit) if m.values else "–"


def baseline(m: Measurement, verdict: Verdict) -> str:
    return "–" if verdict.baseline is None else show(verdict.baseline, m.unit)


def change(verdict: Verdict) -> str:
    """The effect with its interval: ``+3.1% [+1.2, +5.0]``."""
    if verdict.effect is None:
        return "–"
    if verdict.state is State.IDENTICAL:
        return "none"
    if verdict.relative:
        effect = f"{100 * verdict.effect:+.1f}%"
        bounds = [f"{100 * bound:+.1f}" for bound in verdict.interval or ()]
    else:
        effect = f"{verdict.effect:+.3g}"
        bounds = [f"{bound:+.3g}" for bound in verdict.interval or ()]
    return f"{effect} [{', '.join(bounds)}]" if bounds else effect


def sentence(m: Measurement, verdict: Verdict) -> str:
    """``REGRESSION latency.cpu: 0.31 s, was 0.15 s, +105% [..], tolerance 25%: why``."""
    parts = []
    if m.values:
        parts.append(f"{m.headline} {value(m)}")
    if verdict.baseline is not None:
        parts.append(f"baseline {baseline(m, verdict)}")
    if verdict.effect is not None:
        parts.append(change(verdict))
    if verdict.tolerance and verdict.tolerance != "off":
        parts.append(f"tolerance {verdict.tolerance}")
    if verdict.p is not None:
        parts.append(f"p {verdict.p:.2g}")
    if verdict.n:
        parts.append(f"n {verdict.n}")
    facts = f": {', '.join(parts)}" if parts else ""
    return f"{verdict.state} {m.name}{facts}. {_whole(verdict.reason, m.name)}"


def _whole(reason: str, name: str) -> str:
    """``reason`` as a sentence: its first letter large, but for a name's, and with its end."""
    first = reason.partition(" ")[0].rstrip(",;")
    named = first == name or not {*first}.isdisjoint("_.-:")
    begun = reason if named else reason[:1].upper() + reason[1:]
    return begun if begun.endswith((".", "?", "!")) else f"{begun}."
