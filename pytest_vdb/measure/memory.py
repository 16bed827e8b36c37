"""Memory: what a device's allocator held at most, and what the CPU's did in a run of its own."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_vdb.errors import Unmeasured

if TYPE_CHECKING:
    from pytest_vdb.measure.stages import StageClock


class CudaStagePeaks:
    """Peaks of torch's caching allocator on one CUDA device, by stage; it works at host time.

    ``bytes`` holds ``allocated`` and ``reserved`` over all stages, and ``stage.<stage>``
    (allocated): what tensors held, weights included, and what the allocator had taken from the
    driver. The CUDA context and libraries that allocate by themselves are in neither. Peaks are
    reset at the beginning and at every change of stage, which takes about a tenth of a millisecond
    and does not wait for the device.
    """

    def __init__(self, device: str, stage: str) -> None:
        import torch

        self.bytes: dict[str, int] = {}
        self.stage = stage
        self._device = device
        torch.cuda.reset_peak_memory_stats(device)

    def switch(self, stage: str) -> None:
        if stage != self.stage:
            self.close()
            self.stage = stage

    def close(self) -> None:
        """Note the peaks since the last change, and forget them."""
        import torch

        stats = torch.cuda.memory_stats(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        allocated, reserved = (stats[f"{n}_bytes.all.peak"] for n in ("allocated", "reserved"))
        peaks = {"allocated": allocated, "reserved": reserved, f"stage.{self.stage}": allocated}
        for name, peak in peaks.items():
            self.bytes[name] = max(peak, self.bytes.get(name, 0))


def cpu_allocator_peak(call: Callable[[], object]) -> int:
    """Peak bytes that torch's CPU allocator held during ``call()`` beyond what it held before.

    Weights that were loaded before are not in it, nor is memory that does not come from that
    allocator (numpy's, Python's, a library's own), nor tensors that Python threads of the model
    allocate. It is the running sum of torch.profiler's memory events in the order of their time.
    Profiling slows every operator, so nothing may be timed here.
    """
    return cpu_allocator_peaks(call)[0]


def cpu_allocator_peaks(
    call: Callable[[], object], clock: StageClock | None = None
) -> tuple[int, dict[str, int]]:
    """`cpu_allocator_peak` of ``call()``, and its peak during each stage that ``clock`` sees.

    Raises Unmeasured as `cpu_allocator_profile` does.
    """
    found = cpu_allocator_profile(call, clock)
    return found.peak or 0, found.stages


@dataclass(frozen=True)
class Profile:
    """What torch's CPU allocator did: its peaks in bytes, None where unknown, and how it came to
    them.

    ``held`` are (seconds, bytes) at every change, counted from the call's beginning as the clock
    saw it, ``spans`` when each stage began, ``seconds`` when the last one ended. The three are
    empty without a clock.
    """

    peak: int | None
    stages: dict[str, int]
    held: list[tuple[float, int]] = field(default_factory=list)
    spans: list[tuple[float, str]] = field(default_factory=list)
    seconds: float = 0.0


def cpu_allocator_profile(call: Callable[[], object], clock: StageClock | None = None) -> Profile:
    """What torch's CPU allocator did during ``call()``.

    A stage's peak is the most that was held while it ran, which includes what earlier stages left:
    the largest of them is the whole call's. Without a clock there are no stages. The clock must
    not be running; its own ``stages`` are empty afterwards. Raises Unmeasured where the profile
    lost a change of stage.
    """
    from torch.profiler import ProfilerActivity, profile

    # Read once, at the first profile: kineto would print a line as each begins and ends.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    gc.collect()  # garbage of before must not be freed, and counted, in the middle
    traced: AbstractContextManager[list[str]] = clock.traced() if clock else nullcontext([])
    recorded = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
    with recorded as session, traced as stages:
        call()
    assert session.profiler is not None
    assert session.profiler.kineto_results is not None
    changes: list[tuple[int, int | None]] = []  # a time, and bytes or a change of stage
    for event in session.profiler.kineto_results.events():
        if event.name() == MARK:
            changes.append((event.start_ns(), None))
        elif event.name() == "[memory]" and event.device_type().name == "CPU":
            changes.append((event.start_ns(), event.nbytes()))
    marks = sum(change is None for _, change in changes)
    if clock and marks != len(stages) + 1:
        raise Unmeasured(
            f"torch's profile holds {marks} of {len(stages) + 1} changes of stage, so the memory "
            "of the stages is not known; run the workload with fewer steps"
        )
    changes.sort(key=lambda change: change[0])
    return _profile(changes, stages)


MARK = "vdb:mark"
"""The name of the events in a profile that say that the stage changes."""


def profiler_mark() -> Callable[[], None]:
    """A function that leaves such an event in the profile that is being recorded."""
    from torch.profiler import record_function

    def mark() -> None:
        with record_function(MARK):
            pass

    return mark


def _profile(changes: Iterable[tuple[int, int | None]], stages: Sequence[str]) -> Profile:
    """The highest running sum of ``changes``, that of each stage, and the sums by time.

    None among them begins the next of ``stages``, and once more ends the last one.
    """
    held = peak = 0
    by_stage: dict[str, int] = {}
    left = iter(stages)
    stage, start, seconds = None, None, 0.0
    sums: list[tuple[float, int]] = []
    spans: list[tuple[float, str]] = []
    for when, change in changes:
        if change is None:
            start = when if start is None else start
            seconds = (when - start) / 1e9
            stage = next(left, None)
            if stage is not None:
                spans.append((seconds, stage))
        else:
            held += change
            peak = max(peak, held)
        if stage is not None:
            by_stage[stage] = max(held, by_stage.get(stage, held))
        if start is not None:
            sums.append(((when - start) / 1e9, held))
    return Profile(peak, by_stage, sums, spans, seconds)
