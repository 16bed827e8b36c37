"""Which worker runs which test: pure, so that simulated workers and real ones share it.

Times are seconds. Nothing here knows xdist, pytest or a clock.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

LOOKAHEAD = 2
"""Tests that a worker is told of at a time: the one that it runs, and the next."""

TINY = 1e-9


def pack(groups: Mapping[str, float], bins: int) -> list[list[str]]:
    """``groups`` (seconds by name) over ``bins``, the longest first into the emptiest bin.

    The same answer for the same mapping in any order; ties go by name, and to the lowest bin. Some
    bins are empty where there are fewer groups. Graham's LPT rule ("Bounds on multiprocessing
    timing anomalies", 1969): at most 4/3 of the shortest makespan. Raises ValueError for ``bins``
    below 1.
    """
    if bins < 1:
        raise ValueError(f"{bins} bins hold nothing")
    packed: list[list[str]] = [[] for _ in range(bins)]
    emptiest = [(0.0, number) for number in range(bins)]
    for name in sorted(groups, key=lambda name: (-groups[name], name)):
        seconds, number = heapq.heappop(emptiest)
        packed[number].append(name)
        heapq.heappush(emptiest, (seconds + groups[name], number))
    return packed


@dataclass(frozen=True)
class Batch:
    """Tests (index, seconds) that stay together, since one generation serves them all."""

    tests: tuple[tuple[int, float], ...]

    @property
    def seconds(self) -> float:
        return sum(seconds for _, seconds in self.tests)


@dataclass(frozen=True)
class Group:
    """Tests that share a pipeline, which takes ``load`` seconds on each worker that runs some.

    ``share`` is the part of the machine that one copy takes, from 0 to 1: the larger one of its
    devices among all and its memory among all. Tests that load nothing are a group with neither,
    which any number of workers may run at once.
    """

    name: str
    batches: tuple[Batch, ...]
    load: float = 0.0
    share: float = 0.0
    loads: bool = True
    """Whether there is a pipeline at all."""

    @property
    def seconds(self) -> float:
        return self.load + sum(batch.seconds for batch in self.batches)


@dataclass(frozen=True)
class Order:
    """What a worker is to be told: these tests next, or (``last``) nothing after what it has."""

    worker: Hashable
    tests: tuple[int, ...] = ()
    last: bool = False


class _Running:
    """A group's batches that no worker has, and who works on it."""

    def __init__(self, group: Group, rank: int) -> None:
        self.group = group
        self.order = (-group.share, -group.seconds, rank)
        self.pending = deque(group.batches)
        self.waiting = sum(batch.seconds for batch in group.batches)
        self.members: set[_Worker] = set()
        self._batch = {test: n for n, b in enumerate(group.batches) for test, _ in b.tests}

    def take(self) -> Batch:
        batch = self.pending.popleft()
        self.waiting -= batch.seconds
        return batch

    def give_back(self, batch: Batch) -> None:
        """``batch``, or what is left of one, is the next; parts of one are one again."""
        self.waiting += batch.seconds
        (last, _), rest = batch.tests[-1], self.pending[0].tests if self.pending else ()
        if rest and self._batch[rest[0][0]] == self._batch[last]:
            self.pending.popleft()
            batch = Batch(batch.tests + rest)
        self.pending.appendleft(batch)

    @property
    def remaining(self) -> float:
        """Seconds until its present workers are through, where they share evenly."""
        running = sum(worker.remaining for worker in self.members)
        return (self.waiting + running) / max(1, len(self.members))

    def gain(self) -> float:
        """Seconds that another copy saves beyond those of its load; 0 or less: it does not pay.

        It would take its part of what waits. The last batch, which now ends with the group, would
        come at once after the load, and has to end sooner for it.
        """
        if not self.pending:
            return 0.0
        if not self.group.loads:
            return max(self.remaining, TINY)
        taken = self.waiting / (len(self.members) + 1)
        return min(taken, self.remaining - self.pending[-1].seconds) - self.group.load


class _Worker:
    """``queue`` is what it was told and has not finished, ``batch`` what else is only its."""

    def __init__(self, name: Hashable) -> None:
        self.name = name
        self.home: _Running | None = None
        self.batch: deque[tuple[int, float]] = deque()
        self.queue: deque[tuple[int, float, _Running]] = deque()
        self.load = 0.0  # seconds that its pipeline is yet to take
        self.retired = False

    @property
    def remaining(self) -> float:
        """Seconds that it has before it for its present group."""
        told = sum(seconds for _, seconds, home in self.queue if home is self.home)
        return self.load + told + sum(seconds for _, seconds in self.batch)

    @property
    def share(self) -> float:
        """What it may hold at a time: one pipeline, of the last test or of the next."""
        share = self.home.group.share if self.home and self.batch else 0.0
        for _, _, home in self.queue:
            share = max(share, home.group.share)
        return share


class Schedule:
    """Hands out the tests of ``groups`` to about ``workers`` workers; every call gives orders.

    The groups that take most of the machine come first, and of those the longest ones. A group
    starts where its share is free, so that what runs together always fits together. One that was
    started stays where it is: its tests go to its worker in the order of its batches. A worker
    that runs out takes a group that nobody has, and without one joins where a second copy of the
    pipeline pays: the stored load takes less than what it takes off the others. All loads together
    are at most one more than each pipeline's fair number of copies, which is
    ``workers // pipelines``, at least one.

    A worker has two tests at a time, since xdist's begin one when they know the next. Where there
    is none it is told that the one it has is its last.
    """

    def __init__(self, groups: Iterable[Group], workers: int) -> None:
        self._groups = [_Running(group, rank) for rank, group in enumerate(groups)]
        self._home = {
            test: running
            for running in self._groups
            for batch in running.group.batches
            for test, _ in batch.tests
        }
        self._unstarted = sorted(self._groups, key=lambda running: running.order)
        pipelines = sum(running.group.loads for running in self._groups)
        self._budget = pipelines * max(1, workers // max(1, pipelines)) + 1
        self._workers: dict[Hashable, _Worker] = {}
        self._untold = len(self._home)
        self.loads = 0

    # ------------------------------------------------------------------ what it knows

    @property
    def pending(self) -> bool:
        """Whether a test is left that no worker was told of."""
        return self._untold > 0

    @property
    def finished(self) -> bool:
        """Whether every worker has at most its last test, and there is no other."""
        return not self.pending and all(len(w.queue) < LOOKAHEAD for w in self._workers.values())

    @property
    def idle(self) -> bool:
        """Whether every test has been run."""
        return not self.pending and not any(w.queue for w in self._workers.values())

    def held(self, name: Hashable) -> int:
        """How many tests a worker was told of and has not finished."""
        return len(self._workers[name].queue)

    # ------------------------------------------------------------------ what happens

    def join(self, *names: Hashable) -> list[Order]:
        """Workers that are ready for tests."""
        for name in names:
            self._workers[name] = _Worker(name)
        return self._orders()

    def done(self, name: Hashable, test: int) -> list[Order]:
        """A worker has finished ``test``. Raises KeyError for one that it was not told of."""
        worker = self._workers[name]
        for told in worker.queue:
            if told[0] == test:
                worker.queue.remove(told)
                worker.load = 0.0
                return self._orders()
        raise KeyError(test)

    def lost(self, name: Hashable) -> tuple[int | None, list[Order]]:
        """A worker is gone: the test that it ran, if any; all others go to somebody else."""
        worker = self._workers.pop(name)
        broken = worker.queue.popleft()[0] if worker.queue else None
        if worker.home is not None:
            worker.home.members.discard(worker)
            self._return(worker.home, Batch(tuple(worker.batch)))
        for index, seconds, home in reversed(worker.queue):
            self._return(home, Batch(((index, seconds),)), untold=True)
        if worker.home is not None and worker.home.pending:
            self._budget += worker.home.group.loads  # whoever goes on with it has to load it
        return broken, self._orders()

    def again(self, test: int, seconds: float = 1.0) -> list[Order]:
        """``test`` is to run once more."""
        self._return(self._home[test], Batch(((test, seconds),)), untold=True)
        return self._orders()

    def _return(self, running: _Running, batch: Batch, untold: bool = False) -> None:
        """Put ``batch`` first in its group; ``untold`` where a worker had been told of it."""
        self._untold += len(batch.tests) * untold
        if batch.tests:
            running.give_back(batch)
        if running.pending and not running.members and running not in self._unstarted:
            insort(self._unstarted, running, key=lambda running: running.order)

    # ------------------------------------------------------------------ who gets what

    def _orders(self) -> list[Order]:
        """Fill up every worker that has less than it can, and let go those that get no more."""
        told: dict[_Worker, list[int]] = {}
        short = [w for w in self._workers.values() if not w.retired and len(w.queue) < LOOKAHEAD]
        while short:  # one test each in turn: nobody's second comes before another's first
            short = [w for w in short if self._feed(w, told) and len(w.queue) < LOOKAHEAD]
        orders = [Order(worker.name, tuple(tests)) for worker, tests in told.items()]
        return orders + [Order(worker.name, last=True) for worker in self._retire()]

    def _feed(self, worker: _Worker, told: dict[_Worker, list[int]]) -> bool:
        if not worker.batch and not self._new_batch(worker):
            return False
        assert worker.home is not None
        index, seconds = worker.batch.popleft()
        worker.queue.append((index, seconds, worker.home))
        self._untold -= 1
        told.setdefault(worker, []).append(index)
        return True

    def _new_batch(self, worker: _Worker) -> bool:
        """Give ``worker`` a batch of its group, or of another one."""
        home = worker.home
        if home is None or not home.pending:
            found = self._unclaimed(worker) or self._worth_joining(worker)
            if found is None:
                return False
            if home is not None:
                home.members.discard(worker)
            home = worker.home = found
            home.members.add(worker)
            worker.load = home.group.load
            self.loads += home.group.loads
        worker.batch.extend(home.take().tests)
        return True

    def _free(self, worker: _Worker) -> float:
        """The part of the machine that ``worker`` may take, with what it has now."""
        return 1.0 + TINY - sum(w.share for w in self._workers.values() if w is not worker)

    def _unclaimed(self, worker: _Worker) -> _Running | None:
        """The first group that nobody has and that fits beside the others."""
        if not self._unstarted:
            return None
        free = self._free(worker)
        place = bisect_left(self._unstarted, -free, key=lambda running: running.order[0])
        return self._unstarted.pop(place) if place < len(self._unstarted) else None

    def _worth_joining(self, worker: _Worker) -> _Running | None:
        """The running group that gains most from another worker, if any gains."""
        room = self.loads + len(self._unstarted) < self._budget
        homes = [w.home for w in self._workers.values()]
        candidates = {h for h in homes if h and h.pending and (room or not h.group.loads)}
        if not candidates:
            return None
        free = self._free(worker)
        best = max(
            (home for home in candidates if home.group.share <= free),
            key=lambda running: (running.gain(), [-part for part in running.order]),
            default=None,
        )
        return best if best is not None and best.gain() > 0 else None

    def _retire(self) -> list[_Worker]:
        """Workers whose last test waits for a next one that does not come."""
        here = [w for w in self._workers.values() if not w.retired]
        stalled = [w for w in here if len(w.queue) == 1 and not w.batch]
        if not self.pending:
            gone = [w for w in here if len(w.queue) < LOOKAHEAD]
        elif not self._unstarted or any(not w.queue for w in here):
            gone = stalled  # nothing comes any more, or an idle one will take it
        elif len(stalled) == sum(bool(w.queue) for w in here):
            gone = stalled[:1]  # each waits for another to make room
        else:
            gone = []
        for worker in gone:
            worker.retired = True
            if worker.home is not None:
                worker.home.members.discard(worker)
        return gone
