"""What the plugin adds to a bare pytest run that does not use it.

    python tools/import_cost.py [PAIRS]

Runs pytest on one empty test, with and without the plugin, in alternating order, and prints the
median of the paired differences, as wall clock and as CPU time of the process and its children.
CPU time is the steadier of the two: a busy machine stretches the wall clock of both sides.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

BUDGET_MS = 15.0
PAIRS = 21
REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Cost:
    """Milliseconds that the plugin adds: medians over ``pairs`` paired runs."""

    wall: float
    cpu: float
    bare: float  # CPU of pytest alone
    pairs: int

    def __str__(self) -> str:
        return (
            f"the plugin adds {self.cpu:.1f} ms of CPU time and {self.wall:.1f} ms of wall clock "
            f"to pytest's own {self.bare:.0f} ms (medians of {self.pairs} pairs; "
            f"the budget is {BUDGET_MS:g} ms)"
        )


def measure(pairs: int = PAIRS) -> Cost:
    """Run ``pairs`` alternating pairs after one of each that writes the bytecode."""
    with tempfile.TemporaryDirectory() as folder:
        suite = Path(folder) / "test_nothing.py"
        suite.write_text("def test_nothing():\n    pass\n")
        _run(suite, plugin=True), _run(suite, plugin=False)
        differences, bare = [], []
        for pair in range(pairs):
            runs = {}
            for plugin in (True, False) if pair % 2 else (False, True):
                runs[plugin] = _run(suite, plugin=plugin)
            differences.append([a - b for a, b in zip(runs[True], runs[False], strict=True)])
            bare.append(runs[False][1])
    wall, cpu = (statistics.median(column) * 1e3 for column in zip(*differences, strict=True))
    return Cost(wall, cpu, statistics.median(bare) * 1e3, pairs)


def _run(suite: Path, *, plugin: bool) -> tuple[float, float]:
    """Wall and CPU seconds of one pytest process."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(suite)]
    if plugin:
        command += ["-p", "pytest_vdb.plugin"]
    env = {
        **os.environ,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_ADDOPTS": "",
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(suite.parent / "pycache"),
    }
    before, start = _children_cpu(), time.perf_counter()
    subprocess.run(command, cwd=suite.parent, env=env, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start, _children_cpu() - before


def _children_cpu() -> float:
    """CPU seconds of every child that has ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)  # os.times counts in steps of 10 ms
    return spent.ru_utime + spent.ru_stime


if __name__ == "__main__":
    cost = measure(int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS)
    print(cost)
    sys.exit(cost.cpu > BUDGET_MS)
