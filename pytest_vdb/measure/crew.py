"""The actors of one task on a cluster, such as a loaded model: hired, asked, and let go."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_vdb.errors import InfraError
from pytest_vdb.measure.ray_actor import Held, Worker
from pytest_vdb.measure.runner import Job
from pytest_vdb.parallel.capacity import threads
from pytest_vdb.parallel.cluster import Cluster, needed
from pytest_vdb.parallel.ledger import Need, vacant
from pytest_vdb.records import Json

GRACE = 10.0
"""Seconds that actors have to close their models."""

MATH = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables of this process that decide the bits of an actor's results as well."""


@dataclass
class Call:
    """One thing that an actor was asked: what it is, Ray's reference, and which sample."""

    kind: str
    ref: Any
    index: int | None = None


@dataclass
class Actor:
    """One actor and what it is asked, in the order in which it answers."""

    id: str
    node: str
    handle: Any
    calls: deque[Call] = field(default_factory=deque)
    since: float = 0.0
    """When the first of the calls began, as far as it is known here."""
    load: float | None = None
    """Seconds that it took to load the model, once it has."""
    generated: bool = False
    """Whether the model ever generated."""
    ready: bool = False
    """Whether it may be asked for samples of this job."""

    def ask(self, kind: str, *args: Any, index: int | None = None) -> None:
        if not self.calls:
            self.since = time.monotonic()
        self.calls.append(Call(kind, getattr(self.handle, kind).remote(*args), index))

    def answered(self) -> Call:
        self.since = time.monotonic()
        return self.calls.popleft()


class Crew:
    """The living actors, all with one task; iterating gives them in the order of hiring."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._loading = ""
        self._actors: dict[str, Actor] = {}
        self._hired = 0

    def __iter__(self) -> Iterator[Actor]:
        return iter(list(self._actors.values()))

    def muster(self, job: Job, places: Sequence[str]) -> list[Actor]:
        """One actor a place with the model of ``job``; those that have it loaded stay."""
        if self._loading != job.loading:
            self.release()
            self._loading = job.loading
        while len(self._actors) < len(places) and self.hire(job, places) is not None:
            pass
        for actor in self:
            actor.ready = False
        return list(self)[: len(places)]

    def hire(self, job: Job, places: Sequence[str]) -> Actor | None:
        """A new actor in the first place that is free, told to load; None where none is."""
        node = vacant(places, [actor.node for actor in self], self.cluster.alive())
        if node is None:
            return None
        need = needed(job.model, job.device)
        actor = self.engage(Worker, need, node, _environment(job), job.path)
        actor.ask("start", portable(job))
        actor.ask("load", portable(job))
        return actor

    def engage(
        self,
        kind: type[Held],
        need: Need,
        node: str,
        env: dict[str, str | None],
        path: Sequence[str],
    ) -> Actor:
        """An actor of ``kind`` on ``node``, which is asked nothing yet."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        make = self.cluster.ray.remote(kind).options(
            num_cpus=need.cpus,
            num_gpus=need.gpus,
            memory=need.memory or None,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
            max_restarts=0,
            max_task_retries=0,
        )
        here = (os.getcwd(), str(self.cluster.scratch)) if self.cluster.local else ()
        handle = make.remote(env, self.cluster.paths(path), *here)
        self._hired += 1
        actor = Actor(f"actor {self._hired}", node, handle)
        self._actors[actor.id] = actor
        return actor

    def lose(self, actor: Actor) -> None:
        """Forget an actor that is dead, or is not waited for."""
        self._actors.pop(actor.id, None)
        with self.cluster.joined() as ray:
            ray.kill(actor.handle)

    def failed(self, actor: Actor) -> bool:
        """Whether a dead ``actor`` died over getting ready, and not with its node."""
        return not actor.ready and actor.node in self.cluster.alive()

    def release(self) -> None:
        """End all; their devices are the cluster's again."""
        actors, self._actors = list(self), {}
        if not actors:
            return
        try:
            with suppress(InfraError), self.cluster.joined() as ray:
                # One that computes would not hear.
                closing = [actor.handle.close.remote() for actor in actors if not actor.calls]
                if closing:
                    ray.wait(closing, num_returns=len(closing), timeout=GRACE)
        finally:
            for actor in actors:
                with suppress(InfraError):  # they ended with their cluster
                    self.lose(actor)


def portable(job: Job) -> dict[str, Json]:
    """``job`` without this machine's places."""
    return replace(job, folder="", path=()).to_json()


def _environment(job: Job) -> dict[str, str | None]:
    """As many threads as the model has here."""
    return environment(threads(job.model))


def environment(count: int | None) -> dict[str, str | None]:
    """How many threads an actor computes with: as many as here, since they decide bits.

    Ray would set the number of cores that it counts; None takes that away.
    """
    given = {name: os.environ[name] for name in MATH if name in os.environ}
    return {"OMP_NUM_THREADS": None if count is None else str(count), **given}
