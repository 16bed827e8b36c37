"""How often a changed model's report names the right stage: ``python tools/attribution_trials.py``.

Twenty changes of `tiny-wan` with a known cause, each judged by a pytest run against a baseline that
the unchanged model stored right before it. The tolerance of the latency is 1 %, so that the gate
does not clear a slowdown and there is a report to look at. Prints a Markdown table for
docs/attribution.md.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

MODEL = """
import json
import os
import time

import torch

from pytest_vdb.models.embedded import tiny_wan


def slow(component, method, seconds):
    original = getattr(component, method)

    def slower(*args, **kwargs):
        time.sleep(seconds)
        return original(*args, **kwargs)

    setattr(component, method, slower)


def step_off(scheduler, k, factor):
    original = type(scheduler).step

    class Off(type(scheduler)):
        def step(self, *args, **kwargs):
            result = original(self, *args, **kwargs)
            if self.step_index != k:  # it has counted this one
                return result
            return (factor * result[0], *result[1:])

    scheduler.__class__ = Off


def build():
    pipeline = tiny_wan()
    kind, *how = json.loads(os.environ["CHANGE"])
    if kind == "vae":
        slow(pipeline.vae, "decode", *how)
    elif kind == "text encoder":
        slow(pipeline.text_encoder, "forward", *how)
    elif kind == "scheduler":
        step_off(pipeline.scheduler, *how)
    elif kind == "block":
        index, factor = how
        with torch.no_grad():
            for parameter in pipeline.transformer.blocks[index].parameters():
                parameter.mul_(factor)
    return pipeline
"""

TESTS = """
import pytest
pytestmark = pytest.mark.vdb(
    prompts=["a red fox runs", "a blue boat"], num_seeds=3, num_frames=17, height=64, width=64,
    num_inference_steps=8, max_sequence_length=64, tolerance={"latency": "1%"},
)

def test_quality(vdb):
    assert vdb.score("sharpness").mean > 0
    assert vdb.score("ssim").mean > -1

def test_speed(vdb):
    assert vdb.latency.median < 100
"""

SECONDS = (0.1, 0.15, 0.2, 0.3, 0.5)
"""A generation takes about 0.5 s. The text encoder is called twice in one."""
STEPS = ((1, 1.01), (2, 0.99), (4, 1.02), (6, 1.01), (8, 0.95))
BLOCKS = ((0, 1.01), (1, 0.99), (2, 1.05), (4, 1.2), (5, 0.8))


def trials() -> Iterator[tuple[list[Any], str, Callable[[dict[str, Any]], bool]]]:
    """What is changed, the words of the table, and whether an attribution names it."""
    for seconds in SECONDS:
        share = f"+ {seconds:g} s"
        yield ["vae", seconds], f"slower VAE, {share}", lambda a: a["time"]["stage"] == "decode"
    for seconds in SECONDS:
        yield (
            ["text encoder", seconds / 2],
            f"slower text encoder, + {seconds:g} s",
            lambda a: a["time"]["stage"] == "text_encode",
        )
    for step, factor in STEPS:
        yield (
            ["scheduler", step, factor],
            f"scheduler's step {step} × {factor:g}",
            lambda a, k=step: (a["first"]["part"], a["first"]["step"]) == ("scheduler", k),
        )
    for block, factor in BLOCKS:
        yield (
            ["block", block, factor],
            f"weights of block {block} × {factor:g}",
            lambda a, i=block: a["first"]["part"] == f"transformer.blocks.{i}",
        )


def main() -> None:
    right = total = 0
    print("| change | right | what the report says |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "changed_model.py").write_text(MODEL)
        (root / "pytest.ini").write_text("[pytest]\n")
        (root / "test_trial.py").write_text(TESTS)
        os.chdir(root)
        sys.path.insert(0, str(root))
        judge(root, ["none"])  # the first run of a process imports everything
        for change, words, named in trials():
            shutil.rmtree(root / "baselines", ignore_errors=True)
            judge(root, ["none"], "--vdb-update")
            texts, fine = [], False
            for found in judge(root, change):
                try:
                    fine |= named(found)
                except TypeError:  # it names no such thing
                    continue
                texts.append(found["text"])
            right, total = right + fine, total + 1
            print(
                f"| {words} | {'yes' if fine else 'no'} | {texts[-1] if texts else '–'} |",
                flush=True,
            )
    print(f"\n{right} of {total} right")


def judge(root: Path, change: list[Any], *args: str) -> list[dict[str, Any]]:
    """The attributions of one run of the suite."""
    os.environ["CHANGE"] = json.dumps(change)
    sys.modules.pop("test_trial", None)
    command = ["-q", "-p", "no:cacheprovider", "--vdb-json=run.json", *args]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = pytest.main([*command, "--vdb-model=changed_model:build"])
    if code not in (0, 1):
        raise SystemExit(said.getvalue())
    tests = json.loads((root / "run.json").read_text())["tests"]
    return [test["attribution"] for test in tests if test.get("attribution")]


if __name__ == "__main__":
    main()
