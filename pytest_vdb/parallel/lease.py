"""Devices and ports for one piece of work at a time, over all processes of a user.

Nothing here imports torch or makes a CUDA context: a lease is taken before the process that uses
it starts.
"""

from __future__ import annotations

import os
import random
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from pytest_vdb.errors import InfraError
from pytest_vdb.parallel.topology import Links, neighbours, nvml_links

CORES = "PYTEST_VDB_CPUS"
"""The environment variable with the numbers of a lease's cores, such as ``0,1``."""

DEVICES = "PYTEST_VDB_DEVICES"
"""The environment variable with the UUIDs that a run's workers lease from, where each sees one."""

PAUSE = 0.2  # seconds between two attempts, randomised so that two waiters do not march in step
CHOICE = "choice"  # the lock of who looks which devices are free
CHOOSING = 5.0  # seconds at most to wait for it, which is held for milliseconds


def visible_devices() -> list[str]:
    """UUIDs of the NVIDIA devices that this process may use; empty without a driver.

    NVML's devices, intersected with ``CUDA_VISIBLE_DEVICES`` by CUDA's rules: numbers, UUIDs or
    unique beginnings of UUIDs, and whatever follows an entry that names no device is ignored.
    Numbers count as NVML does, by PCI bus; where cards of different kinds are mixed, set
    ``CUDA_DEVICE_ORDER=PCI_BUS_ID`` or name UUIDs. A MIG instance counts where it is named.

    Raises InfraError where the driver lists a device and cannot reach it: one that fell off its
    bus must not pass for a machine that has fewer.
    """
    with nvml_session() as nvml:
        if nvml is None:
            return []
        try:
            handles = map(nvml.nvmlDeviceGetHandleByIndex, range(nvml.nvmlDeviceGetCount()))
            present = [nvml.nvmlDeviceGetUUID(handle) for handle in handles]
        except nvml.NVMLError as exc:
            raise InfraError(f"NVML cannot list this machine's GPUs: {exc}; see dmesg") from exc
        allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
        return present if allowed is None else choose(present, allowed, _mig_exists)


def run_devices() -> list[str]:
    """UUIDs of the devices that the whole run may use, this process's own ones first.

    The visible ones; in a worker that was pinned to one GPU, all of its siblings' too.
    """
    own = visible_devices()
    return list(dict.fromkeys([*own, *filter(None, os.environ.get(DEVICES, "").split(","))]))


def device_memory(devices: Sequence[str]) -> int:
    """Bytes that these GPUs have together. Raises InfraError where NVML cannot reach one."""
    with nvml_session() as nvml:
        if nvml is None:
            return 0
        try:
            handles = map(nvml.nvmlDeviceGetHandleByUUID, devices)
            return sum(nvml.nvmlDeviceGetMemoryInfo(handle).total for handle in handles)
        except nvml.NVMLError as exc:
            raise InfraError(f"NVML cannot ask {', '.join(devices)}: {exc}") from exc


def usable_cores() -> list[str]:
    """The CPU cores that this process may use, as ``cpu0``, ``cpu1``, ..."""
    if hasattr(os, "sched_getaffinity"):
        return [f"cpu{core}" for core in sorted(os.sched_getaffinity(0))]
    return [f"cpu{core}" for core in range(os.cpu_count() or 1)]


def pin() -> None:
    """Keep this process, and what it starts, to the cores that a lease gave it (`CORES`)."""
    if cores := os.environ.get(CORES):
        os.sched_setaffinity(0, [int(core) for core in cores.split(",")])


def choose(present: Sequence[str], allowed: str, mig_exists: Any = lambda uuid: False) -> list[str]:
    """Which of ``present`` (UUIDs in NVML's order) a ``CUDA_VISIBLE_DEVICES`` value lets through.

    ``mig_exists(uuid)`` says whether a ``MIG-`` entry names an instance.
    """
    chosen: list[str] = []
    for entry in (part.strip() for part in allowed.split(",")):
        matches = [uuid for uuid in present if entry.startswith("GPU-") and uuid.startswith(entry)]
        if entry.isdecimal() and int(entry) < len(present):
            matches = [present[int(entry)]]
        elif entry.startswith("MIG-") and mig_exists(entry):
            matches = [entry]
        if len(matches) != 1:
            break
        chosen += [uuid for uuid in matches if uuid not in chosen]
    return chosen


class Lease:
    """``with Lease(k) as lease``: ``k`` devices that no other lease of this user holds.

    ``devices`` are UUIDs of GPUs, or with ``kind="cpu"`` names of cores (``cpu0``). ``among``
    limits the choice (default: ``run_devices()`` or ``usable_cores()``); ``wait`` is how many
    seconds to wait for free devices (None: as long as it takes). Devices are taken all or none, so
    two leases cannot wait for each other. ``k = 0`` is for work on a CPU that shares its cores.
    With several devices comes a free port, for their processes to meet at.

    Of the free GPUs they are neighbours by ``links`` (default: as NVML tells them), and one whose
    neighbour is taken goes first, so that pairs stay free for who needs two (`neighbours`).

    The locks are files in a folder of the user's below the system's temporary folder
    (``folder`` replaces it); the operating system frees them when the holder dies. Processes that
    see different temporary folders do not see each other's leases.

    Raises InfraError where there are fewer devices than asked for, or not enough became free.
    """

    def __init__(
        self,
        count: int,
        among: Sequence[str] | None = None,
        wait: float | None = None,
        folder: Path | None = None,
        kind: str = "cuda",
        links: Links | None = None,
    ) -> None:
        self.count = count
        self.kind = kind
        self.devices: tuple[str, ...] = ()
        self._among = among
        self._wait = wait
        self._folder = folder
        self._links = links
        self._held = ExitStack()
        self._meet: dict[str, str] = {}

    @property
    def env(self) -> dict[str, str]:
        """What a child process needs in its environment; with no GPUs it sees none.

        Cores are in `CORES`; of several devices, ``MASTER_ADDR`` and ``MASTER_PORT`` say where
        their processes meet, as torch.distributed reads them.
        """
        if self.kind != "cpu":
            return {"CUDA_VISIBLE_DEVICES": ",".join(self.devices), **self._meet}
        cores = ",".join(device.removeprefix("cpu") for device in self.devices)
        return {"CUDA_VISIBLE_DEVICES": "", **({CORES: cores} if cores else {}), **self._meet}

    def halves(self) -> tuple[Lease, Lease]:
        """The first and the second half of the devices, for two processes that share this lease.

        They are held as long as this one is. Raises ValueError for an odd number.
        """
        if len(self.devices) % 2:
            raise ValueError(f"{len(self.devices)} devices have no halves")
        middle = len(self.devices) // 2
        parts = []
        for devices in (self.devices[:middle], self.devices[middle:]):
            part = Lease(len(devices), kind=self.kind, folder=self._folder)
            part.devices = devices
            if len(devices) > 1:
                part._meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self.ports(1)[0])}
            parts.append(part)
        return parts[0], parts[1]

    def __enter__(self) -> Self:
        if self.count == 0:
            return self
        among = self._choice()
        if len(among) < self.count:
            raise InfraError(self._too_few(among))
        deadline = None if self._wait is None else time.monotonic() + self._wait
        while not self._take(among):
            if deadline is not None and time.monotonic() >= deadline:
                raise InfraError(
                    f"{self.count} of the devices {', '.join(among)} did not become free within "
                    f"{self._wait:g} s: other runs hold their locks in {self._locks}"
                )
            time.sleep(PAUSE * random.uniform(0.5, 1.5))
        if self.count > 1:
            self._meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self.ports(1)[0])}
        return self

    def __exit__(self, *error: object) -> None:
        self.devices, self._meet = (), {}
        self._held.close()

    def ports(self, count: int) -> tuple[int, ...]:
        """``count`` different TCP ports that were free on 127.0.0.1 just now.

        No other lease of this user gets them before this one ends. A program that asks nobody can
        still take one before it is used: a server that cannot bind should be started again.
        """
        ports: list[int] = []
        with ExitStack() as sockets:
            while len(ports) < count:
                port = _free_port(sockets)
                if self._lock(self._held, f"port-{port}"):
                    ports.append(port)
        return tuple(ports)

    def processes(self) -> set[int]:
        """Ids of the processes that compute on the leased devices, as NVML tells them.

        Empty for cores, and where the driver does not tell (some virtual GPUs). Raises InfraError
        for a device that NVML cannot reach any more, with its driver or without.
        """
        if self.kind == "cpu" or not self.devices:
            return set()
        with nvml_session() as nvml:
            if nvml is None:
                raise InfraError(f"no NVIDIA driver answers for {', '.join(self.devices)} any more")
            try:
                handles = [nvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in self.devices]
                running = [nvml.nvmlDeviceGetComputeRunningProcesses(h) for h in handles]
            except nvml.NVMLError_NotSupported:
                return set()
            except nvml.NVMLError as exc:
                raise InfraError(f"NVML cannot ask {', '.join(self.devices)}: {exc}") from exc
            return {process.pid for processes in running for process in processes}

    def _choice(self) -> list[str]:
        if self._among is not None:
            return list(self._among)
        return usable_cores() if self.kind == "cpu" else run_devices()

    def _too_few(self, among: Sequence[str]) -> str:
        if self.kind == "cpu":
            return (
                f"{self.count} CPU cores are needed and this process may use {len(among)}: run "
                "where it may use more, or with fewer devices (ModelSpec.devices)"
            )
        return (
            f"{self.count} NVIDIA device(s) are needed and {len(among)} are visible "
            f"(CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', 'unset')}): run "
            "where nvidia-smi lists them, or with --vdb-device=cpu"
        )

    def _take(self, among: Sequence[str]) -> bool:
        """Hold ``count`` of ``among``, or none."""
        with ExitStack() as looked_at:
            # One at a time: what one only looks at must not seem taken to another.
            if not self._lock(looked_at, CHOICE, CHOOSING):
                return False
            free = {device: looked_at.enter_context(ExitStack()) for device in among}
            free = {device: held for device, held in free.items() if self._lock(held, device)}
            if len(free) < self.count:
                return False
            self.devices = neighbours(tuple(free), self._known_links(among), self.count)
            for device in self.devices:
                self._held.push(free[device].pop_all())
        return True

    def _known_links(self, among: Sequence[str]) -> Links:
        if self._links is not None:
            return self._links
        return {} if self.kind == "cpu" or len(among) < 2 else _machine_links(tuple(among))

    def _lock(self, stack: ExitStack, name: str, patience: float = 0.0) -> bool:
        """Lock ``name`` until ``stack`` closes; False where another lease has it for so long."""
        # Not bound to a thread: a lease may be given back by another one than took it.
        lock = FileLock(self._locks / f"{name}.lock", thread_local=False)
        try:
            lock.acquire(timeout=patience, poll_interval=0.005)
        except Timeout:
            return False
        stack.callback(lock.release)
        return True

    @property
    def _locks(self) -> Path:
        return self._folder or _user_folder()


def _user_folder() -> Path:
    """The user's own lock folder; InfraError where somebody else put something in its place."""
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
    folder = Path(tempfile.gettempdir()) / f"pytest-vdb-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or (hasattr(os, "getuid") and folder.stat().st_uid != os.getuid()):
        raise InfraError(f"{folder} is not yours: remove it, or set TMPDIR to a folder that is")
    return folder


def _free_port(sockets: ExitStack) -> int:
    """A port that the kernel gives; its socket stays open so that the next one is another."""
    sock = sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    sock.bind(("127.0.0.1", 0))
    return int(sock.getsockname()[1])


@contextmanager
def nvml_session() -> Iterator[Any]:
    """The NVML module, initialised for the block, or None where there is no driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


@cache
def _machine_links(devices: tuple[str, ...]) -> Links:
    """How near these GPUs are, asked once a process."""
    with nvml_session() as nvml:
        return {} if nvml is None else nvml_links(nvml, devices)


def _mig_exists(uuid: str) -> bool:
    import pynvml

    try:
        pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except pynvml.NVMLError:
        return False
    return True
