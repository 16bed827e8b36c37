"""The child-process runner, and what runs in the child.

The child is a process group of its own with leased devices. It tells the parent what happened as
JSON lines over a pipe; whatever it or the model prints goes to ``child.log``. However it ends, the
parent kills what is left of the group, and the child kills its group when the parent is gone.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from pytest_vdb import errors
from pytest_vdb.errors import BadSetting, GenerationTimeout, InfraError, VdbError
from pytest_vdb.measure.group import check_devices, end_group, log_tail
from pytest_vdb.measure.runner import Job, Progress, Tally
from pytest_vdb.records import Json, Run

if TYPE_CHECKING:
    from pytest_vdb.measure.group import Group
    from pytest_vdb.parallel.lease import Lease

CHILD = __name__
JOB = "job.json"
LOG = "child.log"
END = ""  # in place of a job's file: nothing more is to be done
STARTUP = 300.0  # seconds at least for Python and its libraries, which no timeout is meant for
GRACE = 10.0  # seconds that a child has to close its model

LEASE_SECONDS = 1800.0
"""How long to wait for devices that another run holds, before that is an INFRA_ERROR."""


class ChildProcess:
    """Runs each job in a child process on leased devices: GPUs, or cores of a CPU.

    ``devices`` is how many (default: as many as its model runs on; a model of one device shares
    the cores of a CPU and leases none). ``wait`` is how many seconds to wait for free devices
    (None: as long as it takes). ``keep`` leaves the child and its loaded model alive for the next
    job of the same model, until `release` or another model's job. The limit ``job.timeout`` starts
    anew with every event of the child and works wherever the child hangs. Processes that the model
    starts die with the child unless they leave its process group.

    ``python`` is the interpreter, ``cwd`` the folder it runs in, and ``env`` what its environment
    has beside this one's; a ``lease`` that somebody else holds takes the place of the runner's own.
    ``preflight`` says whether its GPUs must be fit to be timed before anything is started.
    """

    name = "child"

    def __init__(
        self,
        devices: int | None = None,
        wait: float = LEASE_SECONDS,
        keep: bool = False,
        python: str = sys.executable,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        lease: Lease | None = None,
        preflight: bool = True,
    ) -> None:
        self.devices = devices
        self.wait = wait
        self.keep = keep
        self.python = python
        self.env = dict(env or {})
        self.cwd = cwd
        self.lease = lease
        self.preflight = preflight
        self.loads = 0
        self._live: _Live | None = None

    def run(self, job: Job, progress: Progress | None = None) -> Run:
        """Execute ``job`` in a child.

        Raises what the child reports by its own class and message, GenerationTimeout, or
        InfraError where a device is not fit, or the child died or left processes on its devices.
        """
        if not hasattr(os, "waitid"):  # Windows, and macOS before Python 3.13
            raise BadSetting("the child runner needs Linux; use the in-process runner here")
        count = self.count(job)
        folder = Path(job.folder).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / JOB
        file.write_text(json.dumps(job.to_json()))
        tally = Tally(job, progress)
        live = self._reuse(job, file, tally) or self._start(job, file, count)
        tally.warm = live.started
        try:
            failure = _listen(live, tally)
        except BaseException:
            self.release()
            raise
        live.idle = tally.done or failure is not None
        if tally.done and self.keep:
            live.load = tally.load
            return tally.run(self.name)
        self.release()
        if failure is not None:
            raise errors.named(failure["error"], failure["message"])
        if not tally.done:
            raise InfraError(_obituary(live.group, tally))
        return tally.run(self.name)

    def release(self) -> None:
        """End the child and give its devices back. Raises InfraError where they are not free."""
        if self._live is not None:
            live, self._live = self._live, None
            with live.stack:
                if live.idle and live.group.send(END):
                    live.group.wait(GRACE)

    def shrink(self) -> None:
        """The same: a child holds one model, and nobody else does."""
        self.release()

    def close(self) -> None:
        """Nothing outlives the runner."""
        self.release()

    def _start(self, job: Job, file: Path, count: int) -> _Live:
        from pytest_vdb.measure import preflight
        from pytest_vdb.measure.group import Group
        from pytest_vdb.parallel.lease import Lease

        self.release()
        command = [self.python, "-m", CHILD, str(file)]
        with ExitStack() as stack:
            kind = job.device.partition(":")[0]
            lease = self.lease or stack.enter_context(Lease(count, wait=self.wait, kind=kind))
            group = Group(command, {**lease.env, **self.env}, file.with_name(LOG), self.cwd)
            if self.lease is None:  # another's process may well compute on a shared one
                if self.preflight:
                    preflight.check(lease)
                stack.callback(check_devices, lease, group)  # after the group is gone
            stack.enter_context(group)
            self._live = _Live(job.loading, group, stack.pop_all())
        self.loads += 1
        return self._live

    def _reuse(self, job: Job, file: Path, tally: Tally) -> _Live | None:
        """The live child, told to go on with ``file``, where it holds this very model."""
        live = self._live
        if live is None or live.loading != job.loading or not live.group.send(str(file)):
            return None
        tally({"event": "loaded", "seconds": live.load})
        live.started, live.idle = True, False
        return live

    def count(self, job: Job) -> int:
        """How many devices ``job`` is to have a lease of."""
        kind, _, index = job.device.partition(":")
        count = job.model.devices
        if self.devices is not None:
            count = self.devices
        elif kind == "cpu" and count == 1:
            count = 0
        if index and int(index) >= max(count, 1):
            raise BadSetting(
                f"--vdb-device={job.device}: a child process counts its own leased devices from 0; "
                f"say --vdb-device={kind} and choose devices with CUDA_VISIBLE_DEVICES"
            )
        return count


@dataclass
class _Live:
    """A child that holds a loaded model, or is about to load it, and all that ends with it."""

    loading: str
    group: Group
    stack: ExitStack
    load: float | None = None
    started: bool = False
    idle: bool = False
    """Whether it waits for another job, or to be told to end."""


def _listen(live: _Live, tally: Tally) -> dict[str, Json] | None:
    """Pass the child's events to ``tally`` until the job ends; the ``failed`` event, if any.

    Raises GenerationTimeout.
    """
    timeout = tally.job.timeout
    startup = timeout if timeout is None or live.started else max(timeout, STARTUP)
    for event in live.group.events(timeout, startup):
        if event is None:
            raise GenerationTimeout(f"{tally.too_slow}; {log_tail(live.group.log)}")
        if event["event"] == "failed":
            return event
        tally(event)
        if tally.done:
            break
    return None


def _obituary(group: Group, tally: Tally) -> str:
    """How a child ended that said neither ``done`` nor ``failed``."""
    code, hint = group.code, ""
    if code is None or code >= 0:
        how = f"exited with status {code}, without a word,"
    else:
        how = f"was ended by {signal.Signals(-code).name}"
        if -code == signal.SIGKILL:
            hint = " (the kernel's out-of-memory killer does that)"
    grew = "peaked at" if group.peak_rss > group.rss_floor else "stayed below"
    return (
        f"the child process of model {tally.job.model.name!r} {how} during {tally.phase}{hint}; "
        f"its resident memory {grew} {group.peak_rss / 2**20:.0f} MiB; {tally.finished}; "
        f"{log_tail(group.log)}"
    )


# ---------------------------------------------------------------------- in the child


def main(argv: list[str]) -> int:
    """``python -m pytest_vdb.measure.child JOB.json EVENTS ALIVE``: the two are inherited pipes.

    The status is 0 where the parent was told ``done`` or ``failed``.
    """
    from pytest_vdb.parallel.lease import pin

    pin()  # before the first thread starts, which it would not bind
    file, events, alive = argv[0], int(argv[1]), int(argv[2])
    for pipe in (events, alive):
        os.set_inheritable(pipe, False)  # what the model starts must not keep them open
    files: SimpleQueue[str] = SimpleQueue()
    files.put(file)
    threading.Thread(target=_hear_parent, args=(alive, files), daemon=True).start()

    def emit(event: dict[str, Json]) -> None:
        line = json.dumps(event) + "\n"
        data = line.encode()
        while data:
            data = data[os.write(events, data) :]

    with ExitStack() as held:  # the model is closed when the parent knows the outcome
        try:
            _work(files, emit, held)
        except VdbError as exc:
            emit({"event": "failed", "error": type(exc).__name__, "message": str(exc)})
        except Exception:
            trace = traceback.format_exc().rstrip()
            message = f"the child process failed outside the model:\n{trace}"
            emit({"event": "failed", "error": "InfraError", "message": message})
    return 0


def _work(
    files: SimpleQueue[str], emit: Callable[[dict[str, Json]], None], held: ExitStack
) -> None:
    """Load the first job's model, and execute with it every job until `END`."""
    from pytest_vdb.measure.code import loaded_code
    from pytest_vdb.measure.execute import execute, import_libraries, load, time_block

    source = None
    while (file := files.get()) != END:
        job = Job.from_json(json.loads(Path(file).read_text()))
        if source is None:
            sys.path[:] = dict.fromkeys([*job.path, *sys.path, *job.late])
            import_libraries(job)
            emit({"event": "started"})  # so that the load's time limit is the load's
            source, seconds = load(job)
            held.callback(source.close)
            emit({"event": "loaded", "seconds": seconds})
            emit({"event": "code", "facts": loaded_code(job.path)})
        (time_block if job.block else execute)(job, emit, source)


def _hear_parent(alive: int, files: SimpleQueue[str]) -> None:
    """Pass on the files of more jobs; at the end of the pipe, whose other end only the parent has,
    kill the group."""
    with os.fdopen(alive, closefd=False) as lines:
        for line in lines:
            files.put(line.rstrip("\n"))
    end_group()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
