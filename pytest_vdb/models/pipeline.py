"""A diffusers pipeline as a source of videos: its call, its latent, its frames."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from pytest_vdb.errors import SourceError, nearest
from pytest_vdb.models.sources import Output, provides
from pytest_vdb.records import Json, ModelSpec, Prompt

OURS = ("prompt", "image", "generator", "output_type")  # what a workload does not set


class PipelineSource:
    """A loaded diffusers pipeline in this process; ``pipeline`` is the pipeline itself.

    What the pipeline raises passes as it is: the runner knows whose fault it is.
    """

    def __init__(self, spec: ModelSpec, pipeline: DiffusionPipeline) -> None:
        self.spec = spec
        self.pipeline: Any = pipeline

    @property
    def provides(self) -> frozenset[str]:
        return provides(self.spec)

    @property
    def nbytes(self) -> int:
        """Bytes of all parameters and buffers, each tensor counted once."""
        modules = [c for c in self.pipeline.components.values() if isinstance(c, torch.nn.Module)]
        tensors = {t for m in modules for t in (*m.parameters(), *m.buffers())}
        return sum(tensor.nbytes for tensor in tensors)

    def generate(self, prompt: Prompt, seed: int, call: Mapping[str, Json]) -> Output:
        """One video: frames (T, H, W, 3), float32 in [0, 1] or uint8, and its pre-VAE latent.

        The random numbers come from a generator on the CPU, so a seed means the same noise on
        every device. Raises SourceError for arguments that the pipeline does not take and for a
        result without a video.
        """
        arguments = self._arguments(prompt, call)
        arguments["generator"] = torch.Generator("cpu").manual_seed(seed)
        with torch.inference_mode(), captured_latent(self.pipeline) as captured:
            result = self.pipeline(**arguments)
        if not hasattr(result, "frames"):
            raise SourceError(
                f"{type(self.pipeline).__name__} gave a {type(result).__name__} without .frames; "
                "only pipelines that give videos can be measured"
            )
        fps = call.get("frame_rate", call.get("fps"))
        latent = captured[0].float().cpu().numpy() if captured else None
        return Output(_frames(result.frames[0]), latent, None if fps is None else float(fps))

    def close(self) -> None:
        """Let go of the pipeline and of the accelerator memory it held."""
        self.pipeline = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _arguments(self, prompt: Prompt, call: Mapping[str, Json]) -> dict[str, Any]:
        """The call's arguments without the generator, each checked against the signature."""
        name = type(self.pipeline).__name__
        parameters = inspect.signature(type(self.pipeline).__call__).parameters
        free = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        accepted = set(parameters) - {"self", *OURS}
        for argument in call:
            if argument in OURS:
                raise SourceError(
                    f"call argument {argument!r} of model {self.spec.name!r} is set by the plugin; "
                    "prompts and seeds are the workload's (prompts=..., num_seeds=...)"
                )
            if argument not in accepted and not free:
                raise SourceError(
                    f"{name} (model {self.spec.name!r}) takes no argument {argument!r}: "
                    f"{nearest(argument, accepted)}"
                )
        for needed in ("prompt", "generator"):
            if needed not in parameters and not free:
                raise SourceError(f"{name} (model {self.spec.name!r}) takes no {needed!r}")
        ours = {"prompt": prompt.text, "output_type": "np"}
        return {k: v for k, v in ours.items() if k in parameters or free} | dict(call)


@contextmanager
def captured_latent(pipeline: Any) -> Iterator[list[torch.Tensor]]:
    """Collect what ``pipeline.vae.decode`` receives inside the block: a list of at most one tensor.

    Only calls from outside the VAE count: a VAE that tiles may call its own ``decode`` on parts.
    A pipeline that decodes in pieces (frames by frames) makes several; then the largest is kept,
    the first of equals: it is a part of the video, never something put together here, and
    whether two videos are equal must be judged by their frames as well. It is a reference, so
    a VAE that worked in place would show in it. ``decode`` is the VAE's own again afterwards, also
    after an exception. Without a VAE that decodes, the list stays empty.
    """
    kept: list[torch.Tensor] = []
    vae: Any = getattr(pipeline, "vae", None)
    if not callable(getattr(vae, "decode", None)):
        yield kept
        return
    before = vae.__dict__.get("decode")  # someone else's wrap on this instance
    decode = vae.decode
    inside = False

    def recording(*args: Any, **kwargs: Any) -> Any:
        nonlocal inside
        if inside:
            return decode(*args, **kwargs)
        latent = args[0] if args else next(iter(kwargs.values()), None)
        if isinstance(latent, torch.Tensor) and (not kept or latent.numel() > kept[0].numel()):
            kept[:] = [latent]
        inside = True
        try:
            return decode(*args, **kwargs)
        finally:
            inside = False

    vae.__dict__["decode"] = recording
    try:
        yield kept
    finally:
        if before is None:
            del vae.__dict__["decode"]
        else:
            vae.__dict__["decode"] = before


def _frames(video: Any) -> np.ndarray:
    """One video as (T, H, W, 3): an array as it is, a tensor (T, 3, H, W), or pictures of PIL."""
    if isinstance(video, torch.Tensor):
        channels_last = video.movedim(1, -1) if video.shape[1] == 3 else video
        return channels_last.float().cpu().numpy()
    if isinstance(video, np.ndarray):
        return video
    return np.stack([np.asarray(picture.convert("RGB")) for picture in video])
