"""How often 30 tests over 3 models load a pipeline: ``python tools/cache_loads.py``.

Each model's function notes every call; the tests lie in two files. Prints a Markdown table for
docs/runners.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODELS = ("tiny_wan", "tiny_ltx", "tiny_cogvideox")
SOURCE = """
import os
from pytest_vdb.models.embedded import tiny_ltx, tiny_wan
from pytest_vdb.models.twins.cogvideox import tiny_cogvideox

def noted(build):
    with open(os.environ["LOADS"], "a") as file:
        file.write(build.__name__ + "\\n")
    return build()

{functions}
"""
TESTS = """
import pytest
pytestmark = pytest.mark.vdb(
    prompts=["a red fox"], num_frames=9, height=64, width=64, num_inference_steps=2,
    max_sequence_length=64,
)

@pytest.mark.parametrize("n", range(5))
def test_quality(vdb, n):
    assert vdb.score("motion_energy").mean >= 0
"""


def main() -> None:
    print("| runner | tests | models | loads | seconds to load | seconds in all |")
    print("|---|---|---|---|---|---|")
    for runner in ("inprocess", "child"):
        with tempfile.TemporaryDirectory() as folder:
            print(measure(Path(folder), runner))


def measure(folder: Path, runner: str) -> str:
    """One row: a real pytest process on the suite."""
    functions = "\n".join(f"def our_{m}():\n    return noted({m})\n" for m in MODELS)
    (folder / "noted_models.py").write_text(SOURCE.format(functions=functions))
    (folder / "pytest.ini").write_text("[pytest]\n")
    for name in ("test_one.py", "test_two.py"):
        (folder / name).write_text(TESTS)
    models = [f"--vdb-model=noted_models:our_{name}" for name in MODELS]
    how = ["--vdb-missing=warn", f"--vdb-runner={runner}", "--vdb-json=run.json", "-q"]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *models, *how],
        cwd=folder,
        env={**os.environ, "LOADS": str(folder / "loads.txt")},
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    data = json.loads((folder / "run.json").read_text())
    loads = len((folder / "loads.txt").read_text().split())
    spent = data["timing"]["load"]
    tests = len(data["tests"])
    return f"| {runner} | {tests} | {len(MODELS)} | {loads} | {spent:.1f} | {seconds:.1f} |"


if __name__ == "__main__":
    main()
