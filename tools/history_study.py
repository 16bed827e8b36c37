"""How often `vdb history` tells a change that is none, and how often one that is: docs/history.md.

Sessions are lognormal about a level, some of them outliers. Run: python tools/history_study.py
"""

from __future__ import annotations

import argparse

import numpy as np

from pytest_vdb.report.changes import find

SESSIONS = (8, 12, 25, 50, 100)
JUMPS = (2.0, 3.0, 5.0)
"""Steps in the middle of a series, in standard deviations of a session."""
SD = 0.02
OUTLIER = 4.0
ALIKE = 0.5
"""Correlation of a session with the one before it, as on a machine whose speed drifts."""


def series(
    random: np.random.Generator, n: int, jump: float, outliers: float, alike: float
) -> list[float]:
    noise = random.normal(0, 1, n)
    for i in range(1, n if alike else 0):
        noise[i] = alike * noise[i - 1] + (1 - alike**2) ** 0.5 * noise[i]
    noise += OUTLIER * (random.random(n) < outliers)
    noise[n // 2 :] += jump
    return [float(value) for value in np.exp(SD * noise)]


def share(
    seed: int, trials: int, n: int, jump: float, outliers: float = 0.0, alike: float = 0.0
) -> float:
    """Of the series without a step, those with any change; with one, those with one near it."""
    random = np.random.default_rng([seed, n, int(10 * jump), int(100 * outliers)])
    told = 0
    for _ in range(trials):
        found = find(series(random, n, jump, outliers, alike))
        told += any(abs(one.index - n // 2) <= 1 for one in found) if jump else bool(found)
    return told / trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    steps = (f"step of {jump:g} sd" for jump in JUMPS)
    heads = ["no step", "no step, 5 % outliers", "no step, neighbours alike", *steps]
    print("| sessions | " + " | ".join(heads) + " |")
    print("|---|" + "---|" * len(heads))
    for n in SESSIONS:
        cells = [
            share(options.seed, options.trials, n, 0),
            share(options.seed, options.trials, n, 0, 0.05),
            share(options.seed, options.trials, n, 0, alike=ALIKE),
            *(share(options.seed, options.trials, n, jump) for jump in JUMPS),
        ]
        print(f"| {n} | " + " | ".join(f"{100 * cell:.1f} %" for cell in cells) + " |")


if __name__ == "__main__":
    main()
