"""What latency, memory and energy mean: each measurement's definition, by name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import median

from pytest_vdb.errors import BadSetting, nearest
from pytest_vdb.measure.watch import STAGES
from pytest_vdb.records import Kind, Run, Sample


@dataclass(frozen=True)
class Figure:
    """What one measurement is: how it is taken, and where it lies in a sample or in the run.

    ``needs`` is the word of ``Source.provides`` without which it is NOT_APPLICABLE. ``sample``
    reads one sample's value, ``once`` the whole run's; None means that it was not measured.
    """

    how: str
    unit: str
    kind: Kind
    headline: str
    needs: str
    sample: Callable[[Sample], float | None] | None = None
    once: Callable[[Run], float | None] | None = None
    direction: str = "lower"


def _first_beyond_warm(run: Run) -> float | None:
    """Seconds of the first call beyond the median warm one."""
    times = [s.wall for s in run.samples if s.wall is not None]
    return run.first_call - median(times) if run.first_call and times else None


FIGURES: Mapping[str, Figure] = {
    "latency": Figure(
        "wall clock around one warm generation, device synchronised before and after",
        "s",
        Kind.LATENCY,
        "median",
        "latency",
        lambda s: s.wall,
    ),
    "latency.cpu": Figure(
        "process CPU time of one warm generation, all threads",
        "s",
        Kind.LATENCY,
        "median",
        "cpu_time",
        lambda s: s.cpu,
    ),
    "latency.step": Figure(
        "median time from one scheduler step to the next within one generation",
        "s",
        Kind.LATENCY,
        "median",
        "stages",
        lambda s: median(s.steps) if s.steps else None,
    ),
    "latency.queue": Figure(
        "from the request until the server began, as polled by the client",
        "s",
        Kind.LATENCY,
        "median",
        "throughput",
        lambda s: s.queue,
    ),
    "latency.first": Figure(
        "wall clock of the first generation after the load",
        "s",
        Kind.LATENCY,
        "median",
        "latency",
        once=lambda run: run.first_call,
    ),
    "latency.compile": Figure(
        "the first generation beyond the median warm one",
        "s",
        Kind.LATENCY,
        "median",
        "latency",
        once=_first_beyond_warm,
    ),
    "load": Figure(
        "wall clock of the load and the move to the device, libraries imported before",
        "s",
        Kind.LATENCY,
        "median",
        "load",
        once=lambda run: run.load,
    ),
    "throughput": Figure(
        "videos by the wall clock from the first request to the last answer",
        "1/s",
        Kind.LATENCY,
        "median",
        "throughput",
        once=lambda run: run.throughput,
        direction="higher",
    ),
    "memory.peak": Figure(
        "largest allocation of torch's CUDA allocator during one warm generation",
        "B",
        Kind.MEMORY,
        "max",
        "memory",
        lambda s: s.memory.get("allocated"),
    ),
    "memory.reserved": Figure(
        "largest reservation of torch's CUDA allocator during one warm generation",
        "B",
        Kind.MEMORY,
        "max",
        "memory",
        lambda s: s.memory.get("reserved"),
    ),
    "memory.cpu_peak": Figure(
        "peak of torch's CPU allocator over one traced, untimed generation; not device memory",
        "B",
        Kind.MEMORY,
        "max",
        "memory",
        once=lambda run: run.cpu_peak,
    ),
    "energy": Figure(
        "joules by the devices' own counters over one warm generation, idle power subtracted",
        "J",
        Kind.ENERGY,
        "median",
        "energy",
    ),
    "energy.gross": Figure(
        "joules by the devices' own counters over one warm generation, idle power included",
        "J",
        Kind.ENERGY,
        "median",
        "energy",
        lambda s: sum(s.energy.values()) if s.energy else None,
    ),
    "energy.per_second": Figure(
        "joules of one warm generation, idle power subtracted, over the seconds of its video",
        "J/s",
        Kind.ENERGY,
        "median",
        "energy",
    ),
    "energy.co2_per_second": Figure(
        "joules of one warm generation, idle power subtracted, times the grid's intensity, over "
        "the seconds of its video",
        "g/s",
        Kind.ENERGY,
        "median",
        "energy",
    ),
    "energy.co2": Figure(
        "joules by the devices' own counters, idle power subtracted, times the grid's intensity",
        "g",
        Kind.ENERGY,
        "median",
        "energy",
    ),
}

CARBON = ("energy.co2", "energy.co2_per_second")
NAMES = (
    *FIGURES,
    *(f"latency.{stage}" for stage in STAGES),
    *(f"memory.{stage}" for stage in STAGES),
    *(f"memory.cpu_{stage}" for stage in STAGES),
)
"""What every model may have; an engine may have other stages, and ``memory.rank<n>``."""


def figure(name: str) -> Figure:
    """What the measurement ``name`` is. Raises BadSetting."""
    if name in FIGURES:
        return FIGURES[name]
    family, _, part = name.partition(".")
    if family == "memory" and (rank := re.fullmatch(r"rank(\d+)", part)):
        return Figure(
            f"peak memory that rank {rank[1]} reports",
            "B",
            Kind.MEMORY,
            "max",
            "memory",
            lambda s: s.memory.get(f"rank.{rank[1]}"),
        )
    if family == "memory" and part.startswith("cpu_"):
        stage = part.removeprefix("cpu_")
        return replace(
            FIGURES["memory.cpu_peak"],
            how=f"peak of torch's CPU allocator while {stage} ran in one traced generation",
            once=lambda run: run.cpu_stages.get(stage),
        )
    if family == "memory" and part:
        return replace(
            FIGURES["memory.peak"],
            how=f"largest allocation of torch's CUDA allocator while {part} ran",
            sample=lambda s: s.memory.get(f"stage.{part}"),
        )
    if family == "latency" and part:
        how = f"exclusive time of {part} in one warm generation"
        return Figure(how, "s", Kind.LATENCY, "median", "stages", lambda s: s.stages.get(part))
    raise BadSetting(f"there is no measurement {name!r}: {nearest(name, NAMES)}")


def known(name: str) -> bool:
    """Whether a tolerance may be set for ``name``: an engine's own stage is any word that is not
    nearly one of ours."""
    if name in NAMES or name == "memory":
        return True
    word = re.fullmatch(r"(?:latency|memory)\.(?:cpu_)?([a-z][a-z0-9_]*)", name)
    ours = {key.rpartition(".")[2] for key in NAMES}
    return word is not None and not difflib.get_close_matches(word[1], ours, cutoff=0.75)
