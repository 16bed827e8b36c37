"""What a calibration does to the gate's error rates: simulated, with the shipped rules.

    python tools/calibration_study.py [--suites 1000]

Noise is that of ``noise_model.py``, and suites are those of ``gate_study.py``. Each suite is judged
on a machine of its own, which was calibrated once or three times by 4 process pairs. The table is
that of docs/calibration.md.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median

import numpy as np
from gate_study import GUARD_M, METRICS, SESSIONS, percent, trial
from noise_model import ASSUMED, Noise, process_pairs, sessions

from pytest_vdb import noise as nouns
from pytest_vdb.gate.calibration import estimate
from pytest_vdb.gate.policy import Tolerance
from pytest_vdb.gate.rules import LOOKS, PAIR_SD, fastest_half, latency_screen, pairs_resolve
from pytest_vdb.gate.rules.interleaved import BLOCKS
from pytest_vdb.noise import Calibrated, Calibration
from pytest_vdb.records import State

PAIRS = 4
TOLERANCE = Tolerance(0.05)
TIMES = {0: "no", 1: "once", 3: "on 3 days"}
SETTINGS = (
    ASSUMED,
    replace(ASSUMED, name="a steady machine", run=0.005, session=0.005, process=0.002, outliers=0),
    replace(ASSUMED, name="processes 2 %", process=0.02),
    replace(ASSUMED, name="processes 5 %", process=0.05),
    replace(ASSUMED, name="runs 10 %", run=0.1),
)


def calibrated(rng: np.random.Generator, noise: Noise, times: int) -> Calibration | None:
    """What ``vdb calibrate`` would have stored after so many days."""
    days = []
    for day in range(times):
        offset = noise.session * rng.standard_normal()
        offsets = noise.process * rng.standard_normal((2 * PAIRS, 1))
        runs = np.exp(offset + offsets + noise.runs(rng, (2 * PAIRS, BLOCKS)))
        seen = nouns.Noise(
            tuple(median(blocks) for blocks in process_pairs(rng, noise, PAIRS)),
            tuple(fastest_half(list(one)) for one in runs),
            noise.run,
            runs.size,
        )
        date = f"2026-01-{day + 1:02}T00:00:00Z"
        days.append(Calibrated(date, "", "w", 0.0, noise={"latency": seen}))
    return estimate(days, "latency") if days else None


def judge(
    rng: np.random.Generator,
    noise: Noise,
    known: Calibration | None,
    tolerance: Tolerance,
    effect: float,
) -> State:
    """One measurement through both stages."""
    base = [list(session) for session in sessions(rng, noise, SESSIONS)]
    (new,) = sessions(rng, noise, 1, effect)
    screen = {"session_sd": known.session_sd} if known else {}
    pair_sd = known.pair_sd if known else PAIR_SD
    first = latency_screen(list(new), base, tolerance=tolerance, guard_m=GUARD_M, **screen)
    if first.state in (State.PASS, State.IMPROVEMENT):
        return first.state
    return trial(rng, noise, effect, tolerance, LOOKS, pair_sd)[0].state


def rows(suites: int) -> Iterator[list[str]]:
    yield [
        *("noise", "calibrated", "tolerance", "false alarms: suites", "A/A cleared"),
        *("at twice the tolerance: convicted", "cleared"),
    ]
    for noise in SETTINGS:
        for times, how in ((0, "5%"), (1, "5%"), (3, "5%"), (3, "auto")):
            rng = np.random.default_rng(20261121)
            alarms, fine, convicted, missed, chosen = 0, 0, 0, 0, []
            for _ in range(suites):
                known = calibrated(rng, noise, times)
                tolerance = TOLERANCE
                if how == "auto":
                    assert known is not None
                    tolerance = Tolerance(pairs_resolve(3, known.pair_sd))
                chosen.append(tolerance.value)
                states = [judge(rng, noise, known, tolerance, 0.0) for _ in range(METRICS)]
                alarms += State.REGRESSION in states
                fine += sum(s in (State.PASS, State.IMPROVEMENT) for s in states)
                slow = math.log1p(2 * tolerance.value)
                slower = [judge(rng, noise, known, tolerance, slow) for _ in range(4)]
                convicted += slower.count(State.REGRESSION)
                missed += sum(s in (State.PASS, State.IMPROVEMENT) for s in slower)
            shown = f"auto: {100 * median(chosen):.2g}%" if how == "auto" else how
            yield [
                *(noise.name, TIMES[times], shown, f"{alarms} of {suites}"),
                percent(fine / suites / METRICS),
                *(percent(convicted / suites / 4), percent(missed / suites / 4)),
            ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suites", type=int, default=1000)
    for index, cells in enumerate(rows(parser.parse_args(argv).suites)):
        print(f"| {' | '.join(cells)} |", flush=True)
        if index == 0:
            print("|" + " --- |" * len(cells))


if __name__ == "__main__":
    main()
