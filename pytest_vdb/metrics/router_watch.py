"""Seeing from outside which expert each token goes to: forward hooks on a model's routers.

A hook reads what a router returns and changes nothing: outputs are the same to the bit. Numbers
stay on the router's device until they are asked for.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import groupby
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from pytest_vdb.errors import BadRouting, BadSetting, RoutingWarning, Unmeasured, nearest
from pytest_vdb.metrics.catalog.routing import ROUTING, RoutingMetric
from pytest_vdb.metrics.router_read import Reader, Routing
from pytest_vdb.metrics.routing import LEAST, Layer, Steps, find

NAMES = ("gate", "router", "gating")
"""A router is a module of one of these names that stands beside a module ``experts``."""

SCORES = ("", "softmax", "sigmoid")


@dataclass(frozen=True)
class Router:
    """Which modules are routers, and how to read them where they do not tell by themselves.

    ``path`` is a module's name as `RouterWatch` has it (``"transformer.blocks.0.ff.gate"``), or a
    pattern (``"transformer.*.gate"``). ``top_k`` and ``experts`` are needed where neither the
    router nor its block has them as attributes. ``score`` makes probabilities of logits,
    ``"softmax"`` or ``"sigmoid"`` (normalised to a sum of 1); empty is the one that the router's
    own weights agree with, softmax where it returns none. ``capacity_factor``: experts choose
    tokens instead of tokens experts (Zhou et al. 2022, arXiv:2202.09368), each ⌈factor · S / E⌉ of
    a sequence of S.

    ``read`` replaces all of that but ``experts``: ``read(module, inputs, output)`` of one call
    gives (chosen, probabilities): int (…, k) indices of experts, where any other number than 0 to
    E − 1 is none, or bool (…, E); and float (…, E), or None. It must not change what it gets.

    Raises BadSetting for a field that cannot mean anything.
    """

    path: str
    top_k: int = 0
    experts: int = 0
    score: str = ""
    capacity_factor: float = 0.0
    read: Callable[[nn.Module, Any, Any], Routing] | None = None

    def __post_init__(self) -> None:
        if self.score not in SCORES:
            raise BadSetting(f"Router(score={self.score!r}): write 'softmax' or 'sigmoid'")
        if min(self.top_k, self.experts, self.capacity_factor) < 0:
            raise BadSetting(f"{self}: top_k, experts and capacity_factor are 0 or more")


class RouterWatch:
    """``with watch: pipeline(...)``, again and again; what it saw adds up.

    ``layers``: what each router did, by its name. ``steps``: where a pipeline has several whole
    denoisers of which each takes some of the timesteps (Wan 2.2's ``transformer`` and
    ``transformer_2``), what each did. All is empty after an exception.

    ``model`` is a module, or a pipeline, whose attributes are modules. Raises Unmeasured where
    neither a router nor a second denoiser is found, BadSetting where a named router is not there.
    """

    def __init__(self, model: object, routers: Iterable[Router | str] = ()) -> None:
        modules = dict(_modules(model))
        named = [Router(r) if isinstance(r, str) else r for r in routers]
        chosen = [r for one in named for r in _matching(one, modules)] or _found(modules)
        self._denoisers = _denoisers(model)
        if not chosen and not self._denoisers:
            raise Unmeasured(
                f"{type(model).__name__} has no router that can be told (a module "
                f"{', '.join(NAMES)} beside a module experts), and no second denoiser; name it: "
                "watch(model, routers=[Router('path.to.router', top_k=2)])"
            )
        self._routers = [(r, modules[r.path], _parent(r.path, modules)) for r in chosen]
        self._undo = ExitStack()
        self.running = False
        self._forget()

    def _forget(self) -> None:
        self._taps = {r.path: _Tap(r, module, parent) for r, module, parent in self._routers}
        self._calls: list[tuple[str, torch.Tensor]] = []

    def __enter__(self) -> Self:
        if self.running:
            raise RuntimeError("this watch is on already; give every block its own")
        with ExitStack() as undo:
            for path, module, _ in ((r.path, m, p) for r, m, p in self._routers):
                undo.callback(module.register_forward_hook(self._taps[path]).remove)
            for name, module in self._denoisers.items():
                hook = module.register_forward_pre_hook(self._stepper(name), with_kwargs=True)
                undo.callback(hook.remove)
            self._undo = undo.pop_all()
        self.running = True
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self.running = False
        self._undo.close()
        if kind is not None:
            self._forget()

    def _stepper(self, name: str) -> Callable[..., None]:
        def step(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
            if torch.compiler.is_compiling():
                return
            time = kwargs.get("timestep", args[1] if len(args) > 1 else torch.nan)
            self._calls.append((name, torch.as_tensor(time).detach().max()))

        return step

    # ------------------------------------------------------------------ what it saw

    @property
    def layers(self) -> dict[str, Layer]:
        """What each router did, by its name."""
        return {path: tap.layer() for path, tap in self._taps.items()}

    @property
    def steps(self) -> dict[str, Steps]:
        """What each whole denoiser did. Calls in a row at one timestep are one step (guidance).

        Raises Unmeasured where one was compiled in place: nobody sees its calls.
        """
        for name, module in self._denoisers.items():
            if module._compiled_call_impl is not None:
                raise Unmeasured(f"{name} was compiled in place: watch it before .compile()")
        calls = [(name, float(time)) for name, time in self._calls]
        runs = [run for run, _ in groupby(calls)]
        return {
            name: Steps(
                calls=sum(called == name for called, _ in calls),
                timesteps=tuple(time for called, time in runs if called == name),
            )
            for name in self._denoisers
        }

    def worst(self, name: str) -> tuple[str, float]:
        """The layer at the worse end of a routing metric, and its value.

        Raises UnknownMetric, BadSetting for a metric without a worse end, and Unmeasured where one
        layer has no value: it might be the worst.
        """
        spec = find(name)
        if not spec.better:
            raise BadSetting(f"{name} has no worse end; look at layers[...].score({name!r})")
        if not self._taps:
            raise Unmeasured(f"{name}: there is no router here but whole experts; see steps")
        values = {path: layer.score(name) for path, layer in self.layers.items()}
        pick = max if spec.better == "lower" else min
        path = pick(values, key=values.__getitem__)
        return path, values[path]

    def score(self, name: str) -> float:
        """A routing metric of its worst layer; raises as `worst`."""
        return self.worst(name)[1]

    def check(self, **limits: float) -> None:
        """Raise BadRouting where a layer is beyond an error bound; warn beyond a warning bound.

        ``limits`` replace both bounds of a metric, at its worse end: ``check(gini=0.6)``. Of a
        pipeline with several denoisers, each must have had a step. Raises Unmeasured where a
        router or all denoisers never ran, and below 100 assignments an expert.
        """
        for name in limits:
            if not find(name).better:
                raise BadSetting(f"check({name}=...): {name} has no worse end")
        idle = [name for name, steps in self.steps.items() if not steps.calls]
        if idle and len(idle) == len(self._denoisers):
            raise Unmeasured(f"none of {', '.join(idle)} ran while it was watched")
        bad = [f"{name} had no step" for name in idle]
        for path, layer in self.layers.items():
            _require_enough(path, layer)
            for spec in (_limited(spec, limits) for spec in ROUTING):
                bad += _judge(path, layer, spec, needed=spec.name in limits)
        if bad:
            raise BadRouting("; ".join(bad))


def _require_enough(path: str, layer: Layer) -> None:
    least = LEAST * len(layer.counts)
    if not layer.trouble and layer.counts.sum() + layer.dropped < least:
        raise Unmeasured(
            f"{path} routed {layer.tokens} tokens to {len(layer.counts)} experts, {LEAST} "
            f"assignments each are needed ({least}) to tell a bad router from chance: watch more "
            "steps, frames or pixels"
        )


def _limited(spec: RoutingMetric, limits: dict[str, float]) -> RoutingMetric:
    if spec.name not in limits:
        return spec
    limit, infinite = limits[spec.name], float("inf")
    bounds = (-infinite, limit) if spec.better == "lower" else (limit, infinite)
    return replace(spec, warn=bounds, error=bounds)


def _judge(path: str, layer: Layer, spec: RoutingMetric, *, needed: bool) -> Iterator[str]:
    """What is wrong. A metric of probabilities is left out where the router does not tell them,
    unless it was asked for: the bounds are of counts."""
    if not needed and not layer.trouble and any(getattr(layer, f) is None for f in spec.given):
        return
    value = layer.score(spec.name)
    for (low, high), wrong in ((spec.error, True), (spec.warn, False)):
        if low <= value <= high:
            continue
        beyond = f"below {low:g}" if value < low else f"above {high:g}"
        message = f"{path}: {spec.name} {value:.3g} is {beyond} ({spec.summary})"
        if wrong:
            yield message
        else:
            warnings.warn(message, RoutingWarning, stacklevel=3)
        return


# ---------------------------------------------------------------- one router


class _Tap:
    """The hook on one router, with its sums."""

    def __init__(self, router: Router, module: nn.Module, parent: nn.Module | None) -> None:
        self.path = router.path
        self.calls = self.tokens = 0
        self.trouble = self.why = ""
        self.sums: list[torch.Tensor] = []  # assignments, dropped, probabilities, entropies
        try:
            self.reader = Reader(router, module, parent)
        except Unmeasured as error:
            self.trouble = str(error)

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        if torch.compiler.is_compiling():
            return  # else it would break the graph, and stay in it when the hook is off
        self.calls += 1
        if self.trouble:
            return
        try:
            with torch.no_grad():
                self._add(*self.reader(module, args, output))
        except Exception as error:  # whatever it is, the generation that is watched goes on
            self.trouble = str(error) if isinstance(error, Unmeasured) else repr(error)

    def _add(self, chosen: torch.Tensor, probabilities: torch.Tensor | None) -> None:
        sums = [*_assigned(chosen, self.reader.experts)]
        if probabilities is not None:
            rows = probabilities.double()
            sums += [rows.sum(dim=0), torch.special.entr(rows).sum()]
        else:
            self.why = self.reader.why
        self.tokens += len(chosen)
        before = self.sums or [torch.zeros_like(value) for value in sums]
        self.sums = [a + b for a, b in zip(before, sums, strict=True)]

    def layer(self) -> Layer:
        trouble = self.trouble or ("" if self.calls else _NEVER)
        if trouble or not self.sums:
            return Layer(self.path, np.zeros(0, np.int64), 0, 0, self.calls, trouble=trouble)
        counts, dropped, *rest = (value.cpu().numpy() for value in self.sums)
        layer = Layer(self.path, counts, self.tokens, int(dropped), self.calls, why=self.why)
        if not rest:
            return layer
        mean, entropy = rest[0] / self.tokens, float(rest[1]) / self.tokens
        return replace(layer, probabilities=mean, entropy=entropy / math.log(len(counts)))


_NEVER = (
    "it never ran while it was watched: its component did not run, it was compiled or replaced by "
    "a fused kernel, or it is not the router; watch(component), or name the routers"
)


def _assigned(chosen: torch.Tensor, experts: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(E,) assignments, and how many tokens have none, of (T, k) indices or a (T, E) mask."""
    if chosen.dtype == torch.bool:
        return chosen.sum(dim=0), (~chosen.any(dim=1)).sum()
    there = (chosen >= 0) & (chosen < experts)
    slots = torch.where(there, chosen, experts).flatten().long()
    counts = torch.zeros(experts + 1, dtype=torch.int64, device=chosen.device)
    counts.scatter_add_(0, slots, torch.ones_like(slots))  # no wait for the device, as bincount's
    return counts[:experts], (~there.any(dim=1)).sum()


# ---------------------------------------------------------------- where routers are


def _modules(model: object) -> Iterator[tuple[str, nn.Module]]:
    """Every module by its name; in a pipeline, behind its component's name."""
    if isinstance(model, nn.Module):
        yield from model.named_modules()
        return
    seen: set[nn.Module] = set()
    for name, component in list(getattr(model, "__dict__", {}).items()):
        if isinstance(component, nn.Module) and component not in seen:
            seen.add(component)
            yield from component.named_modules(prefix=name)


def _parent(path: str, modules: dict[str, nn.Module]) -> nn.Module | None:
    return modules.get(path.rpartition(".")[0]) if path else None


def _found(modules: dict[str, nn.Module]) -> list[Router]:
    found = []
    for path in modules:
        folder, _, name = path.rpartition(".")
        if name in NAMES and (f"{folder}.experts" if folder else "experts") in modules:
            found.append(Router(path))
    return found


def _matching(router: Router, modules: dict[str, nn.Module]) -> list[Router]:
    paths = [path for path in modules if fnmatchcase(path, router.path)]
    if not paths:
        raise BadSetting(f"no module {router.path!r}: {nearest(router.path, _near(modules))}")
    return [replace(router, path=path) for path in paths]


def _near(modules: dict[str, nn.Module]) -> list[str]:
    """Names to suggest: those that sound like routers, or all where there are few."""
    likely = [path for path in modules if re.search(r"gat|rout|expert", path)]
    return (likely or list(modules))[:20]


def _denoisers(model: object) -> dict[str, nn.Module]:
    """``transformer`` and ``transformer_2`` where a pipeline has both; empty for any other."""
    parts = vars(model) if not isinstance(model, nn.Module) and hasattr(model, "__dict__") else {}
    found: dict[str, nn.Module] = {}
    for name, part in parts.items():
        numbered = re.fullmatch(r"(transformer|unet)_\d+", name)
        first = parts.get(numbered[1]) if numbered else None
        if numbered and isinstance(first, nn.Module) and isinstance(part, nn.Module):
            found |= {numbered[1]: first, name: part}
    return found
