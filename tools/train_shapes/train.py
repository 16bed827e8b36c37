"""Train the embedded model `shapes` from scratch; one command, about an hour on 2 CPU cores.

    python tools/train_shapes/train.py OUT [--device cuda] [--threads 2]

OUT/shapes becomes the folder that the package ships as pytest_vdb/models/shapes. Every stage is
kept in OUT as it ends, and is not done again by the next call; OUT/log.jsonl holds the losses.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import card
import data
import flow
import numpy as np
import pipeline
import text
import torch
import vae
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from transformers import UMT5EncoderModel

STEPS = {"frames": 900, "clips": 1800, "text": 600, "flow": 4000}
CLIPS = 6000  # encoded once for the transformer
SHAPE_SEEN = 0.95  # of rendered clips, after the VAE: below it, no transformer can do better


class Log:
    """One line of JSON a record, flushed, so that a killed run keeps what it had."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def __call__(self, stage: str, **values: float) -> None:
        line = json.dumps({"stage": stage, **{k: round(v, 5) for k, v in values.items()}})
        print(line, flush=True)
        self._file.write(line + "\n")
        self._file.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for stages, log and model")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--threads", type=int, default=2, help="of torch on a CPU (default 2)")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    asked.out.mkdir(parents=True, exist_ok=True)
    log, device = Log(asked.out / "log.jsonl"), asked.device

    encoder = stage(
        asked.out / "text_encoder", UMT5EncoderModel, text.train, STEPS["text"], log, device
    ).to(device)
    coder = stage(
        asked.out / "vae", AutoencoderKLWan, vae.train, STEPS["frames"], STEPS["clips"], log, device
    ).to(device)
    scenes, video = data.clips(CLIPS, seed=3)
    check_vae(coder, scenes[:300], video[:300], log)
    latents = vae.normalise(coder, vae.encode(coder, video))
    denoiser = stage(
        *(asked.out / "transformer", WanTransformer3DModel, flow.train),
        *(latents, scenes, encoder, STEPS["flow"], log, device),
    )
    folder = asked.out / "shapes"
    sha256 = pipeline.export(pipeline.assemble(coder.cpu(), encoder.cpu(), denoiser.cpu()), folder)
    card.write(folder, asked.out / "log.jsonl", sha256, device)
    print(f"{folder}: sha256 {sha256}")


def stage(folder: Path, kind: Any, train: Callable[..., Any], *args: Any) -> Any:
    """What ``train`` gives, or gave an earlier call: the model of class ``kind`` in ``folder``."""
    if not (folder / "config.json").is_file():
        train(*args).cpu().save_pretrained(folder)
    return kind.from_pretrained(folder).eval()


@torch.no_grad()
def check_vae(coder: Any, scenes: list[Any], video: torch.Tensor, log: Callable[..., None]) -> None:
    """Stop where the VAE loses what the captions speak of."""
    parts = video.split(32)
    decoded = [coder.decode(vae.encode(coder, part)).sample.clamp(-1, 1).cpu() for part in parts]
    pixels = ((torch.cat(decoded) + 1) * 127.5).round().to(torch.uint8)
    frames = pixels.permute(0, 2, 3, 4, 1).numpy()
    scores = {
        name: float(np.mean([metric(f, s.caption()) for f, s in zip(frames, scenes, strict=True)]))
        for name, metric in card.METRICS.items()
    }
    log("vae, reconstructions", **scores)
    if scores["shape"] < SHAPE_SEEN:
        raise SystemExit(f"the VAE keeps the shape of {scores['shape']:.0%}; train it longer")


if __name__ == "__main__":
    main()
