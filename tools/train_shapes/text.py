"""Stage 2, the text encoder: every token's embedding comes to tell the whole scene."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from data import held_out, training
from muon import Both
from pipeline import TOKENS, text_encoder
from torch.nn import functional
from transformers import ByT5Tokenizer

from pytest_vdb.scenes import BACKGROUNDS, COLORS, DIRECTIONS, SHAPES, TEMPLATES, Scene

TABLES = {
    "color": tuple(COLORS),
    "shape": SHAPES,
    "direction": tuple(DIRECTIONS),
    "background": tuple(BACKGROUNDS),
}


def train(steps: int, log: Callable[..., None], device: str = "cpu", seed: int = 1) -> Any:
    """A UMT5EncoderModel in evaluation mode, trained to tell each attribute at every token.

    Four linear heads, one an attribute, are trained with it and thrown away.
    """
    torch.manual_seed(seed)
    encoder = text_encoder().to(device)
    heads = torch.nn.ModuleDict({k: torch.nn.Linear(64, len(v)) for k, v in TABLES.items()})
    heads.to(device)
    scenes = training()
    tokens = tokenise([s.caption(t) for s in scenes for t in TEMPLATES], device)
    labels = _labels([s for s in scenes for _ in TEMPLATES], device)
    every = [*encoder.parameters(), *heads.parameters()]
    optimiser = Both([], every, steps, muon=0.0, adam=3e-3)
    start = time.monotonic()
    for step in range(steps):
        which = torch.randint(len(tokens["input_ids"]), (64,), device=device)
        loss, _ = _loss(encoder, heads, tokens, labels, which)
        optimiser.step(loss)
        if step % 50 == 0 or step == steps - 1:
            seconds = time.monotonic() - start
            log("text encoder", step=step, seconds=seconds, loss=loss.item())
    hidden = held_out()
    tokens = tokenise([s.caption(t) for s in hidden for t in TEMPLATES], device)
    labels = _labels([s for s in hidden for _ in TEMPLATES], device)
    with torch.no_grad():
        every_one = torch.arange(len(tokens["input_ids"]), device=device)
        _, accuracy = _loss(encoder.eval(), heads, tokens, labels, every_one)
    log("text encoder", step=steps, held_out_accuracy=accuracy)
    return encoder


def tokenise(captions: Sequence[str], device: str = "cpu") -> dict[str, torch.Tensor]:
    """``input_ids`` and ``attention_mask``, (N, TOKENS), as WanPipeline asks for them."""
    batch = ByT5Tokenizer()(
        list(captions),
        padding="max_length",
        max_length=TOKENS,
        truncation=True,
        return_tensors="pt",
    )
    return {key: batch[key].to(device) for key in ("input_ids", "attention_mask")}


@torch.no_grad()
def embed(encoder: Any, captions: Sequence[str], device: str = "cpu") -> torch.Tensor:
    """(N, TOKENS, 64) float32, zero behind each caption's end, as WanPipeline makes them."""
    tokens = tokenise(captions, device)
    return encoder(**tokens).last_hidden_state * tokens["attention_mask"][..., None]


def _labels(scenes: Sequence[Scene], device: str) -> dict[str, torch.Tensor]:
    return {
        key: torch.tensor([table.index(getattr(s, key)) for s in scenes], device=device)
        for key, table in TABLES.items()
    }


def _loss(
    encoder: Any,
    heads: Any,
    tokens: dict[str, torch.Tensor],
    labels: dict[str, torch.Tensor],
    which: torch.Tensor,
) -> tuple[torch.Tensor, float]:
    """Cross-entropy over the captions' own tokens, and the share of tokens that are all right."""
    batch = {key: value[which] for key, value in tokens.items()}
    hidden = encoder(**batch).last_hidden_state
    real = batch["attention_mask"].bool()
    loss, right = torch.zeros((), device=hidden.device), torch.ones_like(real[real])
    for key, head in heads.items():
        scores = head(hidden[real])
        target = labels[key][which][:, None].expand_as(real)[real]
        loss = loss + functional.cross_entropy(scores, target)
        right &= scores.argmax(-1) == target
    return loss, right.float().mean().item()
