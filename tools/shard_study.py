"""How even the shipped split into shards is, on random suites: the table of docs/shards.md.

    python tools/shard_study.py [--suites 300] [--print]

The bound of a split is the larger of two: all seconds over the number of shards, and the longest
workload, which is never parted. No split is below it. Loads are left out.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pages

from pytest_vdb.parallel.shards import Need, plain, split

PAGE = Path(__file__).parents[1] / "docs" / "shards.md"
COUNTS = (2, 4, 8)

Suite = tuple[Mapping[str, Need], Mapping[str, float]]


def suite(seed: int, pipelines: int = 6, workloads: int = 6, tests: int = 4) -> Suite:
    """1 to ``pipelines`` of 1 to ``workloads`` of 1 to ``tests`` each, and nine plain tests, in no
    order; and the seconds of nine in ten tests: lognormal, e in the median, sigma 1."""
    draw = random.Random(seed)
    needs = {
        f"test_{w}.py::test_{t}[model{m}]": Need(f"model{m}", f"workload{w}")
        for m in range(draw.randint(1, pipelines))
        for w in range(draw.randint(1, workloads))
        for t in range(draw.randint(1, tests))
    }
    needs |= {f"test_plain.py::test_{n}": plain(f"test_plain.py::test_{n}") for n in range(9)}
    order = draw.sample(sorted(needs), len(needs))
    seconds = {nodeid: draw.lognormvariate(1, 1) for nodeid in order if draw.random() < 0.9}
    return {nodeid: needs[nodeid] for nodeid in order}, seconds


def ratio(drawn: Suite, count: int) -> float:
    """The longest of ``count`` shards over the bound. A test without seconds has the mean."""
    needs, seconds = drawn
    usual = sum(seconds.values()) / len(seconds)
    took = {nodeid: seconds.get(nodeid, usual) for nodeid in needs}
    parts = dict.fromkeys(needs.values(), 0.0)
    for nodeid, need in needs.items():
        parts[need] += took[nodeid]
    bound = max(sum(took.values()) / count, *parts.values())
    shards = split(needs, count, seconds).shards
    return max(sum(took[nodeid] for nodeid in shard) for shard in shards) / bound


def table(suites: int) -> str:
    drawn = [suite(seed) for seed in range(suites)]
    found = {f"{count} shards": [ratio(one, count) for one in drawn] for count in COUNTS}
    found["all"] = [one for ratios in found.values() for one in ratios]
    rows = [["the longest shard is above the bound by", "median", "95th percentile", "worst"]]
    for name, ratios in found.items():
        above = np.percentile(ratios, [50, 95, 100]) - 1
        rows.append([name, *(f"{share:.0%}".replace("%", " %") for share in above)])
    return pages.table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suites", type=int, default=300)
    parser.add_argument("--print", action="store_true", help="do not write the page")
    args = parser.parse_args()
    text = table(args.suites)
    print(text)
    if not args.print:
        pages.write(PAGE, "shards", text)


if __name__ == "__main__":
    main()
