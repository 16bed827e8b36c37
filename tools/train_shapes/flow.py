"""Stage 3, the transformer: flow matching on the VAE's latents, with caption dropout."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from muon import Both, averaged
from pipeline import SHIFT, transformer
from text import embed

from pytest_vdb.scenes import TEMPLATES, Scene

BATCH = 64
DROPOUT = 0.12  # captions that are left empty, so that guidance has something to guide away from
EMA = 0.998


def train(
    latents: torch.Tensor,
    scenes: Sequence[Scene],
    encoder: Any,
    steps: int,
    log: Callable[..., None],
    device: str,
    seed: int = 2,
) -> Any:
    """A WanTransformer3DModel in evaluation mode, its weights a moving average.

    ``latents`` (N, z, t, h, w) are normalised, one for each of ``scenes``. The model predicts the
    velocity noise − latent at (1 − σ) latent + σ noise, for the timestep 1000 σ: rectified flow
    (Liu et al., ICLR 2023) in the convention of diffusers' FlowMatchEulerDiscreteScheduler.
    """
    torch.manual_seed(seed)
    model = transformer(latents.shape[1]).to(device)
    model.train()
    texts = _texts(encoder, scenes, device)
    empty = embed(encoder, [""], device)[0]
    inner = {n: p.ndim == 2 and n.startswith("blocks.") for n, p in model.named_parameters()}
    optimiser = Both(
        [p for n, p in model.named_parameters() if inner[n]],
        [p for n, p in model.named_parameters() if not inner[n]],
        steps,
        muon=0.02,
        adam=2e-3,
        warmup=100,
    )
    average, start, recent = averaged(model, EMA), time.monotonic(), []
    latents = latents.to(device)
    for step in range(steps):
        which = torch.randint(len(latents), (BATCH,), device=device)
        text = texts[which, torch.randint(len(TEMPLATES), (BATCH,), device=device)]
        text[torch.rand(BATCH, device=device) < DROPOUT] = empty
        sigma = noise_levels(BATCH, device)
        noise = torch.randn_like(latents[which])
        at = sigma.view(-1, 1, 1, 1, 1)
        noisy = (1 - at) * latents[which] + at * noise
        velocity = model(noisy, 1000 * sigma, text, return_dict=False)[0]
        loss = (velocity - (noise - latents[which])).square().mean()
        optimiser.step(loss)
        average.update_parameters(model)
        recent.append(loss.item())
        if len(recent) == 100 or step == steps - 1:
            log("transformer", step=step, seconds=time.monotonic() - start, loss=_mean(recent))
            recent.clear()
    return average.module.eval()


def noise_levels(count: int, device: str) -> torch.Tensor:
    """(count,) in (0, 1): 80 % logit-normal, 20 % uniform, shifted as sampling is."""
    normal = torch.sigmoid(torch.randn(count, device=device))
    uniform = torch.rand(count, device=device)
    plain = torch.where(torch.rand(count, device=device) < 0.8, normal, uniform)
    return SHIFT * plain / (1 + (SHIFT - 1) * plain)


def _texts(encoder: Any, scenes: Sequence[Scene], device: str) -> torch.Tensor:
    """(N, templates, TOKENS, 64): each scene's captions, embedded once."""
    distinct = sorted(set(scenes))
    table = torch.stack(
        [embed(encoder, [s.caption(t) for t in TEMPLATES], device) for s in distinct]
    )
    index = {scene: i for i, scene in enumerate(distinct)}
    return table[torch.tensor([index[scene] for scene in scenes], device=device)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
