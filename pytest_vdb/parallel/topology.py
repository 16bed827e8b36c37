"""Which GPUs lie next to each other, and which of the free ones a piece of work should get."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

Links = Mapping[frozenset[str], int]
"""How near two devices are, by their pair: more is nearer, and a pair that is missing is 0."""

MOST = 16
"""GPUs of one machine at most; of more, all ways to choose are too many to compare."""

LINK = 100  # of NVLink, against PCIe's at most 50: one link is nearer than any way without


def neighbours(free: Sequence[str], links: Links, count: int) -> tuple[str, ...]:
    """``count`` of the ``free`` devices, in their order; there are as many at least.

    The two farthest of them are as near as can be, then all of them together are. Of equals, those
    that are the least missed by what stays free: a GPU whose neighbour is taken goes before one of
    a free pair, and a pair out of a broken group of four before half of a whole one. Of more than
    `MOST` devices, or where no links are known, they are the first ones.
    """
    if len(free) > MOST or not links:
        return tuple(free[:count])
    return max(combinations(free, count), key=lambda chosen: _worth(chosen, free, links))


def _worth(chosen: Sequence[str], free: Sequence[str], links: Links) -> tuple[int, int, int]:
    inside = [links.get(frozenset(pair), 0) for pair in combinations(chosen, 2)]
    left = [device for device in free if device not in chosen]
    cut = sum(links.get(frozenset((one, other)), 0) for one in chosen for other in left)
    return min(inside, default=0), sum(inside), -cut


def nearness(nvlinks: int, ancestor: int) -> int:
    """How near two GPUs are, from their direct NVLinks and NVML's level of their common ancestor.

    Levels are those of ``nvmlGpuTopologyLevel_t``, from 0 (one board) over 10 to 30 (PCIe switches
    and a host bridge) and 40 (one NUMA node) to 50 (across nodes).
    """
    return LINK * nvlinks + max(0, 50 - ancestor)


def nvml_links(nvml: Any, devices: Iterable[str]) -> Links:
    """The links between ``devices`` (UUIDs), as the NVML module tells them; empty where it can't.

    An NVSwitch joins every two GPUs that are wired to it, by as many links as the lesser one has.
    """
    try:
        handles = {uuid: nvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in devices}
        places = {_bus(nvml.nvmlDeviceGetPciInfo(h)): uuid for uuid, h in handles.items()}
        wires = {uuid: _wires(nvml, handle, places) for uuid, handle in handles.items()}
        return {
            frozenset((a, b)): nearness(
                _nvlinks(wires, a, b),
                nvml.nvmlDeviceGetTopologyCommonAncestor(handles[a], handles[b]),
            )
            for a, b in combinations(handles, 2)
        }
    except nvml.NVMLError:  # a MIG instance, a virtual GPU, one that is gone
        return {}


SWITCH = "switch"


def _nvlinks(wires: Mapping[str, Sequence[str]], one: str, other: str) -> int:
    direct = wires[one].count(other)
    return direct or min(wires[one].count(SWITCH), wires[other].count(SWITCH))


def _wires(nvml: Any, handle: Any, places: Mapping[str, str]) -> list[str]:
    """What lies at the other end of each live NVLink: a device of ``places``, or the switch."""
    ends = []
    for link in range(nvml.NVML_NVLINK_MAX_LINKS):
        try:
            if not nvml.nvmlDeviceGetNvLinkState(handle, link):
                continue
            kind = nvml.nvmlDeviceGetNvLinkRemoteDeviceType(handle, link)
            if kind == nvml.NVML_NVLINK_DEVICE_TYPE_SWITCH:
                ends.append(SWITCH)
            else:
                remote = _bus(nvml.nvmlDeviceGetNvLinkRemotePciInfo(handle, link))
                ends.append(places.get(remote, ""))
        except nvml.NVMLError:  # fewer links than a GPU can have, or none
            continue
    return ends


def _bus(info: Any) -> str:
    """``00000000:17:00.0``, which is padded in one answer and not in another."""
    text = info.busId.decode() if isinstance(info.busId, bytes) else info.busId
    domain, _, rest = text.strip("\x00").lower().partition(":")
    return f"{domain.lstrip('0')}:{rest}"
