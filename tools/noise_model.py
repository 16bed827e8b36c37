"""Simulated measurements: times of a machine whose noise is a model, and scores of two seeds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from pytest_vdb.gate.rules.interleaved import BLOCKS, block_ratios

VIDEOS = 5
"""Of a session."""
ORDER = np.resize([0, 1, 1, 0], 2 * BLOCKS)
"""Whose turn it is: base (0) or candidate (1)."""


@dataclass(frozen=True)
class Noise:
    """Of the logarithm of run times."""

    name: str = "as assumed"
    run: float = 0.02
    session: float = 0.02
    process: float = 0.005
    ar: float = 0.3
    outliers: float = 0.05
    heavy: bool = False
    drift: float = 0.0

    def runs(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Log times of consecutive runs (the last axis) around 0."""
        if self.heavy:
            steps = rng.standard_t(3, shape) / math.sqrt(3)
        else:
            steps = rng.standard_normal(shape)
        values = np.empty(shape)
        values[..., 0] = steps[..., 0]
        for i in range(1, shape[-1]):
            values[..., i] = self.ar * values[..., i - 1]
            values[..., i] += math.sqrt(1 - self.ar**2) * steps[..., i]
        late = np.where(rng.random(shape) < self.outliers, math.log(1.3), 0.0)
        ramp = np.linspace(0, self.drift, shape[-1])
        return np.asarray(self.run * values + late + ramp)


ASSUMED = Noise()
SETTINGS = (
    ASSUMED,
    replace(ASSUMED, name="heavy tails (t, 3 df)", heavy=True),
    replace(ASSUMED, name="drift of 5 % while a process lives", drift=0.05),
    replace(ASSUMED, name="AR(1) .7", ar=0.7),
    replace(ASSUMED, name="20 % outliers", outliers=0.2),
    replace(ASSUMED, name="sessions 3 %", session=0.03),
    replace(ASSUMED, name="runs 5 %", run=0.05),
    replace(ASSUMED, name="runs 10 %", run=0.1),
    replace(ASSUMED, name="processes 2 %", process=0.02),
    replace(ASSUMED, name="processes 5 %", process=0.05),
    replace(ASSUMED, name="processes 15 %", process=0.15),
)


def sessions(rng: np.random.Generator, noise: Noise, k: int, effect: float = 0.0) -> np.ndarray:
    """(k, VIDEOS) seconds of k sessions, each with an offset of its own."""
    offsets = rng.standard_normal((k, 1)) * math.hypot(noise.session, noise.process)
    return np.exp(effect + offsets + noise.runs(rng, (k, VIDEOS)))


def process_pairs(
    rng: np.random.Generator, noise: Noise, n: int, effect: float = 0.0
) -> list[list[float]]:
    """The block ratios of n process pairs: blocks AB BA AB …, of one generation each."""
    runs = noise.runs(rng, (n, 2 * BLOCKS))
    runs += rng.standard_normal((n, 2))[:, ORDER] * noise.process + effect * ORDER
    base, new = np.exp(runs[:, ORDER == 0]), np.exp(runs[:, ORDER == 1])
    return [block_ratios(list(a), list(b)) for a, b in zip(base, new, strict=True)]


def scores(
    rng: np.random.Generator, prompts: int, sd: float, shape: str, effect: float
) -> tuple[dict[str, float], dict[str, float]]:
    """New and base scores around 1 of two seeds a prompt, whose changes go together by half."""
    draw: dict[str, Callable[[tuple[int, int]], np.ndarray]] = {
        "normal": rng.standard_normal,
        "heavy tails (t, 3 df)": lambda size: rng.standard_t(3, size) / math.sqrt(3),
        "skewed (log-normal)": lambda size: skewed(rng, size),
    }
    change = sd * math.sqrt(0.5) * (draw[shape]((prompts, 1)) + draw[shape]((prompts, 2)))
    base = 1 + 0.1 * rng.standard_normal((prompts, 2))
    keys = [f"p{i}/{seed}" for i in range(prompts) for seed in range(2)]
    new = base + change - effect
    return dict(zip(keys, new.ravel(), strict=True)), dict(zip(keys, base.ravel(), strict=True))


def skewed(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Mean 0, sd 1, with its tail on the side of a fall."""
    sigma = 0.8
    mean, variance = math.exp(sigma**2 / 2), (math.exp(sigma**2) - 1) * math.exp(sigma**2)
    return np.asarray((mean - rng.lognormal(0, sigma, size)) / math.sqrt(variance))
