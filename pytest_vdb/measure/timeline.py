"""Memory while the traced generation goes on: what was held at which moment.

Nothing is timed meanwhile, so a thread of ours may read sizes beside it.
"""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Self

from pytest_vdb.parallel.lease import visible_devices
from pytest_vdb.records import Timeline

EVERY = 0.01
"""Seconds between two readings of a short generation;"""
SHARE = 1 / 2000
"""of a long one, this share of what has passed: their number stays in the thousands."""
SLICES = 100
SPANS = 40
"""Of more changes of stage, those are told that a slice can show."""

RESIDENT, ALLOCATED, RESERVED, DEVICE = "resident", "allocated", "reserved", "device"
Read = Callable[[], dict[str, int]]
Held = list[tuple[float, int]]
"""(seconds, bytes): what was held from then on."""


class Sampler:
    """``with Sampler(read) as sampler: call()``; then ``held`` by name, from the block's start on.

    A reading that fails ends the series and not the block; ``failed`` says why.
    """

    def __init__(self, read: Read, every: float = EVERY) -> None:
        self.held: dict[str, Held] = {}
        self.seconds = 0.0
        self.failed = ""
        self._read, self._every = read, every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="vdb-memory", daemon=True)

    def __enter__(self) -> Self:
        self._start = time.perf_counter()
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self.seconds = time.perf_counter() - self._start
        self._look()

    def _work(self) -> None:
        while not self.failed and not self._stop.wait(self._pause):
            self._look()

    @property
    def _pause(self) -> float:
        return max(self._every, (time.perf_counter() - self._start) * SHARE)

    def _look(self) -> None:
        if self.failed:
            return
        now = time.perf_counter() - self._start
        try:
            for name, size in self._read().items():
                self.held.setdefault(name, []).append((now, size))
        except Exception as error:  # a driver's, a library's: the generation goes on
            self.failed = f"{type(error).__name__}: {error}"


def sizes(device: str) -> Read:
    """What to read in a process that computes on ``device``, in bytes.

    ``resident``: the process's resident set (Linux). On CUDA also what torch's allocator has
    ``allocated`` and ``reserved`` there, and what NVML says of the whole ``device``, whoever uses
    it. What this machine does not tell is left out.
    """
    readers = [_resident()] if Path("/proc/self/statm").exists() else []
    if device.partition(":")[0] == "cuda":
        readers += [_allocator(device), _nvml(device)]
    return lambda: {name: size for read in readers for name, size in read().items()}


def _resident() -> Read:
    page = os.sysconf("SC_PAGE_SIZE")

    def read() -> dict[str, int]:
        with open("/proc/self/statm", encoding="ascii") as file:
            return {RESIDENT: int(file.read().split()[1]) * page}

    return read


def _allocator(device: str) -> Read:
    """Of the allocator's own books: the device is not asked, and nothing waits for it."""
    import torch

    def read() -> dict[str, int]:
        stats = torch.cuda.memory_stats_as_nested_dict(device)
        names = {ALLOCATED: "allocated_bytes", RESERVED: "reserved_bytes"}
        return {ours: stats[its]["all"]["current"] for ours, its in names.items() if its in stats}

    return read


def _nvml(device: str) -> Read:
    """Of the driver: CUDA must not be asked by another thread while a graph is captured."""
    import pynvml

    index = int(device.partition(":")[2] or 0)
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(visible_devices()[index])
        pynvml.nvmlDeviceGetMemoryInfo(handle)
    except (pynvml.NVMLError, IndexError):
        return dict
    return lambda: {DEVICE: int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)}


# ------------------------------------------------------------------------- from readings to slices


def timeline(
    sample: str, held: Mapping[str, Held], spans: Iterable[tuple[float, str]], seconds: float
) -> Timeline | None:
    """The readings as slices of ``seconds``; None where nothing was read.

    ``spans`` are the beginnings of stages.
    """
    found = {name: slices(one, seconds) for name, one in held.items() if one}
    if not found or seconds <= 0:
        return None
    return Timeline(sample, seconds, found, shortened(spans, seconds))


def slices(held: Held, seconds: float, count: int = SLICES) -> tuple[int, ...]:
    """The most that was held during each of ``count`` equal slices of ``seconds``.

    ``held``: in the order of time. A size holds until the next one is known, so a peak between two
    readings is not seen and one between two slices is in both. Before the first, that is taken.
    """
    times = [when for when, _ in held]
    found = []
    for number in range(count):
        first = max(bisect_right(times, seconds * number / count) - 1, 0)
        last = max(bisect_right(times, seconds * (number + 1) / count), first + 1)
        found.append(max(size for _, size in held[first:last]))
    return tuple(found)


def shortened(spans: Iterable[tuple[float, str]], seconds: float) -> tuple[tuple[float, str], ...]:
    """``spans`` without neighbours that are alike, and where those are many without short ones."""
    found = _merged([*spans])
    if len(found) <= SPANS:
        return found
    ends = [*(begin for begin, _ in found[1:]), seconds]
    long = seconds / SLICES
    return _merged([span for span, end in zip(found, ends, strict=True) if end - span[0] >= long])


def _merged(spans: Sequence[tuple[float, str]]) -> tuple[tuple[float, str], ...]:
    return tuple(next(same) for _, same in groupby(spans, key=lambda span: span[1]))
