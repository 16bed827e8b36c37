"""Memory: what a device's allocator held at most, and what the CPU's did in a run of its own."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Protocol


class MemoryProbe(Protocol):
    """Brackets one generation. Reading is cheap enough to stand beside a timed one."""

    def reset(self) -> None:
        """Forget earlier peaks: what is allocated now is the new peak's floor."""

    def read(self) -> dict[str, int]:
        """Peaks since ``reset`` in bytes by name; empty where the device keeps no count."""


class CudaProbe:
    """The peaks of torch's caching allocator on one CUDA device, weights included.

    ``allocated`` is what tensors held, ``reserved`` what the allocator had taken from the driver.
    The CUDA context and libraries that allocate by themselves are in neither.
    """

    def __init__(self, device: str) -> None:
        self.device = device

    def reset(self) -> None:
        import torch

        torch.cuda.reset_peak_memory_stats(self.device)

    def read(self) -> dict[str, int]:
        import torch

        return {
            "allocated": torch.cuda.max_memory_allocated(self.device),
            "reserved": torch.cuda.max_memory_reserved(self.device),
        }


class NoProbe:
    """For a device without a counter: it says nothing rather than something else's number."""

    def reset(self) -> None:
        pass

    def read(self) -> dict[str, int]:
        return {}


def probe_for(device: str) -> MemoryProbe:
    """The probe of ``device`` (``"cpu"``, ``"cuda"``, ``"cuda:1"``)."""
    return CudaProbe(device) if device.partition(":")[0] == "cuda" else NoProbe()


def cpu_allocator_peak(call: Callable[[], object]) -> int:
    """Peak bytes that torch's CPU allocator held during ``call()`` beyond what it held before.

    Weights that were loaded before are not in it, nor is memory that does not come from that
    allocator (numpy's, Python's, a library's own), nor tensors that Python threads of the model
    allocate. It is the running sum of torch.profiler's memory events in the order of their time.
    Profiling slows every operator, so nothing may be timed here.
    """
    from torch.profiler import ProfilerActivity, profile

    gc.collect()  # garbage of before must not be freed, and counted, in the middle
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as session:
        call()
    assert session.profiler is not None
    assert session.profiler.kineto_results is not None
    changes = [
        (event.start_ns(), event.nbytes())
        for event in session.profiler.kineto_results.events()
        if event.name() == "[memory]" and event.device_type().name == "CPU"
    ]
    held = peak = 0
    for _, change in sorted(changes, key=lambda item: item[0]):
        held += change
        peak = max(peak, held)
    return peak
