"""The cluster runner: the samples of a workload fan out over actors that each hold the model.

What an actor answers is written here, in the job's folder. An actor that dies is replaced, and what
it held is made again; a sample is in the result once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_vdb import errors
from pytest_vdb.errors import GenerationTimeout, InfraError
from pytest_vdb.measure.crew import Actor, Call, Crew, portable
from pytest_vdb.measure.ray_actor import Answer, unpacked
from pytest_vdb.measure.runner import Job, Progress, Tally, name_phase
from pytest_vdb.parallel.cluster import Cluster, needed
from pytest_vdb.parallel.ledger import TRIES, Ledger, Spent
from pytest_vdb.records import Run

STARTUP = 300.0
"""Seconds at least for an actor to start and import its libraries."""
TICK = 1.0
"""Seconds between two looks at the clock."""

UNMETERED = (
    "a cluster's devices differ in what they draw at rest, so energy is not measured on one; "
    "leave --vdb-cluster out"
)


class OnCluster:
    """Runs each job on actors of ``cluster``, which stay for the next job of the same model.

    The limit ``job.timeout`` holds for every load and generation wherever it hangs, since its
    actor is killed.
    """

    name = "cluster"

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.crew = Crew(cluster)
        self.loads = 0

    def run(self, job: Job, progress: Progress | None = None) -> Run:
        """Execute ``job``; its samples are in the workload's order.

        ``load`` and ``first_call`` are those of the slowest actor. Raises what an actor reports by
        its own class and message, GenerationTimeout, or InfraError where `ledger.TRIES` actors
        died over one sample or before they were ready.
        """
        fan = _Fan(self.cluster, self.crew, job, progress)
        try:
            with self.cluster.joined():
                return replace(fan.run(), facts={"runner": self.name, **fan.facts()})
        except BaseException:
            self.release()  # nobody wants what is still computed there
            raise
        finally:
            self.loads += fan.loaded

    def release(self) -> None:
        """End the actors."""
        self.crew.release()

    def shrink(self) -> None:
        """The same: actors hold one model."""
        self.release()

    def close(self) -> None:
        """Nothing outlives the runner."""
        self.release()


class _Fan:
    """One job on one crew."""

    def __init__(self, cluster: Cluster, crew: Crew, job: Job, progress: Progress | None) -> None:
        self.cluster = cluster
        self.crew = crew
        self.job = job
        self.folder = Path(job.folder).absolute()
        self.tally = Tally(job, progress)
        self.ledger = Ledger(len(job.workload.jobs))
        self.places = cluster.places(job.model, job.device)[: self.ledger.count]
        self.order: list[int] = []
        """The index of each sample in the tally."""
        self.firsts: list[float] = []
        self.loaded = 0
        self.began = 0
        """Actors that were ready when the first sample was asked for."""
        self.looked = 0.0
        self.lost = 0
        self.heard: set[str] = set()

    def run(self) -> Run:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.images: Any = self.cluster.ray.put(self._images())
        for actor in self.crew.muster(self.job, self.places):
            self._enlist(actor)
        # All at once: what is timed is timed beside all the others.
        while any(actor.calls for actor in self.crew):
            self._next()
        self.began = sum(actor.ready for actor in self.crew)
        self._feed()
        while not self.ledger.done:
            self._next()
        self._finish()
        tally = self.tally
        pairs = sorted(zip(self.order, tally.samples, strict=True), key=lambda pair: pair[0])
        tally.samples[:] = [sample for _, sample in pairs]
        tally.load = max((a.load for a in self.crew if a.load is not None), default=None)
        tally.first_call = max(self.firsts, default=None)
        return tally.run(OnCluster.name)

    def facts(self) -> dict[str, str]:
        """What is known of how the job ran."""
        facts = {**self.tally.facts, "actors": str(len(self.places)), "lost": str(self.lost)}
        if self.tally.hooked:
            facts["unmetered"] = UNMETERED
        if self.began < len(self.places):
            facts["fewer"] = (
                f"{self.began} of {len(self.places)} actors of {self.cluster.label} were there, "
                "and what is timed beside fewer is not compared; run it again, or set --vdb-actors"
            )
        return facts

    # ------------------------------------------------------------------ one step

    def _enlist(self, actor: Actor) -> None:
        """Have ``actor`` make ready, behind whatever it was asked before."""
        actor.ask("warm_up", portable(self.job), self.images)

    def _feed(self) -> None:
        """Hand out samples, in turns, to those that may hold more."""
        ready = [actor for actor in self.crew if actor.ready]
        for actor in ready:
            self.ledger.join(actor.id)
        handed = True
        while handed:
            handed = False
            for actor in ready:
                if (index := self.ledger.hand(actor.id)) is not None:
                    actor.ask("sample", index, index=index)
                    handed = True

    def _next(self) -> None:
        """Wait a little for answers, and go on with them."""
        from ray.exceptions import RayError, RayTaskError

        ray, heads = self.cluster.ray, {a.calls[0].ref: a for a in self.crew if a.calls}
        if not heads:
            raise InfraError(
                f"no actor of {self.cluster.label} is left for model {self.job.model.name!r}; "
                f"{self.tally.finished}"
            )
        done, _ = ray.wait(list(heads), num_returns=1, timeout=TICK)
        for ref in done:
            actor = heads[ref]
            try:
                answer: Answer = ray.get(ref)
            except RayTaskError as error:  # our own code, or what it cannot import there
                raise InfraError(f"{actor.id} of {self.cluster.label}: {error}") from None
            except RayError as error:
                self._replace(actor, " ".join(str(error).split()))
            else:
                self._take(actor, actor.answered(), answer)
        if not done or time.monotonic() - self.looked > TICK:
            self.looked = time.monotonic()
            answered, _ = ray.wait(list(heads), num_returns=len(heads), timeout=0)
            for ref in heads.keys() - {*done, *answered}:
                self._check_time(heads[ref])

    def _take(self, actor: Actor, call: Call, answer: Answer) -> None:
        events, files = answer
        self.heard.add(call.kind)
        for event in events:
            match event["event"]:
                case "failed":
                    raise errors.named(event["error"], event["message"])
                case "loaded":
                    actor.load = event["seconds"]
                    self.loaded += 1
                case "warm" if not actor.generated:
                    self.firsts.append(event["seconds"])
                case "source":
                    event = {**event, "provides": {*self.tally.provides, *event["provides"]}}
                case "sample":
                    assert call.index is not None
                    if not self.ledger.finish(actor.id, call.index):
                        continue
                    self._write(files)
                    self.order.append(call.index)
                    event = unpacked(event, self.folder)
            self.tally(event)
        if call.kind == "warm_up":
            actor.ready = actor.generated = True
        if self.began:
            self._feed()

    def _replace(self, actor: Actor, why: str) -> None:
        """What a dead actor held is made by others, one of them new where its place is left."""
        self.crew.lose(actor)
        self.lost += 1
        try:
            self.ledger.lose(actor.id, unready=self.crew.failed(actor))
        except Spent as spent:
            over = "before they were ready"
            if spent.index is not None:
                over = "over " + name_phase("the generation", *self.job.workload.jobs[spent.index])
            raise InfraError(
                f"{TRIES} actors of model {self.job.model.name!r} on {self.cluster.label} died "
                f"{over}; {self.tally.finished}; the last: {why}"
            ) from None
        if self.began:
            self._feed()
        wanted = self.ledger.waits or not any(one.ready for one in self.crew)
        if wanted and (new := self.crew.hire(self.job, self.places)) is not None:
            self._enlist(new)

    def _check_time(self, actor: Actor) -> None:
        """Raises GenerationTimeout; an actor that does not start in time is not waited for."""
        timeout, call, spent = self.job.timeout, actor.calls[0], time.monotonic() - actor.since
        if call.kind == "start":
            if spent > max(timeout or STARTUP, STARTUP):
                self.crew.lose(actor)
                if not any(one.calls or one.ready for one in self.crew):
                    raise InfraError(
                        f"no actor started on {self.cluster.label} within {spent:.0f} s: each "
                        f"takes {needed(self.job.model, self.job.device)}, which others may use"
                    )
        elif timeout is not None and spent > timeout:
            raise GenerationTimeout(
                f"{self._phase(call)} of model {self.job.model.name!r} took longer than "
                f"{timeout:g} s on {actor.id}; raise --vdb-timeout, or ask for fewer steps, frames "
                f"or pixels ({self.tally.finished})"
            )

    def _phase(self, call: Call) -> str:
        """What an actor was asked, as the subject of a sentence."""
        if call.kind == "load":
            return "the load"
        names = {"warm_up": "the warm-up generation", "sample": "the generation"}
        jobs = self.job.workload.jobs
        return name_phase(names.get(call.kind, "the traced generation"), *jobs[call.index or 0])

    def _finish(self) -> None:
        """When nobody is timed any more: the traced generation, and what each source says."""
        while self._unfinished():
            ready = [actor for actor in self.crew if actor.ready]
            if ready and not any(actor.calls for actor in ready):
                if "traced" not in self.heard:
                    ready[0].ask("traced")
                for actor in ready:
                    actor.ask("told")
            self._next()

    def _unfinished(self) -> bool:
        """Whether somebody is to be heard: not who makes ready for samples that others made."""
        if any(actor.ready for actor in self.crew):
            for late in self.crew:
                if late.calls and not late.ready:
                    self.crew.lose(late)
        return any(actor.calls for actor in self.crew) or not {"traced", "told"} <= self.heard

    # ------------------------------------------------------------------ files

    def _images(self) -> dict[str, bytes]:
        """The conditioning images, which no other machine has."""
        paths = {prompt.image for prompt in self.job.workload.prompts if prompt.image}
        return {path: Path(path).read_bytes() for path in sorted(paths)}

    def _write(self, files: Mapping[str, bytes]) -> None:
        """Raises InfraError; a file that exists is complete."""
        for name, content in files.items():
            path = self.folder / Path(name).name
            part = path.with_suffix(".part")
            try:
                part.write_bytes(content)
                os.replace(part, path)
            except OSError as error:
                raise InfraError(
                    f"cannot write {path}: {error}; free space or choose another folder"
                ) from error
