"""Pipelines that a function gives: ``package.module:function``, called without arguments."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from pytest_vdb.errors import SourceError, nearest
from pytest_vdb.models.sources import Output
from pytest_vdb.records import Json, ModelSpec, Prompt

OURS = ("prompt", "generator", "output_type")  # call arguments that a workload does not set


class PipelineSource:
    """A diffusers pipeline in this process, on one device and in one dtype.

    ``pipeline`` is the pipeline itself. What the factory or the pipeline raises passes as it is:
    the runner knows whose fault it is. Raises SourceError for a factory that cannot be called or
    gives something else than a pipeline, and for a dtype that does not exist.
    """

    def __init__(self, spec: ModelSpec, device: str = "cpu") -> None:
        self.spec = spec
        dtype = _dtype(spec)
        pipeline = _factory(spec.location)()
        if not isinstance(pipeline, DiffusionPipeline):
            raise SourceError(
                f"{spec.location} gave a {type(pipeline).__name__}; let it return a "
                "diffusers.DiffusionPipeline"
            )
        self.pipeline: Any = pipeline.to(device)
        for component in pipeline.components.values():
            # One that has the dtype may keep some layers in float32 on purpose.
            if isinstance(component, torch.nn.Module) and getattr(component, "dtype", 0) != dtype:
                component.to(dtype=dtype)

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


def _factory(location: str) -> Callable[[], Any]:
    """The function that ``location`` names. Raises SourceError."""
    module_name, _, function_name = location.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{module_name}.".startswith(f"{exc.name}."):
            raise  # the module is there, and something that it imports is not
        raise SourceError(
            f"{location}: there is no module {exc.name!r}; install it, or put its folder on "
            "sys.path (pytest's ini option pythonpath, or PYTHONPATH)"
        ) from exc
    if not hasattr(module, function_name):
        known = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
        raise SourceError(
            f"{location}: {module.__file__} has no {function_name!r}; "
            f"{nearest(function_name, known)}"
        )
    function = getattr(module, function_name)
    if not callable(function):
        raise SourceError(
            f"{location} is a {type(function).__name__}; name a function without arguments that "
            "gives a diffusers pipeline"
        )
    return function


def _dtype(spec: ModelSpec) -> torch.dtype:
    dtype = getattr(torch, spec.dtype, None)
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        known = ("float32", "bfloat16", "float16", "float64")
        raise SourceError(
            f"model {spec.name!r} has the dtype {spec.dtype!r}: {nearest(spec.dtype, known)}"
        )
    return dtype


def _frames(video: Any) -> np.ndarray:
    """One video as (T, H, W, 3): an array as it is, a tensor (T, 3, H, W), or pictures of PIL."""
    if isinstance(video, torch.Tensor):
        channels_last = video.movedim(1, -1) if video.shape[1] == 3 else video
        return channels_last.float().cpu().numpy()
    if isinstance(video, np.ndarray):
        return video
    return np.stack([np.asarray(picture.convert("RGB")) for picture in video])
