"""Seeing from outside which component of a pipeline runs.

Networks get forward hooks, other entry points are wrapped on the instance, and a scheduler's class
is exchanged for a subclass. All of it comes off again, and what was there before stays.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

TEXT, IMAGE, DENOISE, DECODE, OTHER = "text_encode", "image_encode", "denoise", "decode", "other"
STAGES = (TEXT, IMAGE, DENOISE, DECODE, OTHER)

COMPONENTS = (
    (TEXT, r"text_(encoder|model|projection)|connectors|prompt_enhancer"),
    (IMAGE, r"image_encoder|vision"),
    (DENOISE, r"transformer|unet|controlnet|denoiser|dit(_|$)|prior"),
    (DECODE, r"vae|audio_vae|vq|movq|vocoder|sound_tokenizer|\w*decoder"),
)
"""The stage of a component by the beginning of its name in the pipeline; the first match counts."""

METHODS: dict[str, dict[str, str]] = {
    TEXT: {"generate": TEXT, "get_text_features": TEXT},
    IMAGE: {"get_image_features": IMAGE},
    DECODE: {"decode": DECODE, "_decode": DECODE, "encode": IMAGE, "_encode": IMAGE},
}
"""What pipelines call on components of a stage besides the component itself."""


class Watch:
    """Between ``on`` and ``off``, says what runs.

    ``enter(key, stage)`` is called when something begins that belongs to a stage, ``step(key)``
    when a scheduler begins a step, ``leave(key)`` when either ends, also by an exception. The
    components are the attributes of ``pipeline``; one under two names counts by its first.

    ``gave(name, stage, given, result)``, where there is one, is told before that of the attribute
    ``name`` what it returned; ``given`` is what a scheduler's step received, else None.
    """

    def __init__(
        self,
        pipeline: object,
        enter: Callable[[object, str], None],
        step: Callable[[object], None],
        leave: Callable[[object], None],
        gave: Callable[[str, str, Any, Any], None] | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.running = False
        self._enter, self._step, self._leave, self._gave = enter, step, leave, gave
        self._undo = ExitStack()
        self._classes: dict[type, type] = {}
        self._schedulers: dict[int, Any] = {}

    def on(self) -> None:
        import torch

        with ExitStack() as undo:
            undo.callback(self._restore_schedulers)
            for name, stage, component in self._components():
                if isinstance(component, torch.nn.Module):
                    self._watch_module(component, stage, name, undo)
                elif _is_scheduler(component):
                    self._watch_scheduler(component, name)
                self._watch_methods(component, stage, name, undo)
            self._undo = undo.pop_all()
        self.running = True

    def _components(self) -> Iterator[tuple[str, str, Any]]:
        """Name, stage and value of the pipeline's attributes, each value once."""
        seen = set()
        for name, component in list(vars(self.pipeline).items()):
            if id(component) not in seen:
                seen.add(id(component))
                stage = next((s for s, names in COMPONENTS if re.match(names, name)), OTHER)
                yield name, stage, component

    def modules(self, of: str) -> Iterator[tuple[str, Any]]:
        """The networks of a stage by name."""
        import torch

        for name, stage, component in self._components():
            if stage == of and isinstance(component, torch.nn.Module):
                yield name, component

    def off(self) -> None:
        self.running = False
        self._undo.close()

    def _watch_module(self, module: Any, stage: str, name: str, undo: ExitStack) -> None:
        if module._compiled_call_impl is not None:
            # Compiled in place: a hook would be compiled with it and break its graph.
            self._wrap(module, "_compiled_call_impl", stage, name, undo)
            return
        enter, leave, gave = self._enter, self._leave, self._gave
        # The first before and the last after it, so that the time of other hooks is inside.
        before = module.register_forward_pre_hook(
            lambda module, args: enter(module, stage), prepend=True
        )
        undo.callback(before.remove)
        if gave is not None:
            heard = module.register_forward_hook(
                lambda module, args, result: gave(name, stage, None, result)
            )
            undo.callback(heard.remove)
        after = module.register_forward_hook(
            lambda module, args, result: leave(module), always_call=True
        )
        undo.callback(after.remove)

    def _watch_methods(self, component: Any, stage: str, name: str, undo: ExitStack) -> None:
        if not hasattr(component, "__dict__"):
            return
        for method, belongs in METHODS.get(stage, {}).items():
            # A `decode` that was replaced may be compiled, and then `_decode` is part of its graph.
            replaced = method.startswith("_") and method[1:] in vars(component)
            if callable(getattr(component, method, None)) and not replaced:
                self._wrap(component, method, belongs, name, undo)

    def _wrap(self, component: Any, name: str, stage: str, part: str, undo: ExitStack) -> None:
        method = getattr(component, name)
        # Past `__setattr__`: torch's wrapper of a compiled module would hand it on.
        own = vars(component)
        before = own.get(name)

        @functools.wraps(method, updated=())
        def watched(*args: Any, **kwargs: Any) -> Any:
            if not self.running:
                return method(*args, **kwargs)
            self._enter(watched, stage)
            try:
                result = method(*args, **kwargs)
                if self._gave is not None:
                    self._gave(part, stage, None, result)
                return result
            finally:
                self._leave(watched)

        def restore() -> None:
            if own.get(name) is not watched:
                return  # somebody wrapped the wrapper, which does nothing from now on
            if before is None:
                del own[name]
            else:
                own[name] = before

        own[name] = watched
        undo.callback(restore)

    def _watch_scheduler(self, scheduler: Any, name: str) -> None:
        """Exchange the scheduler's class: a `step` on the instance would be bound to it in copies.

        Pipelines that denoise two things at once make a deep copy of their scheduler, and some
        put it in its place. A copy is of the subclass, too; what stepped gets its class back.
        """
        kind = type(scheduler)
        if kind not in self._classes:
            self._classes[kind] = self._subclass(kind, name)
        scheduler.__class__ = self._classes[kind]
        self._schedulers[id(scheduler)] = scheduler

    def _subclass(self, kind: Any, name: str) -> type:
        watch, original = self, kind.step

        @functools.wraps(original)  # pipelines look which arguments `step` takes
        def step(scheduler: Any, *args: Any, **kwargs: Any) -> Any:
            if not watch.running:
                return original(scheduler, *args, **kwargs)
            watch._schedulers[id(scheduler)] = scheduler
            watch._step(scheduler)
            try:
                result = original(scheduler, *args, **kwargs)
                if watch._gave is not None:
                    given = args[0] if args else kwargs.get("model_output")
                    watch._gave(name, DENOISE, given, result)
                return result
            finally:
                watch._leave(scheduler)

        names = {key: getattr(kind, key) for key in ("__module__", "__qualname__", "__doc__")}
        return type(kind.__name__, (kind,), {**names, "step": step})

    def _restore_schedulers(self) -> None:
        originals = {watched: kind for kind, watched in self._classes.items()}
        for scheduler in self._schedulers.values():
            scheduler.__class__ = originals.get(type(scheduler), type(scheduler))
        self._schedulers = {}


def _is_scheduler(component: object) -> bool:
    kind = type(component)
    return callable(getattr(kind, "step", None)) and hasattr(kind, "set_timesteps")
