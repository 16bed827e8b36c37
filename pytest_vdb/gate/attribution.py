"""What changed, where and of what kind: two traces, what the gate said, and both machines' facts.

Nothing here moves a verdict: it explains one. Pure; docs/attribution.md has the figures behind the
bands.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_vdb.records import TIMED, Kind, Record, State
from pytest_vdb.traces import CONDITIONING, GUIDED, INITIAL, Point, Trace
from pytest_vdb.units import show

DRIFT = 1e-3
"""A relative difference up to which a component's output differs as rounding does,"""
ROUNDINGS = 4
"""or up to so many units of its dtype's rounding, where that is more."""
JUMP = 5.0
"""A later difference is where it began if it is this many times all before it."""

EPS = {
    "float64": 2.0**-52,
    "float32": 2.0**-23,
    "float16": 2.0**-10,
    "bfloat16": 2.0**-7,
    "float8_e4m3fn": 2.0**-3,
    "float8_e5m2": 2.0**-2,
}
"""Distance from 1 to the next number, by dtype."""

BUSIER = 0.5
"""Processes a core (load) more than in the baseline's run that count as a busy machine."""
SLOWER_CLOCK = 0.95
"""Clock, as a share of the baseline's, below which it is named."""

WORSE = (State.REGRESSION, State.INCONCLUSIVE, State.ACCEPTED)
CLEARED = (State.PASS, State.IDENTICAL, State.IMPROVEMENT)
NOT_GENERATING = ("load", "latency.first", "latency.compile", "latency.queue")


@dataclass(frozen=True)
class Finding:
    """What the gate says of one measurement."""

    name: str
    kind: Kind
    state: State


@dataclass(frozen=True)
class Side:
    """One side of a comparison: what was traced of it, and how it ran.

    ``seconds`` and ``memory`` (bytes) are by stage, ``versions`` by package; ``conditions`` are
    those of `measure.trace.conditions` and ``workers``. What is not known is empty; ``reason``
    says why there is no trace.
    """

    trace: Trace | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    conditions: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class Divergence(Record):
    """The first output that differs by more than what came before it explains.

    ``size`` is |new − base| as a share of |base|, None where the two cannot be subtracted; then
    ``what`` says why. ``drift``: as small as rounding. ``before`` is the output before it, and
    ``before_size`` how far that differed already (0: bit for bit equal).
    """

    stage: str
    step: int
    part: str
    size: float | None
    drift: bool
    what: str = ""
    before: str = ""
    before_size: float = 0.0

    @property
    def where(self) -> str:
        place = f"denoise step {self.step}" if self.step else self.stage
        return f"{place}, {self.part}"


@dataclass(frozen=True)
class Share(Record):
    """Which stage took what a total rose by: seconds, or bytes of a peak.

    ``share`` is ``rise`` over ``total``; None where the total did not rise, and of peaks, which do
    not add up.
    """

    stage: str
    rise: float
    total: float
    share: float | None


@dataclass(frozen=True)
class Attribution(Record):
    """``kinds`` are among ``quality regressed``, ``stack changed``, ``infrastructure``,
    ``bit drift``, ``changed``, ``same numbers``, the likeliest cause first; ``quality`` is
    ``neutral``, ``regressed``, ``undecided`` or ``not judged``.
    """

    kinds: tuple[str, ...]
    quality: str
    first: Divergence | None
    time: Share | None
    memory: Share | None
    stack: tuple[str, ...]
    infrastructure: tuple[str, ...]
    summary: str = ""
    text: str = ""


def attribute(base: Side, new: Side, findings: Sequence[Finding]) -> Attribution | None:
    """What explains ``findings``; None where nothing got worse and no traced number moved."""
    both = base.trace is not None and new.trace is not None
    first = diverged(base.trace, new.trace) if base.trace and new.trace else None
    worse = [f for f in findings if f.state in WORSE]
    slower = [f for f in worse if f.kind in TIMED and f.name not in NOT_GENERATING]
    larger = [f for f in worse if f.kind is Kind.MEMORY]
    if first is None and not worse:
        return None
    stack = tuple(_stack(base, new))
    busy = tuple(_infrastructure(base.conditions, new.conditions)) if slower else ()
    quality = _quality(findings)
    kinds = {
        "quality regressed": quality == "regressed",
        "stack changed": bool(stack),
        "infrastructure": bool(busy),
        "bit drift": first is not None and first.drift,
        "changed": first is not None and not first.drift,
        "same numbers": both and first is None,
    }
    found = Attribution(
        tuple(kind for kind, holds in kinds.items() if holds),
        quality,
        first,
        _time(base.seconds, new.seconds) if slower else None,
        _memory(base.memory, new.memory) if larger else None,
        stack,
        busy,
    )
    told = {**found.__dict__, "summary": _summary(found)}
    told["text"] = " ".join(_sentences(found, base, new))
    return Attribution(**told)


# ---------------------------------------------------------------- where


def diverged(base: Trace, new: Trace) -> Divergence | None:
    """Where ``new`` begins to differ from ``base``; None where all is equal bit for bit.

    It is the first output that differs at all, unless a later one differs by more than rounding
    does and by `JUMP` times what came before: then there was drift already, and it began there.
    """
    first, most, before, before_size = None, 0.0, "", 0.0
    for point, other in _pairs(base, new):
        size, what = _size(point, other)
        if what or size:
            limit = _band(point or other, base, new)
            drift = not what and size <= limit
            if first is None or what or (not drift and size > JUMP * most):
                there = point or other
                assert there is not None
                share = None if what else size
                found = Divergence(
                    there.stage, there.step, there.part, share, drift, what, before, before_size
                )
                if not drift:
                    return found
                first = first or found
        most = max(most, size)
        if point or other:
            before, before_size = (point or other).part, size  # type: ignore[union-attr]
    return first


def _pairs(base: Trace, new: Trace) -> Iterator[tuple[Point | None, Point | None]]:
    """Points of both in the order of time. One that one side alone has counts for a component:
    blocks may be compiled, and are then not seen."""
    every = max(base.every, new.every)
    ours = {p.key: p for p in base.points if p.step <= 1 or p.step % every == 0}
    theirs = {p.key: p for p in new.points if p.step <= 1 or p.step % every == 0}
    order = {key: float(i) for i, key in enumerate(theirs)}
    last = -1.0
    for key in ours:
        last = order.setdefault(key, last + 0.5)
    for key in sorted(order, key=lambda k: order[k]):
        pair = ours.get(key), theirs.get(key)
        if all(pair) or not ("." in key[2] or key[2] in (INITIAL, CONDITIONING)):
            yield pair


def _size(base: Point | None, new: Point | None) -> tuple[float, str]:
    """The relative difference, or 0 and what makes the two incomparable."""
    if base is None or new is None:
        shown = base or new
        assert shown is not None
        if shown.part == GUIDED:
            return 0.0, "is not applied any more" if new is None else "is applied, and was not"
        return 0.0, "is not called any more" if new is None else "is called, and was not"
    if base.shape != new.shape:
        return 0.0, f"its shape is {_shape(new)}, was {_shape(base)}"
    if base.crc == new.crc:
        return 0.0, ""
    if base.norm is None or new.norm is None:
        if base.norm is not None:
            return 0.0, "it has values that are NaN or infinite"
        return 0.0, "" if new.norm is None else "its values are finite, and were not"
    difference = math.dist(base.projection, new.projection) / math.sqrt(len(base.projection))
    # Where the values differ somewhere, it is never told as equal.
    return max(difference / (base.norm or new.norm or 1.0), 1e-12), ""


def _shape(point: Point) -> str:
    return "×".join(map(str, point.shape))


def _band(point: Point | None, base: Trace, new: Trace) -> float:
    """The largest difference that this component's rounding explains."""
    assert point is not None
    kinds = [*base.dtypes.items(), *new.dtypes.items()]
    component = point.part.partition(".")[0]
    own = [dtype for name, dtype in kinds if name == component] or [dtype for _, dtype in kinds]
    return max(DRIFT, ROUNDINGS * max((EPS.get(dtype, 0.0) for dtype in own), default=0.0))


# ---------------------------------------------------------------- what else


def _quality(findings: Sequence[Finding]) -> str:
    states = [f.state for f in findings if f.kind is Kind.SCORE]
    if State.REGRESSION in states or State.ACCEPTED in states:
        return "regressed"
    if not any(state in CLEARED for state in states):
        return "undecided" if State.INCONCLUSIVE in states else "not judged"
    return "neutral" if all(state in CLEARED for state in states) else "undecided"


def _stack(base: Side, new: Side) -> Iterator[str]:
    """``diffusers 0.41.0 → 0.42.0`` for each package.

    A side with a trace names all that it has installed; without one, what it leaves out is not
    known.
    """
    ours, theirs = new.versions, base.versions
    if not ours or not theirs:
        return
    names = {*ours, *theirs} if base.trace and new.trace else {*ours} & {*theirs}
    for name in sorted(names):
        if theirs.get(name) != ours.get(name):
            yield f"{name} {theirs.get(name, '–')} → {ours.get(name, '–')}"


def _infrastructure(base: Mapping[str, float], new: Mapping[str, float]) -> Iterator[str]:
    def told(name: str) -> tuple[float, float] | None:
        return (base[name], new[name]) if name in base and name in new else None

    if (pair := told("workers")) and pair[0] != pair[1]:
        yield f"{pair[1]:.0f} workers, {pair[0]:.0f} in the baseline's run"
    if (pair := told("load")) and pair[1] - pair[0] > BUSIER:
        yield f"a load of {pair[1]:.1f} a core, {pair[0]:.1f} in the baseline's run"
    if (pair := told("throttled")) and pair[1] > pair[0]:
        yield "the GPU's clocks were held back by power or heat"
    if (pair := told("clock")) and pair[1] < SLOWER_CLOCK * pair[0]:
        yield f"the GPU's clock at {pair[1]:.0%} of its highest, {pair[0]:.0%} in the baseline's"
    if (pair := told("processes")) and pair[1] > pair[0]:
        yield f"{pair[1]:.0f} processes on the GPU, {pair[0]:.0f} in the baseline's run"


def _time(base: Mapping[str, float], new: Mapping[str, float]) -> Share | None:
    if not base or not new:
        return None
    rises = {stage: new.get(stage, 0.0) - base.get(stage, 0.0) for stage in {**new, **base}}
    stage = max(rises, key=lambda s: rises[s])
    total = sum(rises.values())
    if rises[stage] <= 0:
        return None  # slower than an older session, and not than the one that was traced
    return Share(stage, rises[stage], total, rises[stage] / total if total > 0 else None)


def _memory(base: Mapping[str, int], new: Mapping[str, int]) -> Share | None:
    if not base or not new:
        return None
    rises = {stage: float(new[stage] - base.get(stage, 0)) for stage in new}
    stage = max(rises, key=lambda s: rises[s])
    return Share(stage, rises[stage], float(max(new.values()) - max(base.values())), None)


# ---------------------------------------------------------------- in words


def _summary(found: Attribution) -> str:
    """``changed, bit drift (1e-06), quality neutral``."""
    parts = ["infrastructure"] if found.infrastructure else []
    parts += [f"stack changed ({', '.join(found.stack[:3])})"] if found.stack else []
    if found.first is not None:
        how = "bit drift" if found.first.drift else "more than rounding"
        size = "" if found.first.size is None else f" ({found.first.size:.1g})"
        parts += ["changed", f"{how}{size}", f"quality {found.quality}"]
    elif "same numbers" in found.kinds:
        parts.append("the traced numbers are the same")
    return ", ".join(parts)


def _sentences(found: Attribution, base: Side, new: Side) -> Iterator[str]:
    if base.trace is None or new.trace is None:
        yield f"Where it began is not known: {base.reason or new.reason}."
    elif found.first is None:
        yield "The traced numbers are the baseline's, bit for bit."
    else:
        yield _where(found.first)
        for name, dtype in new.trace.dtypes.items():
            if (before := base.trace.dtypes.get(name, dtype)) != dtype:
                yield f"The {name}'s weights are {dtype}, were {before}."
        if found.first.drift:
            yield f"Bit drift, as rounding leaves it; quality {found.quality}."
    if found.time is not None:
        yield _where_time(found.time)
    if found.memory is not None:
        yield _where_memory(found.memory)
    if found.stack:
        yield f"The stack changed: {', '.join(found.stack)}."
    if found.infrastructure:
        yield f"Perhaps the machine: {'; '.join(found.infrastructure)}."


def _where(first: Divergence) -> str:
    size = f" ({first.size:.2g} of its norm)" if first.size is not None else f" {first.what}"
    if not first.before:
        return f"First difference: {first.where}{size}."
    agrees = "agrees" if not first.before_size else f"agrees to {first.before_size:.1g}"
    return f"First difference: {first.where}{size}; the output before it ({first.before}) {agrees}."


def _where_time(time: Share) -> str:
    rise = f"{time.rise:+.2g} s"
    if time.share is None:
        return f"No more time in all; {time.stage} took {rise}."
    return f"Of {time.total:+.2g} s, {time.stage} took {rise} ({time.share:.0%})."


def _where_memory(memory: Share) -> str:
    if memory.rise <= 0:
        return "No stage's peak rose against the baseline's last run."
    return f"The peak of {memory.stage} rose by {show(memory.rise, 'B')}."
