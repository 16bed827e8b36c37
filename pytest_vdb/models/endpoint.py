"""A video API as a source: what a server gives, timed by this side's clock.

A job has three parts: it waits in the server's queue, it is served, and its video is fetched. Only
the second is the model's latency. Both borders are seen by polling, so no time is known better
than ``EndpointSource.resolution``; a server that answers a POST with the video itself
(``/v1/videos/sync``) is timed without polling.
"""

from __future__ import annotations

import queue
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import Any
from urllib.parse import quote

from pytest_vdb.errors import (
    BadSetting,
    GenerationTimeout,
    InfraError,
    SourceError,
    UnreadableClip,
    VdbError,
)
from pytest_vdb.models.server_report import from_headers, memory_of, read_options, stages_of
from pytest_vdb.models.sources import Output
from pytest_vdb.models.video_api import (
    KEY,
    Address,
    Reply,
    VideoApi,
    cut,
    encode_form,
    encode_json,
    parsed,
    reason,
    said,
)
from pytest_vdb.records import Json, ModelSpec, Prompt

OURS = ("prompt", "seed", "input_reference", "generator", "output_type")
"""What a workload does not set."""

WAITING = frozenset({"queued", "pending"})
SERVED = frozenset({"in_progress", "processing", "running"})
DONE = frozenset({"completed"})

FORM_ONLY = frozenset({415, 422})  # what a server that reads forms answers to JSON
LOOKS = 1000  # gaps between looks that the resolution is the median of


@dataclass(frozen=True)
class Finished:
    """A job that is done and not fetched: seconds served and queued, and what the server told.

    ``seconds`` is None where polling could not tell, ``queue`` where the server does not say when
    a job leaves its queue; ``slack`` is by how much ``seconds`` may fall short, because the start
    was seen late. ``file`` is the video of a server that gave it at once.
    """

    job: str
    seconds: float | None
    queue: float | None
    report: Mapping[str, Json] = field(default_factory=dict)
    file: Path | None = None
    slack: float = 0.0


class EndpointSource:
    """The OpenAI-compatible video API at ``spec.location``, asked in the dialect it understands.

    ``spec.options`` may hold what ``server_report.OPTIONS`` lists. A key for the server is read
    from the environment variable VDB_API_KEY. ``retried`` says in words what had to be repeated.
    ``started``: the server was started here, so its load can be measured.

    Raises BadSetting for a URL or an option that cannot be, InfraError where nothing answers.
    """

    def __init__(self, spec: ModelSpec, started: bool = False) -> None:
        self.spec = spec
        self._started = started
        options = read_options(spec.options)
        self.poll_interval: float = options["poll_interval"]
        self.concurrency: int = options["concurrency"]
        self.job_timeout: float = options["job_timeout"]
        self.api = VideoApi(
            Address.of(spec.location), options["request_timeout"], options["retries"]
        )
        self._folder = TemporaryDirectory(prefix="pytest-vdb-endpoint-")
        self._form = False  # JSON until the server wants a form
        self._reported: set[str] = set()
        self._gaps: list[float] = []
        self._polls = True
        try:
            self.api.get("/health")  # any answer will do: not every server has this path
        except BaseException:
            self._folder.cleanup()
            raise

    # ------------------------------------------------------------------ what it is

    @property
    def provides(self) -> frozenset[str]:
        """Latency, throughput and quality; stages and memory once the server has told them."""
        load = {"load"} if self._started else set()
        return frozenset({"latency", "throughput", "quality", *load, *self._reported})

    @property
    def nbytes(self) -> int:
        """No weights are in this process."""
        return 0

    @property
    def retried(self) -> list[str]:
        return self.api.retried

    @property
    def resolution(self) -> float:
        """Seconds that a latency of this source may be wrong by: the time between two looks.

        The polling interval, or the median time between two looks where answers take longer; 0
        where the server gives the video without polling.
        """
        if not self._polls:
            return 0.0
        return max(self.poll_interval, statistics.median(self._gaps) if self._gaps else 0.0)

    def close(self) -> None:
        """Remove the temporary files; the server is somebody else's."""
        self._folder.cleanup()

    # ------------------------------------------------------------------ generating

    def generate(self, prompt: Prompt, seed: int, call: Mapping[str, Json]) -> Output:
        """One video: uint8 frames (T, H, W, 3), its fps, and the seconds it was served.

        ``Output.seconds`` is None where they are not known to ``resolution``, and then nothing
        else may stand for them: a call of this method also fetches and decodes. A job that is
        abandoned, for whatever reason, is deleted on the server.

        Raises SourceError (arguments that the server refuses, a failed job, a video that cannot
        be decoded), InfraError (no answer), GenerationTimeout (``job_timeout``).
        """
        return self._fetched(self._finished(prompt, seed, call, threading.Event()))

    def generate_many(
        self,
        requests: Sequence[tuple[Prompt, int]],
        call: Mapping[str, Json],
        concurrency: int,
        heard: Callable[[], object] = lambda: None,
    ) -> tuple[list[Output | BaseException], float]:
        """Videos of all ``requests``, in order, and the seconds until the last one was served.

        ``concurrency`` jobs are with the server at any time, as long as there are so many; videos
        are fetched and decoded afterwards, outside the seconds, so throughput is
        ``len(requests) / seconds``. ``heard`` is called in this thread whenever a job is done. An
        entry is the exception of a request that failed: there is no throughput then. With several
        jobs at once ``Output.seconds`` is None where the server does not tell its queue apart: a
        job may have waited for another one of ours.
        """
        finished: dict[int, Finished | BaseException] = {}
        waiting = iter(enumerate(requests))
        done: queue.Queue[tuple[int, Finished | BaseException]] = queue.Queue()
        lock, stop = threading.Lock(), threading.Event()

        def work() -> None:
            while not stop.is_set():
                with lock:
                    request = next(waiting, None)
                if request is None:
                    return
                index, (prompt, seed) = request
                try:
                    one: Finished | BaseException = self._finished(prompt, seed, call, stop)
                except BaseException as exc:
                    one = exc
                done.put((index, one))

        start = time.perf_counter()
        try:
            for number in range(min(concurrency, len(requests))):
                threading.Thread(target=work, name=f"vdb-endpoint-{number}", daemon=True).start()
            while len(finished) < len(requests):
                index, one = done.get()
                finished[index] = one
                heard()
        finally:
            stop.set()  # where this was interrupted, the workers abandon their jobs
        wall = time.perf_counter() - start
        crowded = concurrency > 1
        return [self._outcome(finished[index], crowded) for index in range(len(requests))], wall

    def _outcome(self, one: Finished | BaseException, crowded: bool) -> Output | BaseException:
        if not isinstance(one, Finished):
            return one
        try:
            return self._fetched(
                replace(one, seconds=None) if crowded and one.queue is None else one
            )
        except VdbError as exc:
            return exc

    def _finished(
        self, prompt: Prompt, seed: int, call: Mapping[str, Json], stop: threading.Event
    ) -> Finished:
        """Post a job and wait until it is done, or raise; ``stop`` abandons it."""
        fields = self._fields(prompt, seed, call)
        with ExitStack() as undo:
            file = NamedTemporaryFile(dir=self._folder.name, delete=False)  # noqa: SIM115
            undo.callback(Path(file.name).unlink, missing_ok=True)
            with file:
                reply = self._posted(fields, prompt.image, stop, file)
            if reply.status == 200 and reply.is_video:
                undo.pop_all()
                self._polls = False
                seconds = reply.heard - reply.started
                return Finished("", seconds, None, from_headers(reply), Path(file.name))
        job = self._record(reply)
        try:
            return self._watched(job, reply, stop)
        except BaseException:
            self.api.forget(_quoted(job))
            raise

    def _posted(
        self, fields: Mapping[str, Json], image: str | None, stop: threading.Event, file: Any
    ) -> Reply:
        """The server's answer to the new job, in JSON or as a form: whichever it takes."""
        refused = ""
        for form in (True,) if image or self._form else (False, True):
            picture = Path(image) if image else None
            body, kind = encode_form(fields, picture) if form else encode_json(fields)
            reply = self.api.post(body, kind, self.job_timeout, stop.wait, file)
            if reply.status < 300:
                self._form = self._form or (form and not image)
                return reply
            if form or reply.status not in FORM_ONLY:
                break
            refused = f"; to the same as JSON: HTTP {reply.status} {said(reply)}"
        raise self._refusal(reply, refused)

    def _watched(self, job: Mapping[str, Json], reply: Reply, stop: threading.Event) -> Finished:
        """Look at ``job`` until it is done; the borders are where a look first saw them."""
        posted, served, before = reply.started, None, replace(reply, heard=reply.started)
        path = f"{self.api.address.videos}/{_quoted(job)}"
        look, sure, slack = reply, True, 0.0
        while (status := self._status(job)) not in DONE:
            if status in SERVED and served is None:
                served, sure = look.heard, look.failures == 0
                slack = served - before.heard
            elif status not in WAITING | SERVED:
                raise SourceError(
                    f"{self.spec.name!r}: the job {status}: "
                    f"{cut(reason(job.get('error') or 'without a reason'))}"
                )
            if look.heard - posted > self.job_timeout:
                raise GenerationTimeout(
                    f"a job of {self.spec.name!r} was still {status!r} after {self.job_timeout:g} "
                    "s; raise job_timeout (--vdb-set job_timeout=...), or see the server's log"
                )
            stop.wait(max(0.0, look.heard + self.poll_interval - time.perf_counter()))
            if stop.is_set():
                raise GenerationTimeout(f"a job of {self.spec.name!r} was abandoned")
            before, look = look, self.api.get(path, stop.wait)
            job = self._record(look)
            if look.failures == 0:
                self._gaps = [*self._gaps[1 - LOOKS :], look.heard - before.heard]
        # A look that had to be repeated saw the end late by nobody knows how much.
        known = sure and look.failures == 0
        start = posted if served is None else served
        return Finished(
            _quoted(job),
            look.heard - start if known else None,
            None if served is None else served - posted,
            job,
            slack=slack,
        )

    def _fetched(self, done: Finished) -> Output:
        """The finished job's video, decoded, with what was measured. Its file is removed."""
        from pytest_vdb.models.clips import read_clip

        path = done.file or Path(self._folder.name) / f"fetched-{threading.get_ident()}"
        try:
            if done.file is None:
                with path.open("wb") as file:
                    content = f"{self.api.address.videos}/{done.job}/content"
                    reply = self.api.get(content, into=file)
                if reply.status != 200:
                    raise self._refusal(reply, f" (the video of the job {done.job})")
            clip = read_clip(path)
        except UnreadableClip as exc:
            told = str(exc).replace(f"{path} ", "")
            raise SourceError(
                f"{self.spec.name!r}: the server's video {told}; see the server's log"
            ) from exc
        finally:
            path.unlink(missing_ok=True)
        memory = memory_of(done.report)
        stages = stages_of(done.report, done.seconds, done.slack)
        self._reported |= {"memory"} if memory else set()
        self._reported |= {"stages"} if stages else set()
        return replace(clip, seconds=done.seconds, queue=done.queue, memory=memory, stages=stages)

    # ------------------------------------------------------------------ words of the API

    def _fields(self, prompt: Prompt, seed: int, call: Mapping[str, Json]) -> dict[str, Json]:
        """The request: diffusers' names become the API's, others pass as they are."""
        for name in OURS:
            if name in call:
                raise SourceError(
                    f"call argument {name!r} of model {self.spec.name!r} is set by the plugin; "
                    "prompts, images and seeds are the workload's (prompts=..., num_seeds=...)"
                )
        fields = {name: value for name, value in call.items() if value is not None}
        sides = [fields.pop(side, None) for side in ("width", "height")]
        if sides != [None, None]:
            if None in sides or "size" in fields:
                raise SourceError(
                    f"model {self.spec.name!r}: give width and height together, or size='832x480'"
                )
            fields["size"] = f"{sides[0]}x{sides[1]}"
        rate = fields.pop("frame_rate", fields.get("fps"))
        if rate is not None:  # 16.0 is no whole number to a server that wants one
            fields["fps"] = int(rate) if isinstance(rate, float) and rate.is_integer() else rate
        return {"prompt": prompt.text, "seed": seed, **fields}

    def _record(self, reply: Reply) -> dict[str, Json]:
        """A job as the server describes it. Raises what another answer means."""
        if reply.status == 404:
            raise InfraError(
                f"{self.api.address.origin} no longer knows a job that it accepted (HTTP 404 "
                f"{said(reply)}): was the server restarted?"
            )
        if reply.status >= 300:
            raise self._refusal(reply)
        job = parsed(reply.body)
        if not (isinstance(job, dict) and isinstance(job.get("id"), str) and job["id"]):
            raise SourceError(
                f"{self.api.address.origin} answered {said(reply)!r}, which describes no video "
                "job: is this a server of the OpenAI video API (/v1/videos)?"
            )
        return job

    @staticmethod
    def _status(job: Mapping[str, Json]) -> str:
        return cut(str(job.get("status"))).lower()

    def _refusal(self, reply: Reply, where: str = "") -> Exception:
        """The error for an answer that is none of success."""
        told = f"{self.api.address.origin} answered HTTP {reply.status} {said(reply)}{where}"
        match reply.status:
            case 401 | 403:
                return BadSetting(f"{told}; set {KEY} to a key that this server takes")
            case 404 | 405:
                return SourceError(
                    f"{told}; is this a server of the OpenAI video API ({self.api.address.create})?"
                )
            case 429 | 502 | 503 | 504:
                return InfraError(f"{told}; the server is overloaded or not ready")
        return SourceError(f"{told}; correct the call arguments, or see the server's log")


def _quoted(job: Mapping[str, Json]) -> str:
    return quote(job["id"], safe="")
