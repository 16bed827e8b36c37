"""Latency, memory and energy: the series of each measurement from a finished run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from statistics import median

from pytest_vdb.environment import package
from pytest_vdb.errors import Unmeasured, nearest
from pytest_vdb.gate.policy import tolerance_for
from pytest_vdb.measure.watch import STAGES
from pytest_vdb.models.sources import provides
from pytest_vdb.quantities import CARBON, FIGURES, NAMES, Figure, figure, known
from pytest_vdb.records import (
    REPORTED,
    TIMED,
    Kind,
    Measurement,
    Missing,
    ModelSpec,
    Provenance,
    Run,
    Sample,
    Value,
)

__all__ = [
    "NAMES",
    "Conditions",
    "Figure",
    "absent",
    "figure",
    "known",
    "measured",
    "unknown_stage",
]


@dataclass(frozen=True)
class Conditions:
    """Where a run was made, and what that rules out.

    ``label`` is the device as a provenance says it, ``crowded`` why latency cannot be measured
    here, ``served`` whether a server generates, ``grid`` g CO2 a kWh, ``tolerance`` what was chosen
    by measurement name.
    """

    device: str
    label: str
    crowded: str = ""
    served: bool = False
    grid: float | None = None
    tolerance: Mapping[str, str] | None = None


def is_once(name: str) -> bool:
    """Whether ``name`` is a time or an energy of a whole run, and not of each generation."""
    what = figure(name)
    return what.kind is not Kind.MEMORY and what.once is not None


def absent(name: str, spec: ModelSpec, where: Conditions) -> Measurement | None:
    """The measurement where it is known before anything is generated that there is none."""
    what = figure(name)
    on_cpu = where.device == "cpu"
    if what.needs not in provides(spec):
        why = f"a model of source {spec.source!r} has no {what.needs}"
        return _nothing(name, where, Missing.NOT_APPLICABLE, why)
    if not on_cpu and name.startswith("memory.cpu_"):
        why = f"the model runs on {where.device}; see vdb.memory"
        return _nothing(name, where, Missing.NOT_APPLICABLE, why)
    if what.kind in TIMED and name != "load" and where.crowded:
        return _nothing(name, where, Missing.UNMEASURED, where.crowded)
    return None


def measured(name: str, spec: ModelSpec, run: Run, where: Conditions) -> Measurement:
    """The measurement ``name`` of a finished run; without values it says why."""
    what = figure(name)
    if what.needs not in run.provides:
        why = f"{spec.name} reports no {what.needs}"
        return _nothing(name, where, Missing.NOT_APPLICABLE, why)
    if what.kind is Kind.LATENCY and "fewer" in run.facts:
        return _nothing(name, where, Missing.UNMEASURED, run.facts["fewer"])
    if not run.hooked and what.kind is Kind.ENERGY and name != "energy.gross":
        why = f"{spec.name} reports energy with idle power in it; see vdb.energy.gross"
        return _nothing(name, where, Missing.NOT_APPLICABLE, why)
    try:
        values = list(_values(name, what, run, where))
    except Unmeasured as error:
        return _nothing(name, where, Missing.UNMEASURED, str(error))
    if not values:
        return _nothing(name, where, *_why_nothing(name, spec, run, where))
    lacking = [s.key for s in run.samples] if what.once is None else []
    if lacking and len(values) < len(lacking):
        taken = {value.key for value in values}
        why = f"not measured for {', '.join(key for key in lacking if key not in taken)}"
        return _nothing(name, where, Missing.UNMEASURED, why)
    measurement = _measurement(name, where, values, reported=_reported(name, run))
    if what.kind is Kind.ENERGY and run.idle_power:
        idle = ", ".join(f"{meter} {watts:.1f} W" for meter, watts in run.idle_power.items())
        how = f"{measurement.provenance.how}; at rest: {idle}"
        measurement = replace(measurement, provenance=replace(measurement.provenance, how=how))
    if why := _too_coarse(measurement, run, where):
        return _nothing(name, where, Missing.UNMEASURED, why)
    return measurement


def _values(name: str, what: Figure, run: Run, where: Conditions) -> Iterator[Value]:
    if what.once is not None:
        if (number := what.once(run)) is not None:
            yield Value("", None, number)
        return
    read = what.sample or (lambda s: _net(s, run.idle_power))
    if name in CARBON and where.grid is None:
        return
    for sample in run.samples:
        if (number := read(sample)) is None:
            continue
        if name in CARBON:
            number = _grams(number, where)
        if name.endswith("per_second"):
            number /= _length(sample)
        yield Value(sample.prompt, sample.seed, number)


def _length(sample: Sample) -> float:
    """Seconds that the video lasts. Raises Unmeasured."""
    if not sample.fps:
        raise Unmeasured(f"the video of {sample.key} does not say its frames a second")
    return sample.shape[0] / sample.fps


def _grams(joules: float, where: Conditions) -> float:
    from pytest_vdb.measure.carbon import grams

    assert where.grid is not None
    return grams(joules, where.grid)


def _net(sample: Sample, idle: Mapping[str, float]) -> float | None:
    """Joules beyond what the same meters draw at rest. Raises Unmeasured."""
    if not sample.energy or sample.wall is None:
        return None
    from pytest_vdb.measure.energy import net

    return sum(net(sample.energy, idle, sample.wall).values())


def _why_nothing(name: str, spec: ModelSpec, run: Run, where: Conditions) -> tuple[Missing, str]:
    """Which kind of absence it is that no sample has a value, and why."""
    family, _, part = name.partition(".")
    if family == "memory" and where.device == "cpu" and not part.startswith("cpu_"):
        why = "a CPU has no device memory; vdb.memory.cpu_peak is its allocator's peak"
        return Missing.NOT_APPLICABLE, why
    if name in CARBON and where.grid is None:
        return Missing.UNMEASURED, "the grid's intensity is not known; give --vdb-grid=G_PER_KWH"
    if family == "memory" and not run.hooked and any(s.memory for s in run.samples):
        told = dict.fromkeys(key for s in run.samples for key in s.memory)
        return Missing.NOT_APPLICABLE, f"{spec.name} reports {', '.join(told)} alone"
    if name in ("latency.first", "latency.compile") and run.samples:
        why = "this pipeline had generated before; the first workload after a load measures it"
        return Missing.NOT_APPLICABLE, why
    if where.served and name.startswith("latency"):
        why = "the server does not say when it began: with concurrency=1 all of it is service"
        return (Missing.NOT_APPLICABLE if name == "latency.queue" else Missing.UNMEASURED), why
    if family == "energy":
        return Missing.UNMEASURED, run.facts.get("unmetered") or "the meters gave no value"
    if family in ("latency", "memory") and part in STAGES:
        stages = dict.fromkeys(stage for s in run.samples for stage in s.stages)
        if stages:
            why = f"{spec.name} has no stage {part}; it has {', '.join(stages)}"
            return Missing.NOT_APPLICABLE, why
    return Missing.UNMEASURED, "the runner gave no value for it"


def unknown_stage(name: str, run: Run) -> str:
    """What is wrong with the stage in ``latency.<stage>``, or nothing: a typo must not pass."""
    family, _, part = name.partition(".")
    stage = part.removeprefix("cpu_") if family == "memory" else part
    stages = dict.fromkeys((*STAGES, *(stage for s in run.samples for stage in s.stages)))
    ranked = family == "memory" and re.fullmatch(r"rank\d+", part)
    if name in FIGURES or stage in stages or ranked:
        return ""
    return f"there is no stage {stage!r}: {nearest(stage, stages)}"


def _reported(name: str, run: Run) -> bool:
    """Whether the number is the engine's or the server's own word."""
    if name == "latency":
        return any(sample.reported for sample in run.samples)
    return not run.hooked and figure(name).needs in ("memory", "stages", "energy")


def _too_coarse(measurement: Measurement, run: Run, where: Conditions) -> str:
    """Why a polled latency says nothing: its resolution is over a quarter of the tolerance."""
    if "resolution" not in run.facts or measurement.name != "latency":
        return ""
    from pytest_vdb.models.server_report import too_coarse

    name, kind = measurement.name, measurement.kind
    tolerance = tolerance_for(name, kind, where.device, where.tolerance or {})
    if tolerance.off or tolerance.auto:
        return ""
    seconds = tolerance.value * (median(measurement.numbers) if tolerance.relative else 1)
    return too_coarse(float(run.facts["resolution"]), seconds) or ""


def _measurement(
    name: str, where: Conditions, values: Iterable[Value], *, reported: bool = False
) -> Measurement:
    what = figure(name)
    how = what.how if not reported else f"reported by the model itself: {name}"
    if where.served and name == "latency":
        how = "from the end of the queue to the answer, as this client saw them"
    provenance = Provenance(
        how,
        version=REPORTED if reported else "1",
        device=where.label,
        package=f"torch {package('torch')}",
    )
    return Measurement(
        name, what.unit, what.direction, what.kind, what.headline, tuple(values), provenance
    )


def _nothing(name: str, where: Conditions, missing: Missing, reason: str) -> Measurement:
    return replace(_measurement(name, where, ()), missing=missing, reason=reason)
