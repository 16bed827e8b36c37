"""One calibration: the same code on both sides of a trial, and what they nevertheless differ by."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median

from pytest_vdb.gate.calibration import autocorrelation, run_spread
from pytest_vdb.measure.runner import Job
from pytest_vdb.noise import Noise
from pytest_vdb.records import Measurement, Run
from pytest_vdb.trial.base import candidate
from pytest_vdb.trial.interleave import Pair, Trial

Read = Callable[[str, Run], Measurement]
"""The measurement of this name in a run."""


def trial_of(
    job: Job,
    steps: int,
    budget: Callable[[], float | None],
) -> Trial:
    """A trial of ``job`` beside a second copy of itself."""
    twin = replace(candidate(), label="a second copy")
    nothing = Run(())  # no run tells what a pair takes: the first pair does
    return Trial(job, twin, candidate(), steps, nothing, budget=budget, same_code=True)


def noise_of(pairs: Sequence[Pair], names: Sequence[str], read: Read) -> dict[str, Noise]:
    """What the pairs say of each measurement; without those that not every generation has."""
    found = {name: _noise(pairs, name, read) for name in names}
    return {name: noise for name, noise in found.items() if noise is not None}


def _noise(pairs: Sequence[Pair], name: str, read: Read) -> Noise | None:
    from pytest_vdb.gate import rules

    blocks = [(_numbers(read(name, p.base)), _numbers(read(name, p.candidate))) for p in pairs]
    every = [_numbers(read(name, run)) for pair in pairs for run in pair.every]
    if not all(a and b for a, b in blocks) or not all(every):
        return None
    logs = [[math.log(value) for value in runs] for runs in every]
    return Noise(
        pairs=tuple(median(rules.block_ratios(a, b)) for a, b in blocks),
        levels=tuple(rules.fastest_half(runs) for runs in every),
        run_sd=run_spread(logs).sd,
        runs=sum(map(len, logs)),
        ar1=autocorrelation(logs),
    )


def _numbers(measurement: Measurement) -> list[float]:
    """The values, where all can have a logarithm."""
    numbers = measurement.numbers
    return numbers if all(number > 0 for number in numbers) else []
