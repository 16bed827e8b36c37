"""Energy: what the devices' own counters say that a block of work took.

NVIDIA's driver counts the energy of a whole GPU, Intel's and AMD's processors that of a package
(RAPL). Both count everything that runs there, idle power included. Nothing is estimated: where
there is no counter, there is no number.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from pytest_vdb.errors import Unmeasured
from pytest_vdb.parallel.lease import visible_devices

POWERCAP = Path("/sys/class/powercap")
IDLE_SECONDS = 2.0

UPDATES = 10
"""A block must span this many updates of its counter: each end may miss one, so ± 10 % at worst."""

MOST_WATTS = 600.0
"""More than any processor package draws: decides whether a counter may have wrapped twice."""


class Meter(Protocol):
    """A counter of energy that only grows, but for wrapping around.

    ``update``: seconds between two updates at most; ``wrap``: joules at which it starts anew, or
    None. ``read`` gives joules since some time in the past; it raises OSError.
    """

    @property
    def name(self) -> str: ...
    @property
    def update(self) -> float: ...
    @property
    def wrap(self) -> float | None: ...
    def read(self) -> float: ...


@dataclass(frozen=True)
class RaplMeter:
    """A domain of Linux's powercap: ``folder`` holds ``energy_uj``, in microjoules."""

    name: str
    folder: Path
    wrap: float
    update: float = 0.001

    def read(self) -> float:
        return int((self.folder / "energy_uj").read_text()) / 1e6


@dataclass(frozen=True)
class NvmlMeter:
    """One NVIDIA GPU: millijoules since its driver was loaded, for Volta and newer.

    The counter is updated every 20 to 100 ms (https://petsc.org/main/manualpages/Log/
    PetscLogGpuEnergyMeter).
    """

    name: str
    handle: Any
    update: float = 0.1
    wrap: float | None = None

    def read(self) -> float:
        import pynvml

        try:
            return pynvml.nvmlDeviceGetTotalEnergyConsumption(self.handle) / 1e3
        except pynvml.NVMLError as exc:
            raise OSError(f"NVML says: {exc}") from exc


class Meters:
    """``with meters: work()``; then ``joules`` by meter, such as ``{"gpu0": 412.5}``.

    ``reason`` is empty, or says why there is no meter and what would help. ``missed`` is empty, or
    says why ``joules`` is: a block that was too short or too long for its counters, or one that
    could not be read. After an exception in the block both are empty.

    The block's ends read the counters, which takes up to some milliseconds: time what is inside.
    """

    def __init__(self, meters: Sequence[Meter] = (), reason: str = "") -> None:
        self.meters = tuple(meters)
        self.reason = reason
        self.joules: dict[str, float] = {}
        self.missed = ""
        self.seconds = 0.0

    def read(self) -> dict[str, float]:
        """Joules by meter since some time in the past. Raises Unmeasured."""
        try:
            return {meter.name: meter.read() for meter in self.meters}
        except (OSError, ValueError) as exc:
            raise Unmeasured(f"an energy counter cannot be read any more: {exc}") from exc

    def idle_power(self, seconds: float = IDLE_SECONDS) -> dict[str, float]:
        """Watts by meter over ``seconds`` in which this process does nothing.

        It is the idle power only where nobody else works there either. Empty where it could not be
        measured; ``missed`` says why.
        """
        with self:
            time.sleep(seconds)
        return {name: joules / self.seconds for name, joules in self.joules.items()}

    def __enter__(self) -> Self:
        self.joules, self.missed = {}, self.reason
        self._before: dict[str, float] = {}
        if not self.reason:
            try:
                self._before = self.read()
            except Unmeasured as exc:
                self.missed = str(exc)
        self._start = time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self.seconds = time.perf_counter() - self._start
        if kind is not None or self.missed:
            return
        try:
            after = self.read()
            self.joules = {
                meter.name: used(meter, self._before[meter.name], after[meter.name], self.seconds)
                for meter in self.meters
            }
        except Unmeasured as exc:
            self.missed = str(exc)


def used(meter: Meter, before: float, after: float, seconds: float) -> float:
    """Joules between two readings of ``meter`` that lie ``seconds`` apart.

    Raises Unmeasured where the counter cannot say: too few updates, maybe more than one wrap, a
    counter that stands still or was reset.
    """
    if seconds < UPDATES * meter.update:
        raise Unmeasured(
            f"{seconds:.3g} s are too short for the energy counter of {meter.name}, which is "
            f"updated every {meter.update:g} s: let a generation take {UPDATES * meter.update:g} s "
            "at least (more steps, frames or pixels)"
        )
    if meter.wrap is not None and seconds * MOST_WATTS > meter.wrap:
        raise Unmeasured(
            f"the energy counter of {meter.name} starts anew every {meter.wrap:.0f} J, maybe more "
            f"than once in {seconds:.0f} s: let a generation take less than "
            f"{meter.wrap / MOST_WATTS:.0f} s"
        )
    joules = after - before
    if joules < 0 and meter.wrap is not None:
        joules += meter.wrap
    if joules <= 0:
        raise Unmeasured(
            f"the energy counter of {meter.name} went from {before:.3f} J to {after:.3f} J in "
            f"{seconds:.3g} s: it does not count here, or its driver was loaded anew"
        )
    return joules


def net(gross: Mapping[str, float], idle: Mapping[str, float], seconds: float) -> dict[str, float]:
    """Joules beyond idle power, by meter: gross - idle × seconds. Their sum is the devices'.

    ``gross``: joules by meter of a block of ``seconds``; ``idle``: watts by meter. Raises
    Unmeasured where a meter's idle power is unknown, or was more than the block took.
    """
    if unknown := gross.keys() - idle.keys():
        raise Unmeasured(f"the idle power of {', '.join(sorted(unknown))} was not measured")
    over = {name: joules - idle[name] * seconds for name, joules in gross.items()}
    for name, joules in over.items():
        if joules < 0:
            raise Unmeasured(
                f"{name} took {gross[name]:.1f} J in {seconds:.3g} s, less than its idle power of "
                f"{idle[name]:.1f} W: something else ran there while that was measured"
            )
    return over


def meters_for(device: str, root: Path = POWERCAP) -> Meters:
    """The meters of ``device``: ``"cuda:1"`` has one, ``"cuda"`` those of all visible GPUs
    (a child process sees the leased ones alone), ``"cpu"`` one for each package and its memory.

    A GPU's number leaves the processor out and a processor's leaves GPUs out, so it does not depend
    on what else may be read. ``root`` is where Linux shows RAPL.
    """
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return _rapl(root)
    if kind == "cuda":
        return _nvml(int(index) if index else None)
    return Meters(reason=f"there is no energy counter for {device!r}; run on cpu or cuda")


def _rapl(root: Path) -> Meters:
    """Packages, and memory beside them: cores and graphics are part of a package already.

    ``psys`` counts the packages again, with the rest of the board.
    """
    names = {zone: _text(zone / "name") for zone in sorted(root.glob("intel-rapl:*"))}
    packages = {z.name: name for z, name in names.items() if name.startswith("package")}
    meters = []
    for zone, name in names.items():
        parent = packages.get(zone.name.rpartition(":")[0])
        if zone.name in packages:
            label = f"cpu-{name}"
        elif name == "dram":
            label = f"cpu-{parent}-dram" if parent else f"cpu-{zone.name}-dram"
        else:
            continue
        try:
            meter = RaplMeter(label, zone, int(_text(zone / "max_energy_range_uj")) / 1e6)
            meter.read()
        except (OSError, ValueError) as exc:
            return Meters(
                reason=f"{zone / 'energy_uj'} cannot be read ({exc}); as root: "
                f"chmod a+r {root}/intel-rapl:*/energy_uj (until the next start)"
            )
        meters.append(meter)
    if not meters:
        return Meters(
            reason=f"{root} has no intel-rapl package: the processor's energy is shown by Linux on "
            "Intel and AMD hardware with the module intel_rapl_msr, not in most virtual machines "
            "and containers"
        )
    return Meters(meters)


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def _nvml(index: int | None) -> Meters:
    uuids = visible_devices()
    chosen = uuids if index is None else uuids[index : index + 1]
    if not chosen:
        return Meters(
            reason="NVML shows no such GPU to this process: see nvidia-smi and CUDA_VISIBLE_DEVICES"
        )
    import pynvml

    pynvml.nvmlInit()  # stays open: a reading must not begin with loading the library
    meters = []
    for number, uuid in enumerate(chosen, index or 0):
        try:
            meter = NvmlMeter(f"gpu{number}", pynvml.nvmlDeviceGetHandleByUUID(uuid))
            meter.read()
        except (OSError, pynvml.NVMLError) as exc:
            return Meters(
                reason=f"GPU {uuid} has no energy counter for this process ({exc}): NVIDIA has one "
                "since Volta, for whole GPUs and not for a MIG instance"
            )
        meters.append(meter)
    return Meters(meters)
