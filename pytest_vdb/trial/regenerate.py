"""Faults of ``--vdb-prove-generate``: the model is made worse, and generates its videos again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from pytest_vdb.errors import Unmeasured, VdbError
from pytest_vdb.records import Json

if TYPE_CHECKING:
    from pytest_vdb.bench import Bench
    from pytest_vdb.measure.inprocess import InProcess

WEIGHTS = 0.2
"""Standard deviation of the factor that every weight of the denoiser gets."""

SCHEDULERS = (
    *("DPMSolverMultistepScheduler", "UniPCMultistepScheduler"),
    *("EulerDiscreteScheduler", "DDIMScheduler"),
)
"""The first of these that is another and that diffusers calls compatible is the other scheduler."""

FLOW = "FlowMatchEulerDiscreteScheduler"
"""It names no compatible one; UniPC integrates the same flow with the same shift."""

Call = Mapping[str, Json]
_KEPT: WeakKeyDictionary[Bench, dict[str, Bench | str]] = WeakKeyDictionary()


def regenerated(bench: Bench) -> Iterator[tuple[str, str, Bench | str]]:
    """Of each fault its name, what it is, and a bench of the videos, or why there are none.

    Generated once for all tests of ``bench``, which keeps its own videos.
    """
    kept = _KEPT.setdefault(bench, {})
    for name, (detail, change) in CHANGES.items():
        if name not in kept:
            kept[name] = _generated(bench, change)
        yield name, detail, kept[name]


def fresh(bench: Bench) -> Bench:
    """``bench`` without its videos and what was measured on them."""
    other = copy(bench)
    other.__dict__.pop("media", None)
    other._run, other._error = None, None
    other._borrowed, other.shared, other._faults = None, None, []  # nobody else wants these
    other._scores, other._videos = {}, {}
    return other


def _generated(bench: Bench, change: Change) -> Bench | str:
    if bench.spec.source not in ("factory", "diffusers"):
        return f"{bench.spec.name} does not run here"
    try:
        with change(bench) as call:
            other = fresh(bench)
            other.workload = replace(bench.workload, call=dict(call))
            _ = other.run
            return other
    except VdbError as error:
        return str(error)


# ------------------------------------------------------------------ the changes

Change = Callable[["Bench"], AbstractContextManager[Call]]


@contextmanager
def _fewer_steps(bench: Bench) -> Iterator[Call]:
    call = bench.workload.call
    steps = call.get("num_inference_steps")
    if not isinstance(steps, int) or steps < 2:
        raise Unmeasured(f"num_inference_steps is {steps}: there is none to leave out")
    yield {**call, "num_inference_steps": steps - 1}


@contextmanager
def _other_scheduler(bench: Bench) -> Iterator[Call]:
    with _pipeline(bench) as pipeline:
        before = getattr(pipeline, "scheduler", None)
        other = _another(before)
        try:
            pipeline.scheduler = other
            yield bench.workload.call
        finally:
            pipeline.scheduler = before


def _another(scheduler: Any) -> Any:
    """A scheduler for the same model. Raises Unmeasured where none is known to fit."""
    name = type(scheduler).__name__
    if name == FLOW:
        import diffusers

        unipc: Any = diffusers.UniPCMultistepScheduler
        return unipc(
            num_train_timesteps=scheduler.config.num_train_timesteps,
            prediction_type="flow_prediction",
            use_flow_sigmas=True,
            flow_shift=scheduler.config.shift,
        )
    known = {kind.__name__: kind for kind in getattr(scheduler, "compatibles", ())}
    other = next((one for one in SCHEDULERS if one in known and one != name), None)
    if other is None:
        raise Unmeasured(f"no other scheduler is known to fit the model of {name}")
    return known[other].from_config(scheduler.config)


@contextmanager
def _other_weights(bench: Bench) -> Iterator[Call]:
    """Every weight of the denoiser times 1 + a seeded normal deviate of `WEIGHTS`."""
    import torch

    with _pipeline(bench) as pipeline:
        denoiser = getattr(pipeline, "transformer", None) or getattr(pipeline, "unet", None)
        if denoiser is None:
            raise Unmeasured("the pipeline has neither a transformer nor a unet")
        random = torch.Generator().manual_seed(0)
        weights = [p for p in denoiser.parameters() if p.is_floating_point()]
        before = [p.detach().to("cpu", copy=True) for p in weights]
        try:
            with torch.no_grad():
                for p in weights:
                    p.mul_((1 + WEIGHTS * torch.randn(p.shape, generator=random)).to(p))
            yield bench.workload.call
        finally:
            with torch.no_grad():
                for p, old in zip(weights, before, strict=True):
                    p.copy_(old)


@contextmanager
def _pipeline(bench: Bench) -> Iterator[Any]:
    """The loaded pipeline of the in-process runner. Raises Unmeasured where there is none."""
    runner = bench.session.runner(bench.settings.runner, bench.spec)
    if runner.name != "inprocess":
        raise Unmeasured("the model runs in a child process; add --vdb-runner=inprocess")
    with cast("InProcess", runner).source(bench.job(), "--vdb-prove-generate") as source:
        pipeline = getattr(source, "pipeline", None)
        if pipeline is None:
            raise Unmeasured(f"{bench.spec.name} is an engine, and no diffusers pipeline")
        yield pipeline


CHANGES: dict[str, tuple[str, Change]] = {
    "one step fewer": ("num_inference_steps less 1", _fewer_steps),
    "other scheduler": ("another scheduler of the same kind", _other_scheduler),
    "other weights": (f"the denoiser's weights ± {WEIGHTS:.0%}", _other_weights),
}
