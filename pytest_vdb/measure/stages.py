"""Where a pipeline's time goes: exclusive seconds by stage, and the seconds of each denoise step.

A `StageClock` watches a pipeline from outside: forward hooks on its networks, its VAE's methods
wrapped on the instance, its scheduler's class exchanged for a subclass. All of it is put on when
the block begins and is gone when it ends, and none of it touches a tensor.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any, Self

from pytest_vdb.errors import BadSetting

TEXT, IMAGE, DENOISE, DECODE, OTHER = "text_encode", "image_encode", "denoise", "decode", "other"
STAGES = (TEXT, IMAGE, DENOISE, DECODE, OTHER)
GAP = ""  # nothing that is watched runs: whose time it is depends on its neighbours

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


class StageClock:
    """``with clock: pipeline(...)``, again and again; afterwards it says where the time went.

    ``stages``: exclusive seconds by stage; those that did not run are left out, ``other`` is the
    rest of the time between entering and leaving the block, so they sum to the whole. ``steps``:
    seconds of each denoise step, guidance arithmetic and scheduler included. ``memory``: on a CUDA
    device the peaks of torch's allocator in bytes, ``allocated`` and ``reserved`` of the whole
    block and ``stage.<stage>`` (allocated); empty elsewhere. All are empty after an exception.

    On ``cpu`` the clock is the monotonic one of the host. On ``cuda`` it is the device's: events
    on the current stream of ``device``, so nothing waits for the device before the block ends,
    and a stage's time is that of its work on the device (or of the device's waiting for the host).
    The block resets the peaks of torch's allocator on ``device``.

    ``pipeline`` is a diffusers pipeline, or any object whose attributes are its components. What
    runs in other threads, processes or on other devices is not seen. Raises BadSetting for a
    device of another kind.
    """

    def __init__(self, pipeline: object, device: str = "cpu") -> None:
        if device.partition(":")[0] not in ("cpu", "cuda"):
            raise BadSetting(f"stages can be timed on cpu and cuda, not on {device!r}")
        self.pipeline = pipeline
        self.device = device
        self.stages: dict[str, float] = {}
        self.steps: tuple[float, ...] = ()
        self.memory: dict[str, int] = {}
        self._classes: dict[type, type] = {}
        self._undo: ExitStack | None = None
        self._traced = False

    def __enter__(self) -> Self:
        if self._traced:
            return self
        cuda = self.device != "cpu"
        self._start(_cuda_mark(self.device) if cuda else time.perf_counter, memory=cuda)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._traced:
            return
        self._stop(failed=kind is not None)
        if kind is not None:
            return
        seconds = _cuda_seconds if self.device != "cpu" else _host_seconds
        self.stages, self.steps = account(seconds(self._marks), self._labels, self._steppers)
        self.memory = self._peaks.bytes if self._peaks else {}

    @contextmanager
    def traced(self) -> Iterator[list[str]]:
        """Instead of timing the block, mark it: for a torch profiler that records it.

        The profile then holds an event ``vdb:mark`` at the beginning, at every change of stage and
        at the end; the list that the block gets holds afterwards the stages between them in order.
        The clock's own block does nothing in this one.
        """
        resolved: list[str] = []
        self._start(_profiler_mark(), memory=False)
        self._traced = failed = True
        try:
            yield resolved
            failed = False
        finally:
            self._traced = False
            self._stop(failed)
        resolved += resolve(self._labels)

    def _start(self, mark: Callable[[], Any], memory: bool) -> None:
        if self._undo is not None:
            raise RuntimeError("this StageClock is running already; give every block its own")
        self.stages, self.steps, self.memory = {}, (), {}
        self._mark = mark
        self._marks: list[Any] = []
        self._labels: list[str] = []  # the stage between a mark and the next one
        self._steppers: dict[int, int] = {}  # index of such a segment -> id of who stepped in it
        self._stack: list[tuple[object, str]] = []  # what runs now, the innermost last
        self._schedulers: dict[int, Any] = {}
        self._peaks = _CudaPeaks(self.device) if memory else None
        self._switch(GAP)  # putting the watches on and off counts as other
        with ExitStack() as undo:
            undo.callback(self._restore_schedulers)
            self._watch(undo)
            self._undo = undo.pop_all()

    def _stop(self, failed: bool) -> None:
        undo, self._undo = self._undo, None
        assert undo is not None
        undo.close()
        if failed:
            return  # and a device that failed may not answer
        self._marks.append(self._mark())
        if self._peaks:
            self._peaks.close()

    # ------------------------------------------------------------ what runs now

    def _enter(self, key: object, stage: str) -> None:
        self._stack.append((key, stage))
        if stage != self._labels[-1]:
            self._switch(stage)

    def _leave(self, key: object) -> None:
        """``key`` ended, and with it whatever began inside it and never said that it ended."""
        if not any(running is key for running, _ in reversed(self._stack)):
            return
        while self._stack.pop()[0] is not key:
            pass
        stage = self._stack[-1][1] if self._stack else GAP
        if stage != self._labels[-1] or len(self._labels) - 1 in self._steppers:
            self._switch(stage)

    def _switch(self, stage: str) -> None:
        self._marks.append(self._mark())
        self._labels.append(stage)
        if self._peaks:
            self._peaks.switch(stage)

    # ------------------------------------------------------------ putting the watches on

    def _watch(self, undo: ExitStack) -> None:
        import torch

        seen = set()
        for name, component in list(vars(self.pipeline).items()):
            if id(component) in seen:
                continue  # one network under two names
            seen.add(id(component))
            stage = next((s for s, names in COMPONENTS if re.match(names, name)), OTHER)
            if isinstance(component, torch.nn.Module):
                self._watch_module(component, stage, undo)
            elif _is_scheduler(component):
                self._watch_scheduler(component)
            if stage != OTHER:
                self._watch_methods(component, METHODS.get(stage, {}), undo)

    def _watch_module(self, module: Any, stage: str, undo: ExitStack) -> None:
        if module._compiled_call_impl is not None:
            # compiled in place: a hook would be compiled with it and break the graph
            self._watch_method(module, "_compiled_call_impl", stage, undo)
            return
        before = module.register_forward_pre_hook(
            lambda module, args: self._enter(module, stage), prepend=True
        )
        undo.callback(before.remove)
        after = module.register_forward_hook(
            lambda module, args, result: self._leave(module), always_call=True
        )
        undo.callback(after.remove)

    def _watch_methods(self, component: Any, methods: Mapping[str, str], undo: ExitStack) -> None:
        if not hasattr(component, "__dict__"):
            return
        for name, stage in methods.items():
            # A `decode` that was replaced may be compiled, and then `_decode` is part of its graph.
            replaced = name.startswith("_") and name[1:] in vars(component)
            if callable(getattr(component, name, None)) and not replaced:
                self._watch_method(component, name, stage, undo)

    def _watch_method(self, component: Any, name: str, stage: str, undo: ExitStack) -> None:
        method = getattr(component, name)
        # Written past `__setattr__`: torch's wrapper of a compiled module would pass it on.
        own = vars(component)
        before = own.get(name)

        @functools.wraps(method, updated=())
        def watched(*args: Any, **kwargs: Any) -> Any:
            if self._undo is None:
                return method(*args, **kwargs)
            self._enter(watched, stage)
            try:
                return method(*args, **kwargs)
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

    def _watch_scheduler(self, scheduler: Any) -> None:
        """Exchange the scheduler's class: a `step` on the instance would be bound to it in copies.

        Pipelines that denoise two things at once make a deep copy of their scheduler, and some
        put it in its place. A copy is of the subclass, too; what stepped gets its class back.
        """
        kind = type(scheduler)
        if kind not in self._classes:
            self._classes[kind] = self._watched_class(kind)
        scheduler.__class__ = self._classes[kind]
        self._schedulers[id(scheduler)] = scheduler

    def _watched_class(self, kind: type) -> type:
        clock, original = self, vars(kind).get("step") or kind.step  # type: ignore[attr-defined]

        @functools.wraps(original)  # pipelines look which arguments `step` takes
        def step(scheduler: Any, *args: Any, **kwargs: Any) -> Any:
            if clock._undo is None:
                return original(scheduler, *args, **kwargs)
            clock._schedulers[id(scheduler)] = scheduler
            clock._stack.append((scheduler, DENOISE))
            clock._switch(DENOISE)
            clock._steppers[len(clock._labels) - 1] = id(scheduler)
            try:
                return original(scheduler, *args, **kwargs)
            finally:
                clock._leave(scheduler)

        names = {"step": step, "__module__": kind.__module__, "__doc__": kind.__doc__}
        return type(kind.__name__, (kind,), {**names, "__qualname__": kind.__qualname__})

    def _restore_schedulers(self) -> None:
        for scheduler in self._schedulers.values():
            if type(scheduler) in self._classes.values():
                scheduler.__class__ = type(scheduler).__mro__[1]
        self._schedulers = {}


def _is_scheduler(component: object) -> bool:
    kind = type(component)
    return callable(getattr(kind, "step", None)) and hasattr(kind, "set_timesteps")


# ---------------------------------------------------------------- from marks to seconds


def resolve(labels: Sequence[str]) -> list[str]:
    """``labels`` with each gap named: denoise where both its neighbours are, otherwise other.

    What lies between a denoiser's calls and its scheduler's is guidance and callbacks.
    """
    before, after = _filled(labels), _filled(labels[::-1])[::-1]
    return [
        label or (DENOISE if left == right == DENOISE else OTHER)
        for label, left, right in zip(labels, before, after, strict=True)
    ]


def _filled(labels: Sequence[str]) -> list[str]:
    """Each gap has the label of what came last before it."""
    filled: list[str] = []
    for label in labels:
        filled.append(label or (filled[-1] if filled else OTHER))
    return filled


def account(
    seconds: Sequence[float], labels: Sequence[str], steppers: Mapping[int, int]
) -> tuple[dict[str, float], tuple[float, ...]]:
    """Seconds by stage and of each denoise step.

    ``seconds[i]`` and ``labels[i]`` belong to the i-th segment; ``steppers`` says in which segments
    a scheduler made its step, and which one. A step ends where its last scheduler is done: the next
    call of a denoiser begins the next one, or the same scheduler's next step does. So neither
    guidance, which calls the denoiser twice, nor a second scheduler for sound makes two of one.
    """
    stages = dict.fromkeys((*(s for s in STAGES if s in labels), OTHER), 0.0)
    steps: list[float] = []
    stepped: set[int] = set()  # schedulers that are done in this step
    upto = since = 0.0  # denoise seconds until the last scheduler was done, and since then
    for index, (spent, stage) in enumerate(zip(seconds, resolve(labels), strict=True)):
        stages[stage] += spent
        if stage != DENOISE:
            continue
        stepper = steppers.get(index)
        begins = labels[index] == DENOISE and (stepper is None or stepper in stepped)
        if stepped and begins:
            steps.append(upto)
            upto, stepped = 0.0, set()
        since += spent
        if stepper is not None:
            stepped.add(stepper)
            upto, since = upto + since, 0.0
    return stages, (*steps, upto) if stepped else tuple(steps)


# ---------------------------------------------------------------- clocks


def _host_seconds(marks: Sequence[float]) -> list[float]:
    return [after - before for before, after in pairwise(marks)]


def _cuda_mark(device: str) -> Callable[[], Any]:
    import torch

    def mark() -> Any:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(device))
        return event

    return mark


def _cuda_seconds(marks: Sequence[Any]) -> list[float]:
    """Waits for the last event. Neighbours are compared: a long span has a coarse float32."""
    marks[-1].synchronize()
    return [before.elapsed_time(after) / 1e3 for before, after in pairwise(marks)]


MARK = "vdb:mark"


def _profiler_mark() -> Callable[[], None]:
    from torch.profiler import record_function

    def mark() -> None:
        with record_function(MARK):
            pass

    return mark


class _CudaPeaks:
    """Peaks of torch's caching allocator by stage; the allocator works at the host's time.

    What is allocated between two denoise stages counts as denoise: reading and resetting a peak
    takes a tenth of a millisecond, too long to be done around every call.
    """

    def __init__(self, device: str) -> None:
        import torch

        self.bytes: dict[str, int] = {}
        self._device = device
        self._stage = OTHER
        torch.cuda.reset_peak_memory_stats(device)

    def switch(self, stage: str) -> None:
        if stage == GAP:
            stage = DENOISE if self._stage == DENOISE else OTHER
        if stage != self._stage:
            self.close()
            self._stage = stage

    def close(self) -> None:
        """Note the peaks since the last change and start anew."""
        import torch

        stats = torch.cuda.memory_stats(self._device)
        peaks = {
            "allocated": stats["allocated_bytes.all.peak"],
            "reserved": stats["reserved_bytes.all.peak"],
            f"stage.{self._stage}": stats["allocated_bytes.all.peak"],
        }
        for name, peak in peaks.items():
            self.bytes[name] = max(peak, self.bytes.get(name, 0))
        torch.cuda.reset_peak_memory_stats(self._device)
