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
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vdb import errors
from pytest_vdb.errors import BadSetting, GenerationTimeout, InfraError, VdbError
from pytest_vdb.measure.runner import Job, Progress, Tally
from pytest_vdb.records import Json, Run

if TYPE_CHECKING:
    from pytest_vdb.measure.group import Group
    from pytest_vdb.parallel.lease import Lease

JOB = "job.json"
LOG = "child.log"
LINES = 20  # of the log in a message
STARTUP = 300.0  # seconds at least for Python and its libraries, which no timeout is meant for
GRACE = 10.0  # seconds that a finished child has for its own cleaning up

LEASE_SECONDS = 1800.0
"""How long to wait for devices that another run holds, before that is an INFRA_ERROR."""


class ChildProcess:
    """Runs each job in a new process on ``devices`` leased GPUs (default: 1, or 0 on a CPU).

    ``wait`` is how many seconds to wait for free devices (None: as long as it takes). The limit
    ``job.timeout`` starts anew with every event of the child and works wherever the child hangs.
    Processes that the model starts die with the child unless they leave its process group.
    """

    name = "child"

    def __init__(self, devices: int | None = None, wait: float = LEASE_SECONDS) -> None:
        self.devices = devices
        self.wait = wait

    def run(self, job: Job, progress: Progress | None = None) -> Run:
        """Execute ``job`` in a child.

        Raises what the child reports by its own class and message, GenerationTimeout, or
        InfraError where the child died or left processes on its devices.
        """
        if not hasattr(os, "waitid"):  # Windows, and macOS before Python 3.13
            raise BadSetting("the child runner needs Linux; use the in-process runner here")
        from pytest_vdb.measure.group import Group
        from pytest_vdb.parallel.lease import Lease

        count = self._count(job)
        folder = Path(job.folder).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / JOB).write_text(json.dumps(job.to_json()))
        tally = Tally(job, progress)
        command = [sys.executable, "-m", __name__, str(folder / JOB)]
        with Lease(count, wait=self.wait) as lease:
            group = Group(command, lease.env, folder / LOG)
            try:
                with group:
                    failure = _listen(group, tally)
            finally:
                _check_devices(lease, group)
        if failure is not None:
            raise _as_error(failure)
        if not tally.done:
            raise InfraError(_obituary(group, tally))
        return tally.run(self.name)

    def close(self) -> None:
        """Nothing outlives a run."""

    def _count(self, job: Job) -> int:
        kind, _, index = job.device.partition(":")
        count = self.devices if self.devices is not None else int(kind != "cpu")
        if index and int(index) >= max(count, 1):
            raise BadSetting(
                f"--vdb-device={job.device}: a child process counts its own leased devices from 0; "
                f"say --vdb-device={kind} and choose devices with CUDA_VISIBLE_DEVICES"
            )
        return count


def _listen(group: Group, tally: Tally) -> dict[str, Json] | None:
    """Pass the child's events to ``tally`` until it ends; the ``failed`` event, if there was one.

    Raises GenerationTimeout.
    """
    failure = None
    timeout = tally.job.timeout
    startup = None if timeout is None else max(timeout, STARTUP)
    for event in group.events(timeout, startup):
        if event is None:
            raise GenerationTimeout(f"{tally.too_slow}; {_log_tail(group.log)}")
        if event["event"] == "failed":
            failure = event
            break
        tally(event)
        if tally.done:
            break
    group.wait(GRACE)
    return failure


def _as_error(failure: dict[str, Json]) -> VdbError:
    """The child's error by its own class; another exception of ours there is an InfraError."""
    kind = getattr(errors, failure["error"], None)
    if not (isinstance(kind, type) and issubclass(kind, VdbError)):
        kind = InfraError
    return kind(failure["message"])


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
        f"{_log_tail(group.log)}"
    )


def _log_tail(log: Path) -> str:
    """The last lines of the child's output, as the tail of a message."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 16384))
        lines = file.read().decode(errors="replace").splitlines()[-LINES:]
    return ("its last lines:" if lines else "it printed nothing") + "".join(
        f"\n  | {line}" for line in lines
    )


def _check_devices(lease: Lease, group: Group) -> None:
    """InfraError where a process of the dead group still computes on a leased device."""
    if not lease.devices:
        return
    if left := group.members(lease.processes()):
        raise InfraError(
            f"processes {sorted(left)} of the killed child still hold {', '.join(lease.devices)}; "
            "see nvidia-smi, and reset the device before the next measurement"
        )


# ---------------------------------------------------------------------- in the child


def main(argv: list[str]) -> int:
    """``python -m pytest_vdb.measure.child JOB.json EVENTS ALIVE``: the two are inherited pipes.

    The status is 0 where the parent was told ``done`` or ``failed``.
    """
    file, events, alive = argv[0], int(argv[1]), int(argv[2])
    for pipe in (events, alive):
        os.set_inheritable(pipe, False)  # what the model starts must not keep them open
    threading.Thread(target=_die_with_parent, args=(alive,), daemon=True).start()

    def emit(event: dict[str, Json]) -> None:
        line = json.dumps(event) + "\n"
        data = line.encode()
        while data:
            data = data[os.write(events, data) :]

    try:
        job = Job.from_json(json.loads(Path(file).read_text()))
        sys.path[:] = dict.fromkeys([*job.path, *sys.path])
        from pytest_vdb.measure.execute import execute, import_libraries

        import_libraries(job)
        emit({"event": "started"})  # so that the load's time limit is the load's
        execute(job, emit)
    except VdbError as exc:
        emit({"event": "failed", "error": type(exc).__name__, "message": str(exc)})
    except Exception:
        message = f"the child process failed outside the model:\n{traceback.format_exc().rstrip()}"
        emit({"event": "failed", "error": "InfraError", "message": message})
    return 0


def _die_with_parent(alive: int) -> None:
    """Wait for the end of a pipe whose other end only the parent has, then kill the group."""
    while os.read(alive, 1):
        pass
    if os.getpgrp() == os.getpid():  # never the group of somebody who started this by hand
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
