"""What memory over time costs: the table of docs/measuring.md.

    python tools/timeline_cost.py [MODEL ...]

Nothing that is timed carries any of it. In the traced generation a thread reads sizes; "readings"
are those of one generation, "a reading" the median of a thousand by themselves, and "share" their
product over the generation's seconds. "slices" is the time that turning everything that was seen
into 100 slices takes afterwards.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from pytest_vdb.environment import resolve_device
from pytest_vdb.measure.memory import cpu_allocator_profile
from pytest_vdb.measure.stages import StageClock
from pytest_vdb.measure.timeline import ALLOCATED, Sampler, sizes, timeline
from pytest_vdb.models.catalog import CATALOG
from pytest_vdb.models.open import open_source
from pytest_vdb.records import Prompt

MODELS = ("tiny-wan", "tiny-ltx", "tiny-hunyuan")


def took(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def row(name: str, device: str) -> str:
    spec = next(spec for spec in CATALOG if spec.name == name)
    source: Any = open_source(spec, device)
    sampler, read = Sampler(sizes(device)), sizes(device)
    arguments = {**spec.call, "num_frames": 5}

    def generate() -> None:
        with sampler:
            source.generate(Prompt("fox", "a fox runs through snow"), 0, arguments)

    source.generate(Prompt("fox", "a fox runs through snow"), 0, arguments)
    held = {}
    if device == "cpu":
        held[ALLOCATED] = cpu_allocator_profile(generate, StageClock(source.pipeline)).held
    else:
        generate()
    held |= sampler.held
    each = statistics.median(took(read) for _ in range(1000))
    readings = max(map(len, sampler.held.values()), default=0)
    after = took(lambda: timeline("fox/0", held, [], sampler.seconds))
    return (
        f"| {name} | {sampler.seconds:.2f} s | {readings} | {each * 1e6:.0f} µs | "
        f"{each * readings / sampler.seconds:.2%} | {after * 1e3:.0f} ms |"
    )


def main(argv: list[str]) -> int:
    torch.set_num_threads(1)
    device = resolve_device("auto")
    print(f"On {device}.\n")
    print("| model | traced generation | readings | a reading | share | slices |")
    print("|---|---|---|---|---|---|")
    for name in argv or MODELS:
        print(row(name, device), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
