"""What a machine can run at a time, and how many workers that makes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pytest_vdb.parallel.lease import device_memory, run_devices, usable_cores, visible_devices
from pytest_vdb.records import ModelSpec


@dataclass(frozen=True)
class Need:
    """What one copy of a pipeline takes: GPUs, or cores of a CPU (0: it shares them all), and
    bytes of device memory or of the CPU's (0: not known)."""

    devices: int = 0
    memory: int = 0


@dataclass(frozen=True)
class Capacity:
    """Devices and bytes of the whole machine, as this run may use it."""

    devices: int
    memory: int

    @classmethod
    def of(cls, device: str) -> Self:
        """What ``device`` (``cpu``, ``cuda``) has here. Raises InfraError for a lost GPU."""
        if device == "cpu":
            from pytest_vdb.models.cache import total_memory

            return cls(len(usable_cores()), total_memory("cpu"))
        devices = run_devices()
        return cls(len(devices), device_memory(devices))

    def share(self, need: Need, *, crowded: bool = False) -> float:
        """The part that ``need`` takes, from 0 to 1: the larger one of its devices and its memory.

        What needs more than there is takes all, and says itself that it does not fit. ``crowded``:
        devices may be shared, and only memory counts.
        """
        devices = 0.0 if crowded else need.devices / max(1, self.devices)
        return min(1.0, max(devices, need.memory / max(1, self.memory)))


def need(spec: Any, device: str) -> Need:
    """What a copy of ``spec`` (a ModelSpec with its load options) takes on ``device``."""
    if spec.source in ("recorded", "endpoint"):
        return Need()
    memory = spec.memory or 0
    if device != "cpu":
        return Need(spec.devices, memory)
    threads = int(spec.options.get("num_threads") or 0)
    # Without a number of threads a model takes every core, and shares them with its neighbours.
    own = spec.devices * max(1, threads) if threads or spec.devices > 1 else 0
    return Need(own, memory)


def slots(
    spec: Any, device: str, *, in_process: bool, scores: bool, placed: bool, narrow: bool
) -> int:
    """Workers that can run ``spec`` at a time, each on devices that no other one uses.

    ``placed``: each worker sees a GPU of its own, and the scheduler starts no more than fits on all
    of them. ``scores``: metric networks compute on the worker's accelerator, which is nobody else's
    where all models of the run are ``narrow``, of one device.
    """
    if device == "cpu":
        cores = len(usable_cores())
        return max(1, cores // max(threads(spec) or cores, spec.devices))
    devices = len(run_devices())
    if scores:
        return devices if placed and narrow else 1
    if placed:
        return devices
    # In-process runners all use the first GPU then; children lease one each.
    return 1 if in_process else devices // spec.devices


def threads(spec: ModelSpec) -> int | None:
    """Threads that ``spec`` computes with: its option's, else OMP_NUM_THREADS', where it is set."""
    said = spec.options.get("num_threads") or os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(said) if str(said).isdecimal() else None


def auto_workers(device: str, call: Mapping[str, Any], *, asked: bool) -> int | None:
    """Workers for ``-n auto``: one a visible GPU, or cores over threads where there is none.

    Threads are those of ``call`` (``--vdb-set num_threads=N``) or of ``OMP_NUM_THREADS``, and
    otherwise all cores. None leaves it to xdist: where nothing says how many threads a worker takes
    and no flag of ours (``asked``) says that this run is a benchmark.
    """
    if device != "cpu" and (gpus := len(visible_devices())):
        return gpus
    stated = str(call.get("num_threads") or os.environ.get("OMP_NUM_THREADS") or "")
    threads = int(stated) if stated.isdecimal() and int(stated) else None
    if threads is None:
        return 1 if asked else None
    return max(1, len(usable_cores()) // threads)
