"""What a function gives: ``package.module:function``, called without arguments."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from pytest_vdb.errors import SourceError, nearest
from pytest_vdb.models.pipeline import PipelineSource
from pytest_vdb.models.sources import Source
from pytest_vdb.records import ModelSpec


def open_factory(spec: ModelSpec, device: str = "cpu") -> Source:
    """Call the function that ``spec.location`` names; its pipeline on ``device`` in ``spec.dtype``.

    What the function raises passes as it is. Raises SourceError for one that cannot be called or
    gives something else than a pipeline, and for a dtype that does not exist.
    """
    dtype = torch_dtype(spec)
    pipeline = _factory(spec.location)()
    if not isinstance(pipeline, DiffusionPipeline):
        raise SourceError(
            f"{spec.location} gave a {type(pipeline).__name__}; let it return a "
            "diffusers.DiffusionPipeline"
        )
    pipeline.to(device)
    for component in pipeline.components.values():
        # One that has the dtype may keep some layers in float32 on purpose.
        if isinstance(component, torch.nn.Module) and getattr(component, "dtype", 0) != dtype:
            component.to(dtype=dtype)
    return PipelineSource(spec, pipeline)


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


def torch_dtype(spec: ModelSpec) -> torch.dtype:
    dtype = getattr(torch, spec.dtype, None)
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        known = ("float32", "bfloat16", "float16", "float64")
        raise SourceError(
            f"model {spec.name!r} has the dtype {spec.dtype!r}: {nearest(spec.dtype, known)}"
        )
    return dtype
