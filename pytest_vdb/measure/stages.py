"""Where a pipeline's time goes: exclusive seconds by stage, and those of each denoise step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Self

from pytest_vdb.errors import BadSetting
from pytest_vdb.measure.memory import CudaStagePeaks, profiler_mark
from pytest_vdb.measure.watch import DENOISE, OTHER, STAGES, Watch

GAP = ""  # nothing that is watched runs: whose time it is depends on its neighbours


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
        self._cuda = device.partition(":")[0] == "cuda"
        if device != "cpu" and not self._cuda:
            raise BadSetting(f"stages can be timed on cpu and cuda, not on {device!r}")
        self.device = device
        self.stages: dict[str, float] = {}
        self.steps: tuple[float, ...] = ()
        self.memory: dict[str, int] = {}
        self._watch = Watch(pipeline, self._enter, self._step, self._leave)
        self._traced = False

    def __enter__(self) -> Self:
        if not self._traced:
            mark = _cuda_mark(self.device) if self._cuda else time.perf_counter
            self._start(mark, CudaStagePeaks(self.device, OTHER) if self._cuda else None)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._traced:
            return
        self._stop(failed=kind is not None)
        if kind is not None:
            return
        seconds = _cuda_seconds(self._marks) if self._cuda else _host_seconds(self._marks)
        self.stages, self.steps = account(seconds, self._labels, self._steppers)
        self.memory = self._peaks.bytes if self._peaks else {}

    @contextmanager
    def traced(self, mark: Callable[[], object] | None = None) -> Iterator[list[str]]:
        """Instead of timing the block, mark it: in the torch profile that is being recorded.

        The profile then holds an event `memory.MARK` at the beginning, at every change of stage and
        at the end; the list that the block gets holds afterwards the stages between them in order.
        A ``mark`` is called at these moments instead. The clock's own block does nothing inside
        this one.
        """
        resolved: list[str] = []
        self._start(mark or profiler_mark(), None)
        self._traced = failed = True
        try:
            yield resolved
            failed = False
        finally:
            self._traced = False
            self._stop(failed)
        resolved += resolve(self._labels)

    def _start(self, mark: Callable[[], Any], peaks: CudaStagePeaks | None) -> None:
        if self._watch.running:
            raise RuntimeError("this StageClock is running already; give every block its own")
        self.stages, self.steps, self.memory = {}, (), {}
        self._mark, self._peaks = mark, peaks
        self._marks: list[Any] = []
        self._labels: list[str] = []  # the stage between a mark and the next one
        self._steppers: dict[int, int] = {}  # index of such a segment -> id of who stepped in it
        self._stack: list[tuple[object, str]] = []  # what runs now, the innermost last
        self._switch(GAP)  # putting the watch on and off counts as other
        self._watch.on()

    def _stop(self, failed: bool) -> None:
        self._watch.off()
        self._stack = []
        if failed:
            return  # and a device that failed may not answer
        self._marks.append(self._mark())
        if self._peaks:
            self._peaks.close()

    # ------------------------------------------------------------ what the watch says

    def _enter(self, key: object, stage: str) -> None:
        self._stack.append((key, stage))
        if stage != self._labels[-1]:
            self._switch(stage)

    def _step(self, scheduler: object) -> None:
        self._stack.append((scheduler, DENOISE))
        self._steppers[len(self._labels)] = id(scheduler)
        self._switch(DENOISE)

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
            # To read a peak takes too long for every gap between two denoisers.
            last = self._peaks.stage
            self._peaks.switch(stage or (last if last == DENOISE else OTHER))


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
    stages = dict.fromkeys((*(stage for stage in STAGES if stage in labels), OTHER), 0.0)
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
