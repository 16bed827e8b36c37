"""What timing the stages of a pipeline costs.

    python tools/stage_cost.py [BLOCKS] [MODEL ...]

Calls tiny models (5 frames) without and with a `StageClock` in one process on one thread, and
prints a Markdown table. A block is six calls in random order: two plain, two plain again as a
control, two watched. "watched" and "control" are the medians over blocks of the CPU time beyond the
plain calls', with 95 % intervals: the control costs nothing, so what it shows is this machine's
noise, and a busy machine's is larger than its interval. "counted" is free of that noise: the
watched calls times what one costs by itself, and putting the watch on and off. A tiny model's step
takes milliseconds where a real one's takes hundreds, so its share is an upper bound. The exit
status is 1 where a counted share is above 1 %.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from scipy.stats import binom

from pytest_vdb.measure.stages import StageClock
from pytest_vdb.models.catalog import CATALOG
from pytest_vdb.models.open import open_source
from pytest_vdb.records import Prompt

BLOCKS = 100
MODELS = ("tiny-wan", "tiny-ltx", "tiny-hunyuan", "tiny-animatediff")
BUDGET = 0.01

KINDS = ("plain", "control", "watched")


def once(call: Callable[[], object], clock: StageClock | None) -> float:
    """CPU seconds of one call."""
    began = time.process_time()
    if clock is None:
        call()
    else:
        with clock:
            call()
    return time.process_time() - began


def compare(call: Callable[[], object], clock: StageClock, blocks: int) -> dict[str, list[float]]:
    """Shares of CPU time beyond the plain calls', one a block, of the control and the watched."""
    for watched in (None, clock, None, clock):
        once(call, watched)
    shares: dict[str, list[float]] = {"control": [], "watched": []}
    chance = random.Random(0)
    for _ in range(blocks):
        spent = dict.fromkeys(KINDS, 0.0)
        for kind in chance.sample(KINDS * 2, 6):
            spent[kind] += once(call, clock if kind == "watched" else None)
        for kind, found in shares.items():
            found.append(spent[kind] / spent["plain"] - 1)
    return shares


def median_interval(values: list[float]) -> tuple[float, float, float]:
    """The median, and its distribution-free 95 % interval: two order statistics."""
    ordered, n = sorted(values), len(values)
    low = int(binom.ppf(0.025, n, 0.5))
    return statistics.median(ordered), ordered[max(low - 1, 0)], ordered[min(n - low, n - 1)]


def watched_call_cost(number: int = 20_000) -> float:
    """CPU seconds that the clock adds to one call of a network that does nothing."""

    class Empty:
        def __init__(self) -> None:
            self.transformer = torch.nn.Identity()

    empty = Empty()
    network, clock = empty.transformer, StageClock(empty)

    def loop() -> float:
        began = time.process_time()
        for _ in range(number):
            network(None)
        return (time.process_time() - began) / number

    costs = []
    for _ in range(7):
        plain = loop()
        with clock:
            costs.append(loop() - plain)
    return statistics.median(costs)


def on_and_off_cost(clock: StageClock, number: int = 200) -> float:
    """CPU seconds of an empty block."""
    began = time.process_time()
    for _ in range(number):
        with clock:
            pass
    return (time.process_time() - began) / number


def row(name: str, blocks: int, still: Path, each: float) -> tuple[str, float]:
    """One line of the table, and the counted share; ``each``: seconds of one watched call."""
    spec = next(spec for spec in CATALOG if spec.name == name)
    source: Any = open_source(spec)
    image = str(still) if spec.task == "image-to-video" else None
    prompt = Prompt("fox", "a fox runs through snow", image=image)
    clock = StageClock(source.pipeline)

    arguments = {**spec.call, "num_frames": 5}

    def call() -> object:
        return source.generate(prompt, 0, arguments)

    shares = compare(call, clock, blocks)
    cells = {
        k: "{:+.2%} ({:+.2%} to {:+.2%})".format(*median_interval(v)) for k, v in shares.items()
    }
    with clock:
        call()
    took, steps = sum(clock.stages.values()), clock.steps
    watched = len(clock._labels) // 2  # every one begins and ends
    counted = watched * each + on_and_off_cost(clock)
    step = statistics.median(steps)
    return (
        f"| {name} | {took * 1e3:.0f} ms | {step * 1e3:.1f} ms | {watched} | "
        f"{counted * 1e6:.0f} µs | {counted / took:.2%} | "
        f"{cells['watched']} | {cells['control']} |",
        counted / took,
    )


def main(argv: list[str]) -> int:
    blocks = int(argv[0]) if argv else BLOCKS
    torch.set_num_threads(1)
    each = watched_call_cost()
    print(f"One watched call costs {each * 1e6:.1f} µs; {blocks} blocks a model.\n")
    print("| model | a call | a step | watched calls | cost | counted | watched | control |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        still = Path(folder) / "still.png"
        Image.linear_gradient("L").convert("RGB").save(still)
        worst = 0.0
        for name in argv[1:] or MODELS:
            line, share = row(name, blocks, still, each)
            worst = max(worst, share)
            print(line, flush=True)
    return int(worst > BUDGET)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
