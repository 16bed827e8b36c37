"""What a pull request may do to a pipeline: the variants of ``tools/shapes_study.py``.

Each is a function that breaks a loaded pipeline in place. ``build`` is the factory under test; the
environment variable VARIANT says which of them it applies.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import WanPipeline

from pytest_vdb.models.catalog import SHAPES
from pytest_vdb.scenes import read, scenes

FOLDER = Path(SHAPES.location)


class UnderTest(WanPipeline):
    """A `WanPipeline`; a variant may put a function in ``before``, which gets each call's
    arguments and changes them. So the workload, which is what the gate compares by, stays."""

    before: Callable[[dict[str, Any]], None] | None = None

    @functools.wraps(WanPipeline.__call__)
    def __call__(self, **arguments: Any) -> Any:
        if self.before:
            self.before(arguments)
        return super().__call__(**arguments)


Variant = Callable[[UnderTest], None]


def build() -> UnderTest:
    """The shipped pipeline with the variant that VARIANT names."""
    pipeline = loaded(torch.float32)
    VARIANTS[os.environ.get("VARIANT", "unbroken")](pipeline)
    return pipeline


def loaded(dtype: torch.dtype) -> UnderTest:
    pipeline = UnderTest.from_pretrained(FOLDER, torch_dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def nothing(pipeline: UnderTest) -> None:
    pass


def call(**changes: Any) -> Variant:
    """Call with other arguments than those that the workload asks for."""

    def variant(pipeline: UnderTest) -> None:
        pipeline.before = lambda arguments: arguments.update(changes)

    return variant


def shift(value: float) -> Variant:
    """Place the steps elsewhere between noise and video."""

    def variant(pipeline: UnderTest) -> None:
        kind, config = type(pipeline.scheduler), pipeline.scheduler.config
        pipeline.scheduler = kind.from_config(config, shift=value)

    return variant


def noise(share: float) -> Variant:
    """Multiply every weight of the transformer by 1 + share · N(0, 1)."""

    def variant(pipeline: UnderTest) -> None:
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in pipeline.transformer.parameters():
                weight.mul_(1 + share * torch.randn(weight.shape, generator=generator))

    return variant


def fewer_steps(share: float) -> Variant:
    """Take ``share`` of the denoise steps that are asked for."""

    def cut(arguments: dict[str, Any]) -> None:
        arguments["num_inference_steps"] = round(share * arguments["num_inference_steps"])

    def variant(pipeline: UnderTest) -> None:
        pipeline.before = cut

    return variant


def keys_backwards(pipeline: UnderTest) -> None:
    """Attend to the keys in reverse order: the same sum, rounded differently."""
    attend = torch.nn.functional.scaled_dot_product_attention

    def backwards(query: Any, key: Any, value: Any, attn_mask: Any = None, **how: Any) -> Any:
        if attn_mask is None:
            key, value = key.flip(-2), value.flip(-2)
        return attend(query, key, value, attn_mask=attn_mask, **how)

    def patch(arguments: dict[str, Any]) -> None:
        torch.nn.functional.scaled_dot_product_attention = backwards

    pipeline.before = patch


def bf16(pipeline: UnderTest) -> None:
    """Compute in bfloat16, as a pipeline that is loaded in it does.

    Its weights are taken at the call: until then, the plugin casts to the workload's dtype.
    """
    half = loaded(torch.bfloat16)

    def take(arguments: dict[str, Any]) -> None:
        for name, part in half.components.items():
            if isinstance(part, torch.nn.Module):
                getattr(pipeline, name).load_state_dict(part.state_dict(), assign=True)

    pipeline.before = take


def other_text(pipeline: UnderTest) -> None:
    """Ask for a scene that differs in every attribute: the next such one in the vocabulary."""

    def swap(arguments: dict[str, Any]) -> None:
        known = scenes()
        scene = read(arguments["prompt"])
        at = known.index(scene)
        others = (other for other in known[at:] + known[:at] if not alike(other, scene))
        arguments["prompt"] = next(others).caption()

    pipeline.before = swap


def alike(one: Any, other: Any) -> bool:
    """Whether two scenes share an attribute."""
    return any(value == vars(other)[name] for name, value in vars(one).items())


def other_seed(pipeline: UnderTest) -> None:
    def reseed(arguments: dict[str, Any]) -> None:
        generator = arguments["generator"]
        generator.manual_seed(generator.initial_seed() + 1000)

    pipeline.before = reseed


def tiles(pipeline: UnderTest) -> None:
    """Decode in 3×3 tiles of 32 px that overlap by 8; by default, 64 px are one tile."""
    pipeline.vae.enable_tiling(32, 32, 24, 24)


def latents_as_they_are(pipeline: UnderTest) -> None:
    """Forget the VAE's latents_mean and latents_std."""
    width = pipeline.vae.config.z_dim
    pipeline.vae.register_to_config(latents_mean=[0.0] * width, latents_std=[1.0] * width)


VARIANTS: dict[str, Variant] = {
    "unbroken": nothing,
    "bf16": bf16,
    "VAE tiling": tiles,
    "attention in another order": keys_backwards,
    "a third of the steps": fewer_steps(1 / 3),
    "4 steps": call(num_inference_steps=4),
    "2 steps": call(num_inference_steps=2),
    "guidance 1": call(guidance_scale=1.0),
    "guidance 4": call(guidance_scale=4.0),
    "guidance 8": call(guidance_scale=8.0),
    "shift 1": shift(1.0),
    "shift 10": shift(10.0),
    "weight noise 1 %": noise(0.01),
    "weight noise 5 %": noise(0.05),
    "weight noise 10 %": noise(0.10),
    "weight noise 20 %": noise(0.20),
    "512 tokens": call(max_sequence_length=512),
    "latents not rescaled": latents_as_they_are,
    "no text": call(prompt=""),
    "other text": other_text,
    "other seed": other_seed,
}
"""In the order of the study's table."""
