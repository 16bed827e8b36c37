"""What runs in a Ray actor: one loaded model, asked for one sample at a time.

Everything that comes and goes is builtins. An answer is a list of events (`runner.Tally`), the last
of which may be ``{"event": "failed", "error", "message"}``, and the files that they name.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_vdb.errors import VdbError
from pytest_vdb.measure.runner import Job
from pytest_vdb.records import Json

if TYPE_CHECKING:
    from pytest_vdb.measure.execute import Generation
    from pytest_vdb.models.sources import Source

Answer = tuple[list[dict[str, Json]], dict[str, bytes]]

FILES = ("frames", "latent", "audio")
"""Fields of a sample that name files of its own."""

LEASE_SECONDS = 300.0
"""How long to wait for devices that a run outside of the cluster holds."""


class Held:
    """A process that Ray started: what it holds is given back in `close`.

    Made before numpy and torch are imported: ``env`` (None takes a variable away) decides how many
    threads they use. ``path`` goes before ``sys.path``, and ``cwd`` is where it works; both are as
    they are here, or start in the folder that Ray unpacked. ``scratch`` is where its files may lie,
    if not in this machine's temporary folder.
    """

    def __init__(
        self,
        env: Mapping[str, str | None],
        path: Sequence[str],
        cwd: str | None = None,
        scratch: str | None = None,
    ) -> None:
        for name, value in env.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if cwd is not None:
            os.chdir(cwd)
        self.path = tuple(str(Path.cwd() / one) for one in path)
        sys.path[:] = dict.fromkeys([*self.path, *sys.path])
        self.scratch = scratch
        self.held = ExitStack()

    def take(self, kind: str, devices: int) -> None:
        """Lease devices where others lease theirs, and see no others. Raises InfraError."""
        from pytest_vdb.measure import preflight
        from pytest_vdb.parallel.lease import Lease, pin

        lease = self.held.enter_context(Lease(devices, wait=LEASE_SECONDS, kind=kind))
        if kind != "cpu":
            preflight.check(lease)
        os.environ.update(lease.env)
        pin()

    def close(self) -> None:
        """Give everything back, and leave no files."""
        self.held.close()


class Worker(Held):
    """One model on the devices that Ray gave to this process.

    Files of the sample in the making lie in a folder of its own, which goes with it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.folder = tempfile.mkdtemp(prefix="pytest-vdb-actor-", dir=self.scratch)
        self.held.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.source: Source | None = None
        self.generation: Generation | None = None

    def start(self, job: dict[str, Json]) -> Answer:
        """Take the devices where others take theirs, and import libraries."""
        return _answered(lambda: self._start(Job.from_json(job)))

    def load(self, job: dict[str, Json]) -> Answer:
        """Load the model of ``job``, which is timed."""
        return _answered(lambda: self._load(self._here(job, {})))

    def warm_up(self, job: dict[str, Json], images: Mapping[str, bytes]) -> Answer:
        """Make ready for the samples of ``job``, whose model is loaded."""
        return _answered(lambda: self._warm_up(self._here(job, images)))

    def sample(self, index: int) -> Answer:
        """One sample of the workload, timed and measured, with its files."""
        return _answered(lambda: self._asked(lambda ready: ready.sample(index)))

    def traced(self) -> Answer:
        """The traced generation, where there are components to watch."""
        return _answered(lambda: self._asked(lambda ready: ready.traced() if ready.clock else None))

    def told(self) -> Answer:
        """What the source says of itself after its samples."""
        return _answered(lambda: self._asked(lambda ready: ready.source_told()))

    # ------------------------------------------------------------------ within

    def _here(self, job: dict[str, Json], images: Mapping[str, bytes]) -> Job:
        """``job`` with this machine's folder, paths and conditioning images."""
        asked = Job.from_json(job)
        prompts = []
        for number, prompt in enumerate(asked.workload.prompts):
            if prompt.image is not None and prompt.image in images:
                path = Path(self.folder, f"image-{number}{Path(prompt.image).suffix}")
                path.write_bytes(images[prompt.image])
                prompt = replace(prompt, image=str(path))
            prompts.append(prompt)
        workload = replace(asked.workload, prompts=tuple(prompts))
        return replace(asked, workload=workload, folder=self.folder, path=self.path)

    def _start(self, job: Job) -> Iterator[dict[str, Json]]:
        from pytest_vdb.measure.execute import import_libraries

        kind, devices = job.device.partition(":")[0], job.model.devices
        if kind == "cpu" and devices == 1:
            devices = 0  # shares cores, which Ray counts
        self.take(kind, devices)
        import_libraries(job)
        yield {"event": "started"}

    def _load(self, job: Job) -> Iterator[dict[str, Json]]:
        from pytest_vdb.measure.code import loaded_code
        from pytest_vdb.measure.execute import load

        self.source, seconds = load(job)
        self.held.callback(self.source.close)
        yield {"event": "loaded", "seconds": seconds}
        yield {"event": "code", "facts": loaded_code(job.path)}

    def _warm_up(self, job: Job) -> Iterator[dict[str, Json]]:
        from pytest_vdb.measure.execute import Generation, ready, torch_threads

        assert self.source is not None, "load comes first"
        ready(job, self.source)
        # Devices differ in what they draw at rest: energy of several makes no series.
        self.generation = Generation(job, self.source, metered=False)
        if "latency" in self.source.provides:
            with torch_threads(job.workload.options.get("num_threads")):
                yield self.generation.warm_up()

    def _asked(
        self, ask: Callable[[Generation], dict[str, Json] | None]
    ) -> Iterator[dict[str, Json]]:
        """What the prepared generation answers, with the workload's number of threads."""
        from pytest_vdb.measure.execute import torch_threads

        assert self.generation is not None, "warm_up comes first"
        with torch_threads(self.generation.job.workload.options.get("num_threads")):
            event = ask(self.generation)
        if event is not None:
            yield event


def _answered(work: Callable[[], Iterable[dict[str, Json]]]) -> Answer:
    """The events of ``work``; what goes wrong is the last of them."""
    events: list[dict[str, Json]] = []
    files: dict[str, bytes] = {}
    try:
        for event in work():
            if event["event"] == "sample":
                event, files = _packed(event)
            events.append(event)
    except VdbError as error:
        told = {"error": type(error).__name__, "message": str(error)}
        events.append({"event": "failed", **told})
    except Exception:
        message = f"the actor failed outside the model:\n{traceback.format_exc().rstrip()}"
        events.append({"event": "failed", "error": "InfraError", "message": message})
    return events, files


def _packed(event: dict[str, Json]) -> tuple[dict[str, Json], dict[str, bytes]]:
    """A sample with the names of its files, and their bytes; the files themselves are gone."""
    sample, files = dict(event["sample"]), {}
    for field in FILES:
        if sample[field] is not None:
            path = Path(sample[field])
            sample[field], files[path.name] = path.name, path.read_bytes()
            path.unlink()
    return {**event, "sample": sample}, files


def unpacked(event: dict[str, Json], folder: Path) -> dict[str, Json]:
    """The same event with the names as paths in ``folder``."""
    sample = dict(event["sample"])
    paths = {field: str(folder / sample[field]) for field in FILES if sample[field] is not None}
    return {**event, "sample": {**sample, **paths}}
