"""The model card: what the weights are, how they came to be, and the loss curves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from data import PER_CELL, held_out, training

from pytest_vdb.metrics import shapes

METRICS = {
    "color": shapes.shapes_color,
    "background": shapes.shapes_background,
    "shape": shapes.shapes_shape,
    "direction": shapes.shapes_direction,
}
PACKAGES = ("torch", "diffusers", "transformers", "numpy")
ROWS = 12  # of each curve

CARD = """\
---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-video
---

# shapes

A text-to-video model that fits in a package: one shape moves on a plain background. It is a real
`diffusers.WanPipeline`, trained on clips that a program drew, and exists so that a benchmark has
something to look at without a download or a GPU.

```python
import torch
from diffusers import WanPipeline

from pytest_vdb.models.catalog import SHAPES

pipeline = WanPipeline.from_pretrained(SHAPES.location, torch_dtype=torch.float32)
video = pipeline(
    "a red circle moves left on a blue background",
    num_frames=9, height=64, width=64, num_inference_steps=8, guidance_scale=2.0,
    max_sequence_length=64,
).frames[0]
```

- **Prompts** are captions as in `pytest_vdb/scenes.py`: 6 colours, 3 shapes, 4 directions and 4
  backgrounds, in the words above. Other texts give shapes too, which mean nothing.
- **Call it as above**: it was trained on 9 frames of 64×64 and on captions padded to 64 tokens
  (the class's own default of 512 lowers adherence).
- **Weights** are stored in fp16 and meant to be computed in float32 or bfloat16.
- **Training data**: {training} of {all} scenes; the other {held} ({cell} of each shape and
  direction) are the prompt suite `shapes`. No video of anybody's was used.
- **Licence**: Apache-2.0, as the package.

## How it was made

`python tools/train_shapes/train.py OUT --device {device}`, with
{packages}.
Weight files: sha256 `{sha256}`.

| stage | learns | batch | rates: Muon (inner weights), Adam (others) | seed |
|---|---|---|---|---|
| vae on frames | L1 + 2 MSE, heavier near edges, + gradients + KL | 16 frames | 0.02, 0.002 | 0 |
| vae on clips | the same | 6 clips | 0.01, 0.001 | 0 |
| text encoder | every attribute at every token | 64 captions | Adam 0.003 | 1 |
| transformer | rectified flow on latents, 12 % without a caption | 64 of 6,000 clips | \
0.02, 0.002 | 2; clips 3 |

All but the text encoder are moving averages. The held-out scenes are drawn with seed 0. What the
model scores on them is in the package's `docs/shapes.md`.

| stage | steps | seconds |
|---|---|---|
{stages}

Of rendered clips that went through the VAE and back: {reconstruction}.
The text encoder names every attribute of the held-out captions at {accuracy:.1%} of their tokens.

## Loss curves

{curves}
"""


def write(folder: Path, log: Path, sha256: str, device: str) -> None:
    """Write ``folder/README.md`` from the losses in ``log``, JSON lines."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    by_stage: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        rows = by_stage.setdefault(line["stage"], [])
        if rows and line.get("step", 0) < rows[-1].get("step", 0):
            rows.clear()  # an earlier run of the stage was stopped
        rows.append(line)
    seen = by_stage.pop("vae, reconstructions")[-1]
    accuracy = next(v["held_out_accuracy"] for v in lines if "held_out_accuracy" in v)
    curves = {name: [r for r in rows if "loss" in r] for name, rows in by_stage.items()}
    text = CARD.format(
        training=len(training()),
        held=len(held_out()),
        all=len(training()) + len(held_out()),
        cell=PER_CELL,
        device=device,
        packages=", ".join(f"{name} {version(name)}" for name in PACKAGES),
        sha256=sha256,
        stages="\n".join(_stage(name, rows) for name, rows in curves.items()),
        reconstruction=", ".join(f"{k} {v:.3f}" for k, v in seen.items() if k != "stage"),
        accuracy=accuracy,
        curves="\n\n".join("\n".join(_curve(name, rows)) for name, rows in curves.items()),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def _stage(name: str, rows: list[dict[str, Any]]) -> str:
    return f"| {name} | {rows[-1]['step'] + 1} | {rows[-1]['seconds']:.0f} |"


def _curve(name: str, rows: list[dict[str, Any]]) -> Iterator[str]:
    """A table of about `ROWS` points; PSNR in dB, of the step's own batch."""
    every = max(1, len(rows) // ROWS)
    chosen = [*rows[: -every or None : every], rows[-1]]
    psnr = "psnr" in rows[0]
    yield f"| {name}: step | loss |{' PSNR |' if psnr else ''}"
    yield f"|---|---|{'---|' if psnr else ''}"
    for row in chosen:
        more = f" {row['psnr']:.1f} |" if psnr else ""
        yield f"| {row['step']} | {row['loss']:.4f} |{more}"
