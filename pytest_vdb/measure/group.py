"""A process group that speaks JSON lines and leaves nothing behind."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from pytest_vdb.errors import InfraError
from pytest_vdb.parallel.lease import Lease
from pytest_vdb.records import Json

TICK = 0.2  # seconds between two looks at a silent child
LINES = 20  # of the log in a message
REAP = 5.0  # seconds until every member of a killed group should be gone


class Group:
    """``with Group(command, env, log) as group``: a child in a session of its own.

    The child gets two more arguments, the numbers of inherited pipes: it writes events to the
    first; the second brings it lines (`send`), and ends when this process does. Its output goes to
    ``log``, and ``cwd`` is its folder. After the block every process of the group is killed and the
    child reaped, whatever happened.
    """

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], log: Path, cwd: str | None = None
    ) -> None:
        self.log = log
        self.code: int | None = None
        """The exit status, or minus the signal; None while the child runs."""
        self.id = -1
        self.peak_rss = 0
        """Peak resident bytes as the kernel gives them for the child, once it is reaped."""
        self.rss_floor = 0
        """This process's own peak, which the child's starts from: only more is the child's."""
        self._command = command
        self._cwd = cwd
        self._env = {**os.environ, **env}

    def __enter__(self) -> Self:
        self._events, events = os.pipe()
        alive, self._alive = os.pipe()
        try:
            with self.log.open("wb") as log:
                self._process = subprocess.Popen(
                    [*self._command, str(events), str(alive)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self._env,
                    cwd=self._cwd,
                    pass_fds=(events, alive),
                    start_new_session=True,
                )
        except BaseException:
            os.close(self._events)
            os.close(self._alive)
            raise
        finally:
            os.close(events)
            os.close(alive)
        self.id = self._process.pid
        self.rss_floor = _peak(resource.getrusage(resource.RUSAGE_SELF))
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._kill()
        finally:
            os.close(self._events)
            os.close(self._alive)

    def events(
        self, timeout: float | None, startup: float | None
    ) -> Iterator[dict[str, Json] | None]:
        """The child's events, then an end when it died; None where it was silent for too long.

        The limit is ``startup`` seconds for the first event and ``timeout`` for those after it.
        Raises InfraError for a line that is no event.
        """
        buffer = b""
        deadline = _after(startup)
        while True:
            left = TICK if deadline is None else min(TICK, deadline - time.monotonic())
            ended = self.has_ended()  # asked before reading, so that no last word is lost
            if select.select([self._events], [], [], 0 if ended else max(left, 0))[0]:
                chunk = os.read(self._events, 65536)
                if not chunk:
                    return
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    yield _parsed(line)
                    deadline = _after(timeout)
            elif ended:  # something it started holds the pipe open
                return
            elif deadline is not None and time.monotonic() >= deadline:
                yield None

    def send(self, line: str) -> bool:
        """Tell the child one more line; False where it is dead."""
        if self.has_ended():
            return False
        try:
            os.write(self._alive, f"{line}\n".encode())
        except BrokenPipeError:
            return False
        return True

    def wait(self, seconds: float) -> None:
        """Let the child end by itself, for at most ``seconds``."""
        deadline = time.monotonic() + seconds
        while not self.has_ended() and time.monotonic() < deadline:
            time.sleep(0.01)

    def members(self, processes: Iterable[int]) -> set[int]:
        """Those of ``processes`` that are of this group and stay so for ``REAP`` seconds."""
        deadline = time.monotonic() + REAP
        while left := {pid for pid in processes if _group_of(pid) == self.id}:
            if time.monotonic() >= deadline:
                return left
            time.sleep(0.05)
        return set()

    def has_ended(self) -> bool:
        """Whether the child is dead; it stays unreaped, so its group's id cannot be another's."""
        try:
            return os.waitid(os.P_PID, self.id, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:  # SIGCHLD is ignored here, or somebody else waited for it
            return True

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.id, signal.SIGKILL)
        with suppress(ChildProcessError):
            _, status, usage = os.wait4(self.id, 0)
            self.code = self._process.returncode = os.waitstatus_to_exitcode(status)
            self.peak_rss = _peak(usage)
        deadline = time.monotonic() + REAP
        with suppress(ProcessLookupError):
            while time.monotonic() < deadline:
                os.killpg(self.id, 0)  # raises when the last member is gone
                time.sleep(0.005)


def _peak(usage: resource.struct_rusage) -> int:
    """Peak resident bytes; the unit is the system's own."""
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _after(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _parsed(line: bytes) -> dict[str, Json]:
    try:
        event: dict[str, Json] = json.loads(line)
        event["event"]
    except (ValueError, TypeError, KeyError) as exc:
        raise InfraError(f"the child process sent {line[:200]!r}, which is no event") from exc
    return event


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def log_tail(log: Path) -> str:
    """The last lines of the child's output, as the tail of a message."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 16384))
        lines = file.read().decode(errors="replace").splitlines()[-LINES:]
    return ("its last lines:" if lines else "it printed nothing") + "".join(
        f"\n  | {line}" for line in lines
    )


def check_devices(lease: Lease, group: Group) -> None:
    """InfraError where a process of the dead group still computes on a leased device."""
    if not lease.devices:
        return
    if left := group.members(lease.processes()):
        raise InfraError(
            f"processes {sorted(left)} of the killed child still hold {', '.join(lease.devices)}; "
            "see nvidia-smi, and reset the device before the next measurement"
        )


def die_with_parent(alive: int) -> None:
    """Wait for the end of a pipe whose other end only the parent has, then kill the group."""
    while os.read(alive, 1):
        pass
    end_group()


def end_group() -> None:
    """Kill this process and everything that it started and that stayed in its group."""
    if os.getpgrp() == os.getpid():  # never the group of somebody who started this by hand
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)
