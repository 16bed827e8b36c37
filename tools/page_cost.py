"""What the page of --vdb-html costs: the tables of docs/html.md.

    python tools/page_cost.py [--run]

Encodes films of noise, the worst case of a codec, each three panels wide, one at a time; and opens
a page of 500 videos with 30 measurements each in Debian's Chromium, three times, of which the
quickest counts. With ``--run`` it also runs the main job, `pytest benchmarks/`, on the embedded
model, whose videos take a fraction of a second, and says what the page adds. Needs the extra
``html``, and ``playwright`` and ``chromium`` for the opening; without them that line says so.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from pytest_vdb.report import html, movie, writers

FILMS = ((24, 72, 128), (17, 256, 256), (49, 480, 832))
"""Frames, height and width."""
VIDEOS, MEASUREMENTS, SESSIONS, OPENED = 500, 30, 5, 3
ROOT = Path(__file__).parents[1]
TIMED = """
import json, time
from pytest_vdb.report import html

def pytest_configure(config):
    start, write = time.perf_counter(), html.write

    def timed(*given):
        began = time.perf_counter()
        write(*given)
        ended = time.perf_counter()
        told = {"run": began - start, "page": ended - began}
        print("\\nPAGE", json.dumps(told))

    html.write = timed
"""


def film(folder: Path, frames: int, height: int, width: int) -> str:
    """A row of the table of films."""
    noise = np.random.default_rng(0).integers(0, 256, (2, frames, height, width, 3), np.uint8)
    began, cpu = time.perf_counter(), time.process_time()
    movie.write(folder / "film.webm", noise[0], iter(noise[1]), 16)
    took, spent = time.perf_counter() - began, time.process_time() - cpu
    size = (folder / "film.webm").stat().st_size
    cells = f"{spent:.2f} s | {took:.2f} s | {size / 1e6:.1f} MB"
    return f"| {frames} frames of {width} × {height} | {cells} |"


def measurement(number: int, values: random.Random) -> dict[str, Any]:
    """One of the large page's, in the form of docs/json.md; every tenth got worse."""
    samples = [{"prompt": f"p{i}", "seed": 0, "value": values.gauss(1, 0.1)} for i in range(VIDEOS)]
    mean = sum(one["value"] for one in samples) / VIDEOS
    state = "REGRESSION" if number % 10 == 0 else "PASS"
    return {
        "name": f"metric_{number}",
        "unit": "1",
        "direction": "higher",
        "kind": "score",
        "samples": samples,
        "statistics": {"mean": mean, "median": mean, "min": 0.5, "max": 1.5},
        "headline": "mean",
        "provenance": {"how": "made", "version": "1", "weights": None, "device": "cpu"},
        "verdict": {
            "state": state,
            "reason": "made",
            "effect": -0.1,
            "interval": [-0.12, -0.08],
            "relative": True,
            "tolerance": "2%",
            "p": 0.001,
            "n": VIDEOS,
            "baseline": 1.1,
            "consequence": "fail" if state == "REGRESSION" else "pass",
        },
    }


def over_time() -> dict[str, Any]:
    """As a GPU's traced generation has it: four curves of 100 slices."""
    names = ("allocated", "reserved", "device", "resident")
    held = {name: [2**30 + 2**22 * i * n for i in range(100)] for n, name in enumerate(names)}
    stages = [[0.0, "text_encode"], [0.4, "denoise"], [6.0, "decode"], [7.9, "other"]]
    return {"sample": "p0/0", "seconds": 8.0, "bytes": held, "stages": stages}


def large(folder: Path) -> Path:
    """The page of `VIDEOS` videos with `MEASUREMENTS` measurements each, without films."""
    values = random.Random(0)
    workload = {
        "hash": "0" * 16,
        "prompts": [{"id": f"p{i}", "text": f"prompt {i} of many"} for i in range(VIDEOS)],
        "seeds": [0],
        "call": {},
        "dtype": "float32",
        "options": {},
    }
    test = {
        "nodeid": "benchmarks/test_large.py::test[m]",
        "outcome": "failed",
        "beside": None,
        "model": {"name": "m", "location": "m:m"},
        "workload": workload,
        "attribution": None,
        "memory_over_time": over_time(),
        "measurements": [measurement(i, values) for i in range(MEASUREMENTS)],
    }
    run = {
        "schema": 1,
        "exit": 1,
        "commit": "",
        "gate_edits": None,
        "flags": ["--vdb-model=m"],
        "timing": {"generate": 1.0},
        "environment": {"facts": {"device": "cpu"}},
        "tests": [test],
    }
    day = {"commit": "0" * 12, "source": "base", "value": 1.1, "low": 0.5, "high": 1.5}
    stored = [{"date": f"2026-01-0{n + 1}T00:00:00Z", **day} for n in range(SESSIONS)]
    stored[-1]["values"] = {f"p{i}/0": values.gauss(1.1, 0.1) for i in range(VIDEOS)}
    shown = {test["nodeid"]: {"history": {m["name"]: stored for m in test["measurements"]}}}
    html.write(run, folder / "page", writers.Context(folder, shown=shown))
    return folder / "page"


def opened(page: Any, folder: Path) -> tuple[float, float]:
    """Seconds until the overview is there, and until a test of it is, with its first plots."""
    start = time.perf_counter()
    page.goto(f"file://{folder}/index.html")
    page.wait_for_selector(f"#rows tbody tr:nth-child({MEASUREMENTS})")
    opens = time.perf_counter() - start
    start = time.perf_counter()
    page.locator("#rows tbody tr").first.click()
    page.wait_for_selector(".plots .canvas[data-drawn]")
    return opens, time.perf_counter() - start


def opening(folder: Path) -> str:
    """A sentence on how long the large page takes."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        return "How long it takes to open was not measured: that needs playwright and chromium."
    page = large(folder)
    times = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        version = browser.version.partition(".")[0]
        for _ in range(OPENED):
            times.append(opened(browser.new_page(), page))
        browser.close()
    opens, details = (min(one) for one in zip(*times, strict=True))
    return (
        f"The page of {VIDEOS} videos with {MEASUREMENTS} measurements each opens in {opens:.2f} "
        f"s, a test of it with its plots in {details:.2f} s (Chromium {version})."
    )


def share(folder: Path) -> str:
    """A sentence on what the page adds to a real run."""
    for name in ("benchmarks", "baselines"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.rmtree(folder / "page", ignore_errors=True)
    (folder / "conftest.py").write_text(TIMED)
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "benchmarks"]
    flags = ["--vdb-html=page", "--vdb-missing=warn"]
    done = subprocess.run(
        [*command, *flags], cwd=folder, capture_output=True, text=True, timeout=1800, check=False
    )
    told = next((line for line in done.stdout.splitlines() if line.startswith("PAGE ")), None)
    if told is None:
        raise SystemExit(done.stdout + done.stderr)
    took = json.loads(told.removeprefix("PAGE "))
    films = len([*(folder / "page" / "media").glob("*.webm")])
    return (
        f"The main job, {films} videos of the embedded model, took {took['run']:.1f} s before its "
        f"page, and that {took['page']:.1f} s ({took['page'] / took['run']:.1%})."
    )


def main(argv: list[str]) -> int:
    print(f"Measured on {os.cpu_count()} cores.\n")
    print("| a film | processor | wall clock | size |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in FILMS:
            print(film(folder, *size), flush=True)
        print(f"\n{opening(folder)}", flush=True)
        if "--run" in argv:
            print(share(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
