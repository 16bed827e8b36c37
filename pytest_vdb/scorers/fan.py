"""Features of many videos fan out over actors, and are kept here as if this process had computed
them. Whatever the cluster cannot do is left to this process, which computes what is not kept.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_vdb.environment import cpu_count
from pytest_vdb.errors import InfraError, Unmeasured, VdbError
from pytest_vdb.measure.crew import Actor, Call, Crew, environment
from pytest_vdb.parallel.capacity import threads
from pytest_vdb.parallel.cluster import Cluster, needed
from pytest_vdb.parallel.ledger import TRIES, Ledger, Spent, vacant
from pytest_vdb.records import ModelSpec
from pytest_vdb.scorers.on_node import How, Scorer

if TYPE_CHECKING:
    from pytest_vdb.metrics.engine import Extractor
    from pytest_vdb.metrics.features import Feature
    from pytest_vdb.metrics.video import Video

ROOM = 120.0
"""Seconds that actors have to find room and start, before this process computes instead."""
TICK = 1.0
"""Seconds between two looks at the clock."""

SPEC = ModelSpec("scoring", "factory", "pytest_vdb.scorers:Scorer")
"""What an actor takes of a node: what a model of one device does."""

THERE = " on a Ray cluster"
"""What a provenance says after the device."""

Inputs = tuple["Video", "Video | None", "str | None"]
"""A video, its reference and its prompt, as `Extractor.rows` takes them."""


class LeftHere(Exception):
    """The cluster does not compute, and ``args[0]`` says why."""


@dataclass
class Asked:
    """One video, and those of the features of which nothing is kept."""

    inputs: Inputs
    features: list[Feature]

    @property
    def names(self) -> list[str]:
        return [feature.name for feature in self.features]


class Scorers:
    """The actors, which stay with their networks until `release`.

    ``extractor`` keeps what they compute; its device and dtype are theirs.
    """

    def __init__(self, cluster: Cluster, extractor: Extractor, say: Callable[[str], None]) -> None:
        self.cluster = cluster
        self.extractor = extractor
        self.say = say
        self.crew = Crew(cluster)

    def lacking(self, features: Sequence[Feature], inputs: Iterable[Inputs]) -> list[Asked]:
        """What is to be computed. What cannot be is told when it is scored."""
        asked = []
        for one in inputs:
            with suppress(VdbError):
                if missing := self.extractor.lacking(features, *one):
                    asked.append(Asked(one, missing))
        return asked

    def compute(self, metric: str, asked: Sequence[Asked], timeout: float | None) -> str:
        """Have all of ``asked`` computed and kept. Gives where, to be said after the device.

        ``timeout`` in seconds is of one video, and of the load of its networks. Raises
        MissingWeights and WrongWeights of a node, Unmeasured where it takes longer, and InfraError
        where `ledger.TRIES` actors died over one video or before they were ready.
        """
        fan = _Fan(self, metric, asked, timeout)
        try:
            with self.cluster.joined():
                fan.run()
            return THERE
        except LeftHere as why:
            self.release()
            if fan.networks and self.extractor.device != "cpu" and not _has_cuda():
                raise InfraError(
                    f"{metric} cannot be computed on {self.cluster.label} ({why}), and this "
                    "machine has no GPU; leave --vdb-metric-device=cluster out"
                ) from None
            self.say(f"{metric} is computed here and not on {self.cluster.label}: {why}")
            return f", in part{THERE}" if fan.ledger.finished else ""
        except BaseException:
            self.release()  # nobody wants what is still computed there
            raise

    def release(self) -> None:
        """End the actors."""
        self.crew.release()

    def how(self) -> How:
        import torch

        from pytest_vdb.metrics.engine import stack

        made = self.extractor
        folders: tuple[str, ...] = ()
        if made.weights is not None:
            path = str(made.weights)
            folders = tuple(dict.fromkeys((path, *self.cluster.paths((path,)))))
        return How(made.device, made.dtype, made.batch, folders, torch.get_num_threads(), stack())


class _Fan:
    """The videos of one metric on the actors."""

    def __init__(
        self, scorers: Scorers, metric: str, asked: Sequence[Asked], timeout: float | None
    ) -> None:
        self.cluster, self.crew = scorers.cluster, scorers.crew
        self.extractor = scorers.extractor
        self.how = scorers.how()
        self.metric, self.asked, self.timeout = metric, asked, timeout
        self.ledger = Ledger(len(asked))

    def run(self) -> None:
        self._send()
        for actor in self.crew:
            actor.ready = False
            self._enlist(actor)
        while len(list(self.crew)) < len(self.places) and self._hire():
            pass
        while not self.ledger.done:
            self._next()
        for late in self.crew:
            if late.calls:
                self.crew.lose(late)

    # ------------------------------------------------------------------ one step

    def _send(self) -> None:
        """What every actor gets once: features with their networks, and how they compute."""
        from pytest_vdb.metrics.weights import find

        features = list({f.name: f for one in self.asked for f in one.features}.values())
        self.networks = {f.network for f in features if f.network}
        self.digests = {n.name: find(n, self.extractor.weights).sha256 for n in self.networks}
        self.places = self.cluster.places(SPEC, self.extractor.device)[: self.ledger.count]
        try:
            self.features = self.cluster.ray.put(features)
        except TypeError as error:  # a feature of somebody's that is nowhere but in this process
            raise LeftHere(f"its features cannot travel: {_told(error)}") from None

    def _hire(self) -> bool:
        """A new actor where a place is free."""
        node = vacant(self.places, [one.node for one in self.crew], self.cluster.alive())
        if node is None:
            return False
        device = self.extractor.device
        env = environment(threads(SPEC) or cpu_count())
        actor = self.crew.engage(Scorer, needed(SPEC, device), node, env, sys.path)
        actor.ask("start", device)
        self._enlist(actor)
        return True

    def _enlist(self, actor: Actor) -> None:
        actor.ask("prepare", self.how, self.features, self.digests)

    def _feed(self) -> None:
        """Hand out videos, in turns, to those that may hold more."""
        ready = [actor for actor in self.crew if actor.ready]
        handed = True
        while handed:
            handed = False
            for actor in ready:
                self.ledger.join(actor.id)
                if (index := self.ledger.hand(actor.id)) is not None:
                    self._ask(actor, index)
                    handed = True

    def _ask(self, actor: Actor, index: int) -> None:
        """A video is in the object store as long as somebody computes it."""
        asked = self.asked[index]
        video, reference, prompt = asked.inputs
        against = None if reference is None else reference.portable()
        actor.ask(
            "rows", self.features, asked.names, video.portable(), against, prompt, index=index
        )

    def _next(self) -> None:
        """Wait a little for answers, and go on with them."""
        from ray.exceptions import RayError, RayTaskError

        ray, heads = self.cluster.ray, {a.calls[0].ref: a for a in self.crew if a.calls}
        if not heads:
            raise LeftHere("no actor is left")
        done, _ = ray.wait(list(heads), num_returns=len(heads), timeout=0)
        if not done:
            done, _ = ray.wait(list(heads), num_returns=1, timeout=TICK)
        for ref in done:
            actor = heads[ref]
            try:
                answer = ray.get(ref)
            except RayTaskError as error:  # what it cannot import there
                raise LeftHere(f"{actor.id}: {_told(error)}") from None
            except RayError as error:
                self._replace(actor, _told(error))
            else:
                self._take(actor, actor.answered(), answer)
        for ref in heads.keys() - {*done}:
            self._check_time(heads[ref])

    def _take(self, actor: Actor, call: Call, answer: Any) -> None:
        if call.index is None:
            if isinstance(answer, VdbError):
                raise answer
            if isinstance(answer, Exception):  # of a network of somebody's
                raise Unmeasured(
                    f"{self.metric}: {actor.id} raised {type(answer).__name__}: {answer}"
                )
            actor.ready = call.kind == "prepare"
        elif self.ledger.finish(actor.id, call.index):
            self._keep(self.asked[call.index], answer)
        self._feed()

    def _keep(self, asked: Asked, answer: dict[str, Any]) -> None:
        """What arrives is a view of the object store, which needs its room again."""
        from pytest_vdb.metrics.kept import passing

        found = {
            name: result if isinstance(result, Exception) else result.copy()
            for name, result in answer.items()
        }
        for name, result in found.items():
            if passing(result):  # which is not kept, so that this process would compute it again
                found[name] = Unmeasured(f"{type(result).__name__}: {result}")
        self.extractor.keep(asked.features, found, *asked.inputs)

    def _replace(self, actor: Actor, why: str) -> None:
        """What a dead actor held is computed by others, one of them new."""
        self.crew.lose(actor)
        try:
            self.ledger.lose(actor.id, unready=self.crew.failed(actor))
        except Spent as spent:
            over = "before they were ready"
            if spent.index is not None:
                over = f"over {self.asked[spent.index].inputs[0].name}"
            raise InfraError(
                f"{TRIES} actors of {self.cluster.label} that compute {self.metric} died {over}; "
                f"the last: {why}"
            ) from None
        self._feed()
        if self.ledger.waits or not any(one.ready for one in self.crew):
            self._hire()

    def _check_time(self, actor: Actor) -> None:
        """Raises LeftHere where nobody starts, Unmeasured for who takes too long."""
        call, spent = actor.calls[0], time.monotonic() - actor.since
        if call.kind == "start":
            if spent > ROOM:
                self.crew.lose(actor)
                if not any(self.crew):
                    need = needed(SPEC, self.extractor.device)
                    raise LeftHere(
                        f"no actor started within {spent:.0f} s: each takes {need}, which others "
                        "may use"
                    )
        elif self.timeout is not None and spent > self.timeout:
            what = "loading its networks"
            if call.index is not None:
                what = self.asked[call.index].inputs[0].name
            raise Unmeasured(
                f"{self.metric}: {what} took longer than {self.timeout:g} s on {actor.id}; raise "
                "--vdb-timeout, or leave --vdb-metric-device=cluster out"
            )


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _told(error: BaseException) -> str:
    """The last line of what Ray says: the error itself."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
