"""Loaded sources: each once, the least recently used given up where memory is short."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pytest_vdb.errors import OutOfMemory, PipelinesHeld
from pytest_vdb.models.sources import Source

SHARE = 0.8
"""Part of a device's memory that weights may take: the rest is for what a generation allocates."""


@dataclass
class Loaded:
    """One source, the seconds that its load took and the tests that hold its pipeline."""

    source: Source
    seconds: float
    holders: list[str] = field(default_factory=list)
    used: bool = False
    """Whether it has generated since it was loaded."""


class PipelineCache:
    """Loaded sources by key, oldest use first, within ``budget`` bytes of weights.

    ``budget`` None takes `SHARE` of what the device has when the first is loaded. A source that is
    leased (a test has its pipeline in hands) is never given up.
    """

    def __init__(self, budget: int | None = None) -> None:
        self._budget = budget
        self._entries: dict[str, Loaded] = {}
        self._sizes: dict[str, int] = {}
        self.loads = 0
        """How many sources were loaded so far."""

    def get(
        self, key: str, device: str, load: Callable[[], tuple[Source, float]], need: int | None
    ) -> Loaded:
        """The source of ``key``; ``load()`` gives it and its seconds where there is none.

        ``need`` is the bytes it is known to take, if any. Raises PipelinesHeld where leased
        pipelines leave too little, and what ``load`` raises.
        """
        if key in self._entries:
            self._entries[key] = self._entries.pop(key)  # now the most recent
            return self._entries[key]
        if self._budget is None:
            self._budget = int(SHARE * total_memory(device))
        self._make_room(self._sizes.get(key, need or 0))
        try:
            source, seconds = load()
        except OutOfMemory:
            if not self.shrink(keep=key):
                raise
            source, seconds = load()  # what was in the way was ours, and is gone
        self.loads += 1
        self._sizes[key] = source.nbytes
        entry = self._entries[key] = Loaded(source, seconds)
        self._make_room(0, keep=key)
        return entry

    @contextmanager
    def lease(self, key: str, holder: str) -> Iterator[Source]:
        """The source of ``key``, which stays loaded while ``holder`` is inside the block."""
        entry = self._entries[key]
        entry.holders.append(holder)
        try:
            yield entry.source
        finally:
            entry.holders.remove(holder)

    def drop(self, key: str) -> None:
        """Close the source of ``key`` and forget it."""
        if entry := self._entries.pop(key, None):
            entry.source.close()

    def shrink(self, keep: str = "") -> bool:
        """Drop everything that nobody holds, but ``keep``; whether that was anything."""
        idle = [k for k, entry in self._entries.items() if k != keep and not entry.holders]
        for key in idle:
            self.drop(key)
        return bool(idle)

    def drop_started(self) -> None:
        """Drop every source that runs in a process which was started for it."""
        for key in [k for k, e in self._entries.items() if hasattr(e.source, "server")]:
            self.drop(key)

    def clear(self) -> None:
        """Close every source."""
        for key in list(self._entries):
            self.drop(key)

    def _make_room(self, need: int, keep: str = "") -> None:
        """Drop idle sources, least recently used first, until ``need`` more bytes fit."""
        assert self._budget is not None
        for key in list(self._entries):
            if self._taken() + need <= self._budget:
                return
            if key != keep and not self._entries[key].holders:
                self.drop(key)
        held = {k: e.holders for k, e in self._entries.items() if e.holders and k != keep}
        if held and self._taken() + need > self._budget:
            holders = ", ".join(dict.fromkeys(name for names in held.values() for name in names))
            self.drop(keep)
            raise PipelinesHeld(
                f"the pipelines of this run need {_gib(self._taken() + need)} and may take "
                f"{_gib(self._budget)}; {holders} still holds one: use one model's vdb_pipeline "
                "at a time, or raise --vdb-cache-budget"
            )

    def _taken(self) -> int:
        return sum(self._sizes[key] for key in self._entries)


def total_memory(device: str) -> int:
    """Bytes that ``device`` has: a GPU's memory, or what is available on a CPU's machine."""
    if device.partition(":")[0] == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[1])
    for line in _meminfo():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _meminfo() -> list[str]:
    try:
        return Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return []


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g} GiB"
