"""How much faster two workers are than one, with a thread each: the same suite, in one run.

    python tools/fanout_throughput.py [--workers 2] [--rounds 3] [--seconds 8]

Two engines with a numpy loop of one thread each, so that neither machine nor model shares more than
the cores. What is compared is the time that the tests take, and not the start of pytest and its
workers: from the first test's begin to the last one's end. Rounds alternate between one worker and
several, so that a slow minute of the machine meets both. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

ENGINE = """
import numpy as np

def build():
    def engine(prompt, *, seed, num_frames=5, height=32, width=32, num_inference_steps=1):
        random = np.random.default_rng(seed)
        picture = random.random((height, width, 3), np.float32)
        for _ in range({turns}):
            random.standard_normal(2**17)
        frames = np.stack([np.roll(picture, step, axis=1) for step in range(num_frames)])
        return {{"frames": frames}}
    return engine
"""
CONFTEST = """
import json, os, pathlib, time, pytest

def pytest_vdb_models():
    from pytest_vdb import ModelSpec
    size = {{"num_frames": 5, "height": 32, "width": 32, "num_inference_steps": 1}}
    options = {{"num_threads": 1}}
    return [
        ModelSpec(f"m{{i}}", "factory", "engine:build", call=size, options=options)
        for i in range({models})
    ]

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    begin = time.time()
    result = yield
    name = f"{{item.name}}-{{os.getpid()}}.json".replace("/", "-")
    (pathlib.Path(__file__).parent / "times" / name).write_text(json.dumps([begin, time.time()]))
    return result
"""
BENCH = """
import pytest
pytestmark = pytest.mark.vdb(prompts=["a red fox", "a blue boat"], num_seeds=2)

@pytest.mark.parametrize("part", [
    pytest.param(i, marks=pytest.mark.vdb(seeds=[10 * i, 10 * i + 1])) for i in range(4)
])
def test_sharp(vdb, part):
    assert vdb.score("sharpness").mean > 0
"""
VIDEOS = 4 * 4 * 1.25  # of a model: four workloads of four, and a warm-up each


def seconds(folder: Path, workers: int, models: int) -> float:
    """From the first test's begin to the last one's end."""
    times = folder / "times"
    times.mkdir(exist_ok=True)
    for old in times.iterdir():
        old.unlink()
    names = [f"--vdb-model=m{i}" for i in range(models)]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"-n{workers}"]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    subprocess.run(
        [*command, "benchmarks", *names],
        cwd=folder,
        env={**os.environ, **threads},
        check=True,
        timeout=1800,
        stdout=subprocess.DEVNULL,
    )
    spans = [json.loads(path.read_text()) for path in times.iterdir()]
    assert len(spans) == 4 * models, f"{len(spans)} of {4 * models} tests left their times"
    return max(end for _, end in spans) - min(begin for begin, _ in spans)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="about, of a model's tests")
    args = parser.parse_args()
    turns = max(1, round(args.seconds / VIDEOS / 1.5e-3))  # 2**17 normals take about 1.5 ms
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "engine.py").write_text(ENGINE.format(turns=turns))
        (folder / "conftest.py").write_text(CONFTEST.format(models=args.workers))
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "benchmarks").mkdir()
        (folder / "benchmarks" / "test_bench.py").write_text(BENCH)
        one: list[float] = []
        many: list[float] = []
        for turn in range(args.rounds):
            for workers in (1, args.workers) if turn % 2 == 0 else (args.workers, 1):
                took = seconds(folder, workers, args.workers)
                (one if workers == 1 else many).append(took)
                print(f"{workers} worker(s): {took:.2f} s", flush=True)
    ratio = median(one) / median(many)
    load = os.getloadavg()[0]
    print(f"{args.workers} workers: {ratio:.2f} x the throughput of one (load average {load:.1f})")


if __name__ == "__main__":
    main()
