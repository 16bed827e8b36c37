"""Is a leased GPU fit to be timed? Asked of NVML before anything is loaded.

What it says of clocks means nothing at rest, so what holds them back is asked instead.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pytest_vdb.errors import InfraError
from pytest_vdb.parallel.lease import Lease, nvml_session

BUSY = 10
"""Percent of the time with a kernel running (``nvidia-smi``'s GPU-Util) that is no longer idle."""

PATIENCE = 5.0
"""Seconds for what ran there before to leave: the driver forgets a dead process late."""

LOOK = 0.25

HELD = {
    0x08: "a hardware slowdown (heat, or power that fails)",
    0x20: "heat (software thermal slowdown)",
    0x40: "heat (hardware thermal slowdown)",
    0x80: "the power supply (hardware power brake)",
}
"""NVML's reasons that hold clocks back, by bit (``nvmlClocksEventReasons``), at rest as well.

A power cap (0x04) and clocks that somebody set are no trouble before the work has begun.
"""


@dataclass(frozen=True)
class Reading:
    """What NVML says of one GPU at one moment; None where it does not tell.

    ``processes`` compute there, ``busy`` is a percentage of the last second or less, and
    ``reasons`` are the bits of what holds its clocks back.
    """

    uuid: str
    processes: tuple[int, ...] | None = None
    busy: int | None = None
    reasons: int | None = None


def complaints(reading: Reading) -> list[str]:
    """Why this GPU must not be timed now; empty where nothing speaks against it."""
    found = []
    # pytest's own process may hold a context of metric networks, which rest while this is timed.
    if others := {*(reading.processes or ())} - {os.getpid()}:
        found.append(f"processes {sorted(others)} compute there")
    elif reading.busy is not None and reading.busy >= BUSY:
        found.append(f"it is {reading.busy} % busy with a process that is not shown")
    held = [why for bit, why in HELD.items() if (reading.reasons or 0) & bit]
    if held:
        found.append(f"its clocks are held back by {' and '.join(held)}")
    return found


def check(lease: Lease, patience: float = PATIENCE) -> None:
    """Raise InfraError where a leased GPU is busy, held back or gone; cores are not looked at.

    Trouble has ``patience`` seconds to pass.
    """
    if lease.kind == "cpu" or not lease.devices:
        return
    await_fit(lambda: read(lease), patience)


def await_fit(look: Callable[[], list[Reading]], patience: float) -> None:
    """Look until nothing speaks against timing; InfraError after ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while True:
        trouble = [f"{r.uuid}: {'; '.join(c)}" for r in look() if (c := complaints(r))]
        if not trouble:
            return
        if time.monotonic() >= deadline:
            raise InfraError(
                f"not fit to be timed, for {patience:g} s: {', '.join(trouble)}; see nvidia-smi, "
                "choose other devices with CUDA_VISIBLE_DEVICES, or accept it with --vdb-crowded"
            )
        time.sleep(LOOK)


def read(lease: Lease) -> list[Reading]:
    """What NVML says of the leased GPUs now. Raises InfraError for one that is gone."""
    with nvml_session() as nvml:
        if nvml is None:
            raise InfraError(f"no NVIDIA driver answers for {', '.join(lease.devices)} any more")
        try:
            return [_reading(nvml, uuid) for uuid in lease.devices]
        except nvml.NVMLError as exc:
            raise InfraError(f"NVML cannot ask {', '.join(lease.devices)}: {exc}") from exc


def _reading(nvml: Any, uuid: str) -> Reading:
    handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
    running: Any = None
    busy: Any = None
    reasons: Any = None
    # Virtual GPUs and MIG instances do not tell everything.
    untold = (nvml.NVMLError_NotSupported, nvml.NVMLError_NoPermission)
    with suppress(*untold):
        running = tuple(p.pid for p in nvml.nvmlDeviceGetComputeRunningProcesses(handle))
    with suppress(*untold, nvml.NVMLError_InvalidArgument):
        busy = nvml.nvmlDeviceGetUtilizationRates(handle).gpu
    with suppress(*untold, nvml.NVMLError_InvalidArgument):
        reasons = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
    return Reading(uuid, running, busy, reasons)
