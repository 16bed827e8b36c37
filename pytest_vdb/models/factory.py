"""What a function gives: ``package.module:function``, a diffusers pipeline or an engine."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from pytest_vdb.errors import BadSetting, SourceError, nearest
from pytest_vdb.models.engine import EngineSource, parameters_of
from pytest_vdb.models.sources import Source
from pytest_vdb.records import ModelSpec


def open_factory(spec: ModelSpec, device: str = "cpu") -> Source:
    """Call the function that ``spec.location`` names, and take what it gives as a source.

    The function gets what it has a parameter for: ``device`` (text), ``dtype`` (torch's),
    ``devices`` (how many), and entries of ``spec.options`` by name. A pipeline goes to ``device``
    in ``spec.dtype`` and the other options are applied to it (`loading.apply`). Anything else is
    an engine, which puts itself where it belongs.

    What the function raises passes as it is. Raises SourceError for one that cannot be called or
    gives neither, for a dtype that does not exist, and for options that neither the function nor
    a pipeline takes; BadSetting for options that cannot mean anything.
    """
    dtype = torch_dtype(spec)
    function = _factory(spec.location)
    named = set(parameters_of(function))
    offered = {**spec.options, "device": device, "dtype": dtype, "devices": spec.devices}
    made = function(**{name: value for name, value in offered.items() if name in named})
    rest = {name: value for name, value in spec.options.items() if name not in named}
    if _is_pipeline(made):
        return _pipeline(spec, made, rest, device)
    engine = EngineSource(spec, made)
    if spec.weights == "random":
        engine.close()
        raise BadSetting(
            f"--vdb-weights=random: model {spec.name!r} ({spec.location}) is an engine, which "
            "loads its own weights; let its function take the choice"
        )
    for name, value in rest.items():
        if name != "num_threads" and value not in (None, False):  # threads are the runner's
            engine.close()
            raise SourceError(
                f"{name}={value} does nothing for model {spec.name!r}: {spec.location} gives an "
                f"engine and takes no {name!r}; add that parameter to the function, or leave the "
                "option out"
            )
    return engine


def _is_pipeline(made: Any) -> bool:
    """Asked without importing diffusers, which takes seconds that an engine need not wait."""
    module = sys.modules.get("diffusers.pipelines.pipeline_utils")
    return module is not None and isinstance(made, module.DiffusionPipeline)


def _pipeline(spec: ModelSpec, made: Any, options: dict[str, Any], device: str) -> Source:
    from pytest_vdb.models.loading import apply
    from pytest_vdb.models.pipeline import PipelineSource
    from pytest_vdb.models.random_weights import fill

    _cast(made, torch_dtype(spec))
    if spec.weights == "random":  # before options change how weights are stored
        fill(made)
    apply(made, replace(spec, options=options), device)
    return PipelineSource(spec, made)


def _cast(pipeline: Any, dtype: torch.dtype) -> None:
    for component in pipeline.components.values():
        # One that has the dtype may keep some layers in float32 on purpose.
        if isinstance(component, torch.nn.Module) and getattr(component, "dtype", 0) != dtype:
            component.to(dtype=dtype)


def _factory(location: str) -> Callable[..., Any]:
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
            f"{location} is a {type(function).__name__}; name a function that gives a "
            "diffusers pipeline or an engine"
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
