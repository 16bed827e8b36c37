"""How well the shipped scheduler places tests, on simulated workers and devices.

    python tools/placement_study.py [--suites 200] [--print]

Writes the tables of docs/fan-out.md. `pytest_vdb.parallel.schedule` is what runs under xdist; the
workers behave as xdist's do: one begins a test when it knows the next, or that there is none.
"""

from __future__ import annotations

import argparse
import heapq
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np
import pages

from pytest_vdb.parallel.schedule import Batch, Group, Order, Schedule

PAGE = Path(__file__).parents[1] / "docs" / "fan-out.md"
SLACK = 1.10  # of the lower bound, which 95 % of all suites are to keep


@dataclass(frozen=True)
class Suite:
    """``groups`` as they are planned with; ``seconds`` of each test and ``loads`` as they are."""

    groups: tuple[Group, ...]
    seconds: Mapping[int, float]
    loads: Mapping[str, float]

    @property
    def totals(self) -> list[tuple[float, float]]:
        """Share and true seconds of each group, loaded once."""
        return [
            (
                g.share,
                self.loads[g.name] + sum(self.seconds[i] for b in g.batches for i, _ in b.tests),
            )
            for g in self.groups
        ]

    def bound(self, workers: int) -> float:
        """Seconds that no schedule beats that loads each pipeline once.

        The work over all workers, the work over what fits on the machine, the longest group.
        """
        work = sum(seconds for _, seconds in self.totals) / workers
        room = sum(share * seconds for share, seconds in self.totals)
        return max(work, room, max(seconds for _, seconds in self.totals))


@dataclass
class Outcome:
    makespan: float = 0.0
    loads: int = 0
    repeated: int = 0
    """Loads of a pipeline on a worker that had loaded it before."""
    fullest: float = 0.0
    """The largest sum of the shares of pipelines that were loaded at a time."""
    ran: list[int] = field(default_factory=list)


class _Simulated:
    def __init__(self) -> None:
        self.queue: deque[int] = deque()
        self.last = self.busy = False
        self.group: Group | None = None
        self.seen: set[str] = set()


class Simulation:
    """Workers that take orders of a `Schedule`, on a clock of their own."""

    def __init__(self, suite: Suite, workers: int) -> None:
        self.suite = suite
        self.home = {i: g for g in suite.groups for b in g.batches for i, _ in b.tests}
        self.workers = [_Simulated() for _ in range(workers)]
        self.schedule = Schedule(suite.groups, workers)
        self.outcome = Outcome()
        self.events: list[tuple[float, int, int, int]] = []
        self.turns = count()

    def run(self) -> Outcome:
        self.obey(self.schedule.join(*range(len(self.workers))), 0.0)
        while self.events:
            now, _, name, test = heapq.heappop(self.events)
            worker = self.workers[name]
            worker.queue.popleft()
            worker.busy = False
            self.outcome.ran.append(test)
            self.outcome.makespan = now
            following = self.home[worker.queue[0]] if worker.queue else None
            if worker.group is not following:
                worker.group = None  # the test's teardown lets go of the pipeline
            self.obey(self.schedule.done(name, test), now)
            self.begin(name, now)
        return self.outcome

    def obey(self, orders: Sequence[Order], now: float) -> None:
        for order in orders:
            worker = self.workers[order.worker]  # type: ignore[call-overload]
            worker.queue.extend(order.tests)
            worker.last |= order.last
        for order in orders:
            self.begin(order.worker, now)  # type: ignore[arg-type]

    def begin(self, name: int, now: float) -> None:
        worker = self.workers[name]
        if worker.busy or not worker.queue or (len(worker.queue) < 2 and not worker.last):
            return
        test = worker.queue[0]
        seconds, group = self.suite.seconds[test], self.home[test]
        if worker.group is not group and group.loads:
            seconds += self.suite.loads[group.name]
            self.outcome.loads += 1
            self.outcome.repeated += group.name in worker.seen
            worker.seen.add(group.name)
        worker.group, worker.busy = group, True
        full = sum(w.group.share for w in self.workers if w.group)
        self.outcome.fullest = max(self.outcome.fullest, full)
        heapq.heappush(self.events, (now + seconds, next(self.turns), name, test))


def draw(
    rng: np.random.Generator,
    pipelines: int,
    tests: int,
    workers: int,
    *,
    known: bool = True,
    widths: Sequence[int] = (1,),
) -> Suite:
    """A random suite: tests fall to pipelines at random, 1 to 5 of them to a generation.

    A generation takes 60 s in the median (lognormal, sigma 1) and is its first test's; judging
    takes 2 s. A load takes 60 s (sigma 0.5). What is stored is off by 10 %, or unknown.
    """
    owner = rng.integers(pipelines, size=tests)
    seconds: dict[int, float] = {}
    groups, loads = [], {}
    for pipeline in range(pipelines):
        name = f"pipeline {pipeline}"
        mine = deque(np.flatnonzero(owner == pipeline).tolist())
        batches = []
        while mine:
            together = [mine.popleft() for _ in range(min(len(mine), int(rng.integers(1, 6))))]
            for place, test in enumerate(together):
                seconds[test] = 2.0 + (0 if place else float(rng.lognormal(np.log(60), 1.0)))
            batches.append(Batch(tuple((t, _stored(rng, seconds[t], known)) for t in together)))
        loads[name] = float(rng.lognormal(np.log(60), 0.5))
        share = float(rng.choice(np.array(widths))) / workers
        load = _stored(rng, loads[name], known)
        if batches:
            groups.append(Group(name, tuple(batches), load, share))
    return Suite(tuple(groups), seconds, loads)


def _stored(rng: np.random.Generator, seconds: float, known: bool) -> float:
    return seconds * float(rng.lognormal(0, 0.1)) if known else 1.0


def cost(pipelines: int, tests: int, workers: int, *, plain: bool = False) -> float:
    """CPU seconds of scheduling a test: every call of the scheduler, and nothing else."""
    suite = draw(np.random.default_rng(0), pipelines, tests, workers)
    if plain:
        groups = [Group(g.name, g.batches, loads=False) for g in suite.groups]
        suite = Suite(tuple(groups), suite.seconds, suite.loads)
    simulation = Simulation(suite, workers)
    spent = 0.0
    inner = simulation.schedule.done

    def done(name: object, test: int) -> list[Order]:
        nonlocal spent
        start = time.process_time()
        orders = inner(name, test)
        spent += time.process_time() - start
        return orders

    simulation.schedule.done = done  # type: ignore[method-assign]
    assert len(simulation.run().ran) == tests
    return spent / tests


@dataclass(frozen=True)
class Shape:
    name: str
    pipelines: int
    tests: int
    workers: int
    widths: tuple[int, ...] = (1,)
    known: bool = True


SHAPES = (
    Shape("6 pipelines × 120 tests, 8 workers", 6, 120, 8),
    Shape("the same, nothing stored yet", 6, 120, 8, known=False),
    Shape("20 pipelines × 400 tests, 8 workers", 20, 400, 8),
    Shape("1 pipeline × 120 tests, 8 workers", 1, 120, 8),
    Shape("10 pipelines × 1,000 tests, 64 workers", 10, 1000, 64),
    Shape("12 pipelines on 1, 2, 4 or 8 devices × 240 tests, 8 workers", 12, 240, 8, (1, 2, 4, 8)),
)


def tried(shape: Shape, suites: int) -> list[tuple[Suite, Outcome]]:
    found = []
    for seed in range(suites):
        rng = np.random.default_rng([seed, shape.tests])
        suite = draw(
            rng, shape.pipelines, shape.tests, shape.workers, known=shape.known, widths=shape.widths
        )
        found.append((suite, Simulation(suite, shape.workers).run()))
    return found


def row(shape: Shape, suites: int) -> list[str]:
    found = tried(shape, suites)
    ratios = np.array([o.makespan / s.bound(shape.workers) for s, o in found])
    extra = [o.loads - len(s.groups) for s, o in found]
    return [
        shape.name,
        f"{np.mean(ratios <= SLACK):.1%}".replace("%", " %"),
        f"{np.median(ratios):.2f}",
        f"{ratios.max():.2f}",
        f"{np.mean(extra):.1f} ({max(extra)})",
        str(sum(o.repeated for _, o in found)),
        f"{max(o.fullest for _, o in found):.2f}",
    ]


HEAD = [
    "suites of",
    f"within {SLACK:.2f} × the bound",
    "median",
    "worst",
    "loads beyond one a pipeline (most)",
    "loaded twice by a worker",
    "fullest",
]


def table(suites: int) -> str:
    return pages.table([HEAD, *(row(shape, suites) for shape in SHAPES)])


def costs() -> str:
    kinds = {
        "10,000 plain tests, 8 workers": cost(10, 10_000, 8, plain=True),
        "10,000 tests of 100 pipelines, 8 workers": cost(100, 10_000, 8),
        "10,000 tests of 2,000 pipelines, 64 workers": cost(2_000, 10_000, 64),
    }
    rows = [[name, f"{seconds * 1e6:.0f} µs"] for name, seconds in kinds.items()]
    return pages.table([["suite", "scheduling a test"], *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suites", type=int, default=200)
    parser.add_argument("--print", action="store_true", help="do not write the page")
    args = parser.parse_args()
    for name, text in {"placement": table(args.suites), "cost": costs()}.items():
        print(text)
        if not args.print:
            pages.write(PAGE, name, text)


if __name__ == "__main__":
    main()
