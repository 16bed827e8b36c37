"""Who makes which sample on a cluster: handed out in order, taken back from the dead, kept once.

Pure bookkeeping; `measure.cluster` drives it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

AHEAD = 2
"""Samples that an actor holds at most: the one it makes, and the next, so that it never waits."""

TRIES = 3
"""How many actors may die over one sample, or over getting ready, before the machines are at
fault."""


class Spent(Exception):
    """What took `TRIES` actors with it: a sample, or where ``index`` is None, getting ready."""

    def __init__(self, index: int | None) -> None:
        super().__init__(index)
        self.index = index


@dataclass
class Ledger:
    """The samples 0 to ``count`` - 1 of one workload, and the actors that make them.

    Every index is waiting, held by one actor, or finished. An actor makes what it holds in order,
    so the first is the one that it dies over.
    """

    count: int
    ahead: int = AHEAD
    tries: int = TRIES
    finished: set[int] = field(default_factory=set)
    _held: dict[str, deque[int]] = field(default_factory=dict)
    _attempts: Counter[int | None] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._waiting = deque(range(self.count))

    @property
    def done(self) -> bool:
        return len(self.finished) == self.count

    @property
    def waits(self) -> bool:
        """Whether a sample is left that no actor holds."""
        return bool(self._waiting)

    def join(self, actor: str) -> None:
        """Count ``actor`` among those that make samples."""
        self._held.setdefault(actor, deque())

    def hand(self, actor: str) -> int | None:
        """The next index for ``actor``; None where it holds enough or nothing waits.

        Towards the end nobody holds one for later, that another could begin now.
        """
        held = self._held[actor]
        most = self.ahead if len(self._waiting) > len(self._held) else 1
        if len(held) >= most or not self._waiting:
            return None
        held.append(self._waiting.popleft())
        return held[-1]

    def finish(self, actor: str, index: int) -> bool:
        """Note ``index`` as finished; False where another actor did so before."""
        held = self._held.get(actor, ())
        if index in held:
            self._held[actor].remove(index)
        if index in self.finished:
            return False
        if index in self._waiting:  # taken from an actor that was thought dead
            self._waiting.remove(index)
        self.finished.add(index)
        return True

    def lose(self, actor: str, unready: bool = False) -> list[int]:
        """Take back what a dead ``actor`` held, to be made next and in order.

        Raises Spent where it was the last try of the first of them; or, where it held none and died
        ``unready``, of getting ready.
        """
        lost = list(self._held.pop(actor, ()))
        self._waiting.extendleft(reversed(lost))
        if lost or unready:
            over = lost[0] if lost else None
            self._attempts[over] += 1
            if self._attempts[over] >= self.tries:
                raise Spent(over)
        return lost


@dataclass(frozen=True)
class Need:
    """What one actor takes: cores, GPUs, bytes of main memory, bytes on its GPUs together."""

    cpus: int
    gpus: int = 0
    memory: int = 0
    gpu_memory: int = 0

    def __str__(self) -> str:
        sizes = {"of memory": self.memory, "on its GPUs": self.gpu_memory}
        parts = [f"{self.cpus} core{'s' * (self.cpus > 1)}"]
        parts += [f"{self.gpus} GPU{'s' * (self.gpus > 1)}"] if self.gpus else []
        parts += [f"{size / 2**30:.1f} GiB {of}" for of, size in sizes.items() if size]
        return ", ".join(parts)


@dataclass(frozen=True)
class Node:
    """One machine of a cluster and all that it has; ``gpu_memory`` is its smallest GPU's bytes."""

    id: str
    name: str
    cpus: int
    gpus: int = 0
    memory: int = 0
    gpu_memory: int = 0

    def room(self, need: Need) -> int:
        """How many actors of ``need`` it holds, where nobody else uses it."""
        if need.gpu_memory > need.gpus * self.gpu_memory:
            return 0
        pairs = ((self.cpus, need.cpus), (self.gpus, need.gpus), (self.memory, need.memory))
        return min(have // wanted for have, wanted in pairs if wanted)


def spread(nodes: Iterable[Node], need: Need, most: int | None = None) -> list[str]:
    """Ids of nodes, one an actor and at most ``most``, in turns over the nodes with room.

    The same nodes give the same places whatever order they are listed in.
    """
    rooms = {node.id: node.room(need) for node in sorted(nodes, key=lambda node: node.id)}
    turns = [
        (turn, place, id) for place, (id, room) in enumerate(rooms.items()) for turn in range(room)
    ]
    return [id for _, _, id in sorted(turns)][:most]


def vacant(places: Sequence[str], taken: Iterable[str], alive: Iterable[str]) -> str | None:
    """A place on a living node that no actor takes; None where there is none."""
    left = Counter(places)
    left.subtract(taken)
    living = set(alive)
    return next((id for id in places if left[id] > 0 and id in living), None)
