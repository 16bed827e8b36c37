"""Workers of pytest-xdist: which device each sees, and which tests it gets.

xdist's protocol of a scheduler (``xdist/scheduler/protocol.py``) over `schedule.Schedule`. Nothing
here imports xdist: its hooks bring its objects.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from pytest_vdb import marker
from pytest_vdb.baseline.store import write_atomically
from pytest_vdb.environment import resolve_device
from pytest_vdb.options import Layers
from pytest_vdb.parallel.capacity import Capacity, Need, auto_workers, need
from pytest_vdb.parallel.durations import Durations
from pytest_vdb.parallel.lease import DEVICES, visible_devices
from pytest_vdb.parallel.schedule import Batch, Group, Order, Schedule

PLAN = "placement-{}.json"
"""What a worker writes into the run's folder: the group of each vdb test that it collected."""

ATOMS = {
    "loadfile": lambda nodeid: nodeid.split("::")[0],
    "loadscope": lambda nodeid: nodeid.rpartition("::")[0],
    "loadgroup": lambda nodeid: nodeid.rpartition("]")[2].partition("@")[2] or nodeid,
}
"""Which plain tests ``--dist`` asks to keep together, as xdist does where there are no others."""


# --------------------------------------------------------------------- how many, and where


def workers(config: pytest.Config, layers: Layers) -> int | None:
    """For ``-n auto``; None where it is xdist's to say. No CUDA context is made."""
    ours = bool(layers.cli or layers.ini) and config.getoption("numprocesses") == "auto"
    if not ours or os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return None
    settings = layers.session()
    return auto_workers(resolve_device(settings.device), settings.call, asked=layers.given)


def pin(specs: Sequence[Any]) -> bool:
    """Give each worker one GPU of those that this process may use, before it starts.

    Whether there are any.

    ``CUDA_VISIBLE_DEVICES`` is the worker's own; `DEVICES` says what leases may choose from. A
    worker that takes a dead one's place is started from the same spec, and so on the same GPU.
    """
    devices = visible_devices()
    for number, spec in enumerate(specs):
        if devices and spec.popen:  # another machine has other devices
            own = devices[number % len(devices)]
            spec.env |= {"CUDA_VISIBLE_DEVICES": own, DEVICES: ",".join(devices)}
    return bool(devices)


# --------------------------------------------------------------------- what a worker tells


def write_plan(session: Any, items: Sequence[pytest.Item]) -> None:
    """In a worker: say which of its tests share a pipeline, and which of these a generation.

    ``session`` is the worker's VdbSession.
    """
    tests: dict[str, tuple[str, str]] = {}
    needs: dict[str, tuple[int, int]] = {}
    for item in items:
        group = marker.pipeline_key(item)
        if not group:
            continue
        settings = session.layers.resolve(marker.layers(item))
        asked = (settings.prompts, settings.seeds, sorted(settings.call.items()))
        tests[item.nodeid] = (group, repr(asked))
        if group not in needs:
            spec = session.loaded_as(_model(item), settings)
            what = need(spec, session.device)
            needs[group] = (what.devices, what.memory)
    if tests:
        name = PLAN.format(session.config.workerinput["workerid"])
        write_atomically(session.scratch / name, json.dumps({"tests": tests, "needs": needs}))


def _model(item: Any) -> Any:
    """The ModelSpec that a test is parametrised with."""
    return item.callspec.params["vdb_model"]


def groups(
    nodeids: Sequence[str],
    plan: Mapping[str, Any],
    durations: Durations,
    capacity: Capacity,
    *,
    crowded: bool = False,
    dist: str = "load",
) -> list[Group]:
    """The tests of a collection as the scheduler takes them.

    A test that never ran is as long as the others are on average, or 1 s; so is a load among loads,
    or tests. Plain tests of a file are a group that any number of workers may share.
    """
    known = [s for nodeid in nodeids if (s := durations.of(nodeid)) is not None]
    usual = fmean(known) if known else 1.0
    loads = [s for name in plan["needs"] if (s := durations.load_of(name)) is not None]
    load = fmean(loads) if loads else usual
    found: dict[tuple[bool, str], dict[str, list[tuple[int, float]]]] = {}
    for index, nodeid in enumerate(nodeids):
        seconds = durations.of(nodeid)
        test = (index, usual if seconds is None else seconds)
        if nodeid in plan["tests"]:
            name, batch = plan["tests"][nodeid]
        else:
            batch = ATOMS.get(dist, str)(nodeid)
            name = batch if dist == "loadgroup" else nodeid.split("::")[0]
        batches = found.setdefault((nodeid in plan["tests"], name), {})
        batches.setdefault(batch, []).append(test)
    made = []
    for (loaded, name), batches in found.items():
        together = tuple(Batch(tuple(tests)) for tests in batches.values())
        if not loaded:
            made.append(Group(name, together, loads=False))
            continue
        seconds = durations.load_of(name)
        share = capacity.share(Need(*plan["needs"][name]), crowded=crowded)
        made.append(Group(name, together, load if seconds is None else seconds, share))
    return made


# --------------------------------------------------------------------- the scheduler


class VdbScheduling:
    """xdist's own scheduler, until it is known that there are vdb tests; then `Schedule`.

    A run without any is xdist's alone, whatever ``--dist`` says.
    """

    def __init__(self, native: Any, config: pytest.Config, layers: Layers, scratch: Path) -> None:
        self._native = native
        self._config = config
        self._settings = layers.session()
        self._scratch = scratch
        self._collections: dict[Any, list[str] | None] = {}
        self._collection: list[str] = []
        self._schedule: Schedule | None = None
        self._decided = False
        self._joined: set[Any] = set()
        self._sent: set[tuple[Any, int]] = set()

    @property
    def nodes(self) -> list[Any]:
        return list(self._native.nodes if self._schedule is None else self._collections)

    @property
    def collection_is_completed(self) -> bool:
        return self._schedule is not None or bool(self._native.collection_is_completed)

    @property
    def tests_finished(self) -> bool:
        if self._schedule is not None:
            return self._schedule.finished
        return bool(self._native.tests_finished)

    @property
    def has_pending(self) -> bool:
        if self._schedule is not None:
            return not self._schedule.idle
        return bool(self._native.has_pending)

    def add_node(self, node: Any) -> None:
        self._collections[node] = None
        if self._schedule is None:
            self._native.add_node(node)

    def add_node_collection(self, node: Any, collection: Sequence[str]) -> None:
        self._collections[node] = list(collection)
        if self._schedule is None:
            self._native.add_node_collection(node, collection)

    def schedule(self) -> None:
        """Start, once every worker has collected; later, give tests to one that came new."""
        if not self._decided:
            self._decided = True
            self._schedule = self._made()
        if self._schedule is None:
            self._native.schedule()
            return
        same = [n for n, found in self._collections.items() if found == self._collection]
        new = [node for node in same if node not in self._joined]
        self._joined.update(new)
        self._obey(self._schedule.join(*new))
        for node, found in self._collections.items():
            if found is not None and found != self._collection and not node.shutting_down:
                node.shutdown()  # it took a dead one's place and found other tests

    def _made(self) -> Schedule | None:
        """Ours, where there are vdb tests and every worker found the same ones."""
        found = [(node, tests) for node, tests in self._collections.items() if tests]
        if not found:
            return None
        (first, collection), *others = found
        file = self._scratch / PLAN.format(first.workerinput["workerid"])
        if any(theirs != collection for _, theirs in others) or not file.exists():
            return None
        plan = json.loads(file.read_text(encoding="utf-8"))
        self._collection = collection
        return Schedule(
            groups(
                collection,
                plan,
                Durations.load(self._config),
                Capacity.of(resolve_device(self._settings.device)),
                crowded=self._settings.crowded,
                dist=self._config.getoption("dist"),
            ),
            len(self._collections),
        )

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        if self._schedule is None:
            self._native.mark_test_complete(node, item_index, duration)
        else:
            self._obey(self._schedule.done(node, item_index))

    def mark_test_pending(self, item: str) -> None:
        if self._schedule is None:
            self._native.mark_test_pending(item)
        else:
            self._obey(self._schedule.again(self._collection.index(item)))

    def remove_pending_tests_from_node(self, node: Any, indices: Sequence[int]) -> None:
        if self._schedule is None:  # ours never steals what it gave
            self._native.remove_pending_tests_from_node(node, indices)

    def remove_node(self, node: Any) -> str | None:
        """A worker ended: the test that it died in, which is not given to anybody again."""
        if self._schedule is None:
            self._collections.pop(node, None)
            crashed: str | None = self._native.remove_node(node)
            return crashed
        del self._collections[node]  # KeyError is part of the protocol
        if node not in self._joined:
            return None
        self._joined.discard(node)
        broken, orders = self._schedule.lost(node)
        self._obey(orders)
        if broken is None:
            return None
        if (node, broken) not in self._sent:  # it was ending already, and was not told of this one
            self._obey(self._schedule.again(broken))
            return None
        return self._collection[broken]

    def _obey(self, orders: Sequence[Order]) -> None:
        for order in orders:
            node: Any = order.worker
            if node.shutting_down:
                continue  # it ends what it has, after a crash or enough failures, and takes no more
            try:
                if order.tests:
                    node.send_runtest_some(list(order.tests))
                    self._sent.update((node, test) for test in order.tests)
                if order.last:
                    node.shutdown()
            except OSError:
                pass  # it is dead, and xdist is about to say so


def scheduling(
    native: Any, config: pytest.Config, layers: Layers, scratch: Path
) -> VdbScheduling | None:
    """Ours around ``native``; xdist's own where every worker is to run every test."""
    if native is None or config.getoption("dist") == "each":
        return native
    return VdbScheduling(native, config, layers, scratch)
