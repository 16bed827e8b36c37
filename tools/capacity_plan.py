"""How long 1,000 prompts on 10 models take on 64 GPUs, on paper: the tables of docs/capacity.md.

    python tools/capacity_plan.py [--price 2.5] [--print]

A discrete-event simulation of workers that `pytest_vdb.parallel.schedule` gives orders
(`placement_study.Simulation`). Seconds a video are published ones, named in the page; load time and
price are assumptions, named there too. Nothing of this was run.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pages
from placement_study import Simulation, Suite

from pytest_vdb.parallel.schedule import Batch, Group

PAGE = Path(__file__).parents[1] / "docs" / "capacity.md"
PROMPTS = 1000
CHUNK = 25  # prompts of one test, which stay together
GPUS = 64
LOAD = 120.0  # seconds, assumed
SIDES = ("base", "candidate")


@dataclass(frozen=True)
class Model:
    """``seconds`` a video on ``devices`` GPUs, and its ``shape``: frames, height, width."""

    name: str
    seconds: float
    shape: tuple[int, int, int]
    source: str
    devices: int = 1

    @property
    def bytes(self) -> int:
        """Of one video's frames as they lie in the run's folder: uint8, three channels."""
        frames, height, width = self.shape
        return frames * height * width * 3


CARD = "model card of CogVideoX1.5-5B and CogVideoX-5B, H100, 50 steps"
MODELS = (
    Model("CogVideoX-2b", 43.0, (49, 480, 720), "ML.ENERGY, H100, 50 steps"),
    Model("CogVideoX-5b", 90.0, (49, 480, 720), CARD),
    Model("Wan2.1-T2V-1.3B", 95.4, (81, 480, 832), "ML.ENERGY, H100, 50 steps"),
    Model("CogVideoX1.5-5B", 550.0, (81, 768, 1360), CARD),
    Model("HunyuanVideo", 1904.08, (129, 720, 1280), "its README, 720p, 50 steps, 1 GPU"),
)
HUNYUAN = {1: 1904.08, 2: 934.09, 4: 514.08, 8: 337.58}
"""Seconds by GPUs for the same video, of the same README."""


def suite(models: Sequence[Model], load: float, chunk: int = CHUNK) -> Suite:
    """Every model on both sides; a load is followed by one warm-up generation."""
    groups: list[Group] = []
    seconds: dict[int, float] = {}
    loads: dict[str, float] = {}
    for model in models:
        for side in SIDES:
            name = f"{model.name} {side}"
            tests = range(len(seconds), len(seconds) + PROMPTS // chunk)
            seconds |= dict.fromkeys(tests, chunk * model.seconds)
            loads[name] = load + model.seconds
            batches = tuple(Batch(((test, seconds[test]),)) for test in tests)
            groups.append(Group(name, batches, loads[name], model.devices / GPUS))
    return Suite(tuple(groups), seconds, loads)


@dataclass(frozen=True)
class Plan:
    hours: float
    ideal: float
    busy: float
    loads: int

    @classmethod
    def of(cls, models: Sequence[Model], load: float = LOAD, chunk: int = CHUNK) -> Plan:
        """``ideal``: hours if all the generating were spread evenly; ``busy``: the share of the
        GPUs' time that generates."""
        work = sum(model.seconds * model.devices * PROMPTS * len(SIDES) for model in models)
        outcome = Simulation(suite(models, load, chunk), GPUS).run()
        ideal = work / GPUS
        return cls(outcome.makespan / 3600, ideal / 3600, ideal / outcome.makespan, outcome.loads)


def work_table() -> str:
    total = sum(model.seconds for model in MODELS)
    rows = [["model", "s a video", "source", "GPU-hours, both sides", "of all", "frames on disk"]]
    for model in MODELS:
        hours = model.seconds * PROMPTS * len(SIDES) / 3600
        size = model.bytes * PROMPTS * len(SIDES) / 1e9
        share = f"{model.seconds / total:.0%}".replace("%", " %")
        figure = f"{model.seconds:g}"
        rows.append([model.name, figure, model.source, f"{hours:,.0f}", share, f"{size:,.0f} GB"])
    return pages.table(rows)


def plan_table(price: float) -> str:
    *others, last = MODELS
    wide = [[*others, replace(last, seconds=HUNYUAN[n], devices=n)] for n in (2, 4, 8)]
    kinds: dict[str, Plan] = {
        f"tests of {CHUNK} prompts, {LOAD:.0f} s a load": Plan.of(MODELS),
        "loads of 600 s": Plan.of(MODELS, load=600.0),
        "tests of 100 prompts": Plan.of(MODELS, chunk=100),
        "tests of 5 prompts": Plan.of(MODELS, chunk=5),
        "one test of 1,000 prompts a model": Plan.of(MODELS, chunk=1000),
    }
    for models in wide:
        kinds[f"HunyuanVideo on {models[-1].devices} GPUs"] = Plan.of(models)
    rows = [["plan", "hours", "evenly spread", "GPUs generate", "loads", "cost"]]
    for name, plan in kinds.items():
        busy = f"{plan.busy:.0%}".replace("%", " %")
        cost = f"${plan.hours * GPUS * price:,.0f}"
        rows.append([name, f"{plan.hours:.1f}", f"{plan.ideal:.1f}", busy, str(plan.loads), cost])
    return pages.table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--price", type=float, default=2.5, help="dollars a GPU-hour, assumed")
    parser.add_argument("--print", action="store_true", help="do not write the page")
    args = parser.parse_args()
    for name, text in {"work": work_table(), "plan": plan_table(args.price)}.items():
        print(text)
        if not args.print:
            pages.write(PAGE, name, text)


if __name__ == "__main__":
    main()
