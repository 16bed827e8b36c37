"""Shards: the parts of a suite that the jobs of a CI matrix run, the same on every machine.

Each job computes the whole split by itself, from what all jobs have in common: the tests that were
selected, what each of them needs, and the durations of one file. Nothing else may enter: a cache
that a run writes would give the next shard on the same machine another split. What entered is
hashed, so that ``vdb merge`` notices jobs that did not have the same.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pytest_vdb.names import digest
from pytest_vdb.parallel.schedule import pack

SHORTEST = 0.001
"""Seconds that a test counts at least: without any, all of a suite would fall to one shard."""


WORTH = 0.1
"""Share by which the longest shard must get shorter for what more loads cost, known or not."""


@dataclass(frozen=True, order=True)
class Need:
    """What a test shares with others: of one ``group`` something is loaded once, such as a
    pipeline; of one ``part`` of a group something is computed once, such as the videos of a
    workload. A group is cut where it is longer than a shard, and then between its parts alone."""

    group: str
    part: str


@dataclass(frozen=True)
class Split:
    """``shards`` holds node ids in the order of the selection; the rest are sha256 of what it was
    computed from: the node ids alone, the durations alone, and everything."""

    shards: tuple[tuple[str, ...], ...]
    selection: str
    durations: str
    digest: str


def plain(nodeid: str) -> Need:
    """The need of a test that loads nothing of ours: its file's fixtures, and its class's."""
    file, _, rest = nodeid.partition("::")
    return Need(file, rest.partition("::")[0].partition("[")[0])


def split(
    tests: Mapping[str, Need],
    count: int,
    durations: Mapping[str, float] | None = None,
    loads: Mapping[str, float] | None = None,
) -> Split:
    """The ``count`` parts of a suite: as long as each other, and each group in as few as may be.

    ``tests`` are the needs of the selected tests by node id. ``durations`` are seconds by node id,
    ``loads`` by group, also of others. A test that has none counts as the mean of those that have
    one. Groups longer than a shard should be are cut into as few bundles as fit one each, and into
    smaller ones only where that makes the longest shard shorter by `WORTH`. The longest bundle goes
    first to the shard that has least (`schedule.pack`). The order of ``tests`` changes nothing but
    that within a shard.
    """
    durations, loads = durations or {}, loads or {}
    known = {nodeid: durations[nodeid] for nodeid in tests if nodeid in durations}
    load = {need.group: loads[need.group] for need in tests.values() if need.group in loads}
    usual = math.fsum(sorted(known.values())) / len(known) if known else 1.0
    parts: dict[Need, list[float]] = {}
    for nodeid, need in tests.items():
        parts.setdefault(need, []).append(max(known.get(nodeid, usual), SHORTEST))
    took = {need: math.fsum(parts[need]) for need in sorted(parts)}
    share = math.fsum([*took.values(), *load.values()]) / count
    best, longest = [set[Need]()] * count, math.inf
    for finer in (1, 2, 4, 8) if count > 1 else (1,):
        shards = _packed(took, load, share / finer, count)
        length = max(_length(shard, took, load) for shard in shards)
        if length < (1 - WORTH) * longest:
            best, longest = shards, length
    told = {nodeid: [need.group, need.part] for nodeid, need in tests.items()}
    return Split(
        tuple(tuple(one for one, need in tests.items() if need in shard) for shard in best),
        selection(tests),
        digest([known, load]),
        digest([count, told, known, load]),
    )


def _packed(
    took: Mapping[Need, float], load: Mapping[str, float], most: float, count: int
) -> list[set[Need]]:
    """Parts (seconds in ``took``) over ``count`` shards, in bundles of about ``most`` seconds."""
    groups: dict[str, dict[str, float]] = {}
    for need, seconds in took.items():
        groups.setdefault(need.group, {})[need.part] = seconds
    bundles: dict[str, list[Need]] = {}
    lengths: dict[str, float] = {}
    for group, parts in groups.items():
        pieces = max(1, min(len(parts), math.ceil(math.fsum(parts.values()) / most - 1e-9)))
        for number, chosen in enumerate(pack(parts, pieces)):
            name = f"{group}\n{number:06}"
            bundles[name] = [Need(group, part) for part in chosen]
            lengths[name] = math.fsum([load.get(group, 0.0), *(parts[part] for part in chosen)])
    return [{need for name in names for need in bundles[name]} for names in pack(lengths, count)]


def _length(shard: set[Need], took: Mapping[Need, float], load: Mapping[str, float]) -> float:
    """Seconds of a shard, which loads once what its parts have in common."""
    groups = {need.group for need in shard}
    return math.fsum([*(took[need] for need in shard), *(load.get(group, 0.0) for group in groups)])


def selection(nodeids: Collection[str]) -> str:
    """Sha256 of which tests were selected, in whatever order."""
    return digest(sorted(nodeids))
