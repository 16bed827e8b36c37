"""Pipelines that a ``module:function`` makes: the embedded models, and a repository's own."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline

from pytest_vdb.errors import SourceError, nearest
from pytest_vdb.models.sources import Output
from pytest_vdb.records import Json, ModelSpec, Prompt


class PipelineSource:
    """A diffusers pipeline, loaded on a device in the spec's dtype."""

    def __init__(self, spec: ModelSpec, device: str) -> None:
        pipeline = _resolve(spec.location)()
        if not isinstance(pipeline, DiffusionPipeline):
            raise SourceError(
                f"{spec.location} gave a {type(pipeline).__name__}; it must give a diffusers "
                f"pipeline (a DiffusionPipeline)"
            )
        self.pipeline: Any = pipeline.to(device, _dtype(spec.dtype))
        self._accepted = inspect.signature(self.pipeline.__call__).parameters

    def generate(self, prompt: Prompt, seed: int, call: Mapping[str, Json]) -> Output:
        """One video; raises SourceError for a call argument that the pipeline does not take."""
        takes_any = any(p.kind is p.VAR_KEYWORD for p in self._accepted.values())
        for name in () if takes_any else call:
            if name not in self._accepted:
                raise SourceError(
                    f"{type(self.pipeline).__name__} takes no argument {name!r}: "
                    f"{nearest(name, self._accepted)}"
                )
        generator = torch.Generator("cpu").manual_seed(seed)
        with torch.inference_mode(), _latent(self.pipeline) as seen:
            frames = self.pipeline(
                prompt=prompt.text, generator=generator, output_type="np", **call
            ).frames[0]
        fps = call.get("frame_rate", call.get("fps"))
        return Output(np.asarray(frames), seen[0] if seen else None, fps)

    def close(self) -> None:
        self.pipeline = None


def _resolve(location: str) -> Any:
    module, _, name = location.partition(":")
    try:
        function = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise SourceError(f"{location}: no module {error.name!r} on sys.path") from None
    except AttributeError:
        raise SourceError(f"{location}: {module} has no {name!r}") from None
    if not callable(function):
        raise SourceError(f"{location} is a {type(function).__name__}, which cannot be called")
    return function


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise SourceError(f"{name!r} is no dtype; write float32, bfloat16 or float16")
    return dtype


@contextmanager
def _latent(pipeline: Any) -> Iterator[list[np.ndarray]]:
    """Note what ``vae.decode`` receives: the pre-VAE latent."""
    vae = getattr(pipeline, "vae", None)
    seen: list[Any] = []
    if vae is None:
        yield seen
        return
    decode = vae.decode

    def noted(latent: Any, *args: Any, **kwargs: Any) -> Any:
        if not seen:
            seen.append(latent)
        return decode(latent, *args, **kwargs)

    own = "decode" in vars(vae)
    vae.decode = noted
    try:
        yield seen
        seen[:] = [x.detach().float().cpu().numpy() for x in seen]
    finally:
        if own:
            vae.decode = decode
        else:
            del vae.decode
