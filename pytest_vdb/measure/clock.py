"""Time: stopwatch around a generation, and an alarm that ends one that takes too long."""

from __future__ import annotations

import faulthandler
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

from pytest_vdb.errors import BadSetting, GenerationTimeout

T = TypeVar("T")
GRACE = 30.0
"""Seconds past its limit after which an `Alarm` that Python did not notice ends the process."""


@dataclass(frozen=True)
class Lap:
    """Seconds that one call took: ``wall`` by the monotonic clock, ``cpu`` of the whole process.

    ``cpu`` sums user and system time over all threads, so it can exceed ``wall``; it leaves out
    child processes and the accelerator.
    """

    wall: float
    cpu: float


def timed(call: Callable[[], T], device: str = "cpu") -> tuple[T, Lap]:
    """The result of ``call()`` and how long it took, until ``device`` has finished its work."""
    synchronize(device)
    cpu, wall = time.process_time(), time.perf_counter()
    result = call()
    synchronize(device)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return result, Lap(wall, cpu)


def synchronize(device: str) -> None:
    """Wait until everything queued on ``device`` (``"cpu"``, ``"cuda:0"``, ``"mps"``) is done."""
    kind = device.partition(":")[0]
    if kind == "cpu":
        return
    import torch

    if kind == "cuda":
        torch.cuda.synchronize(device)
    else:
        torch.accelerator.synchronize(device)


class Alarm:
    """Ends the block that it guards with GenerationTimeout when a limit in seconds passes.

    ``with Alarm(60, message) as alarm`` starts the time and ``alarm.restart()`` starts it anew;
    ``message()`` is asked for the error's text at the moment of expiry. ``seconds=None`` guards
    nothing. What used SIGALRM before gets its handler back, and its timer with what is left of it.

    The limit works by SIGALRM, so it needs the main thread of a POSIX process (elsewhere
    BadSetting), and Python notices a signal only between its own instructions: not inside one C
    call, such as a kernel or a blocked read in an extension. With ``log``, an open file descriptor,
    a process that has not noticed its limit `GRACE` later writes every thread's traceback there and
    exits with 1. That is `faulthandler`'s work, whose one timer must be nobody else's.
    """

    def __init__(
        self, seconds: float | None, message: Callable[[], str], log: int | None = None
    ) -> None:
        self.seconds = seconds
        self.message = message
        self.log = log
        self.rung = False

    def __enter__(self) -> Self:
        if self.seconds is None:
            return self
        if self.seconds <= 0:
            raise BadSetting(f"a timeout of {self.seconds:g} s: give a number of seconds above 0")
        if not hasattr(signal, "setitimer") or not _in_main_thread():
            raise BadSetting(
                "a timeout can end an in-process generation only in the main thread of a POSIX "
                "system; use the child runner (ChildProcess), or set no --vdb-timeout"
            )
        self._entered = time.monotonic()
        self._timer = signal.setitimer(signal.ITIMER_REAL, 0)  # first: ours must not catch theirs
        self._handler = signal.signal(signal.SIGALRM, self._ring)
        self._start()
        return self

    def restart(self) -> None:
        """Start the time anew. Raises GenerationTimeout where the block swallowed one before."""
        self._raise_swallowed()
        self._start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self.seconds is None:
            return
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._unwatch()
        signal.signal(signal.SIGALRM, self._handler)
        delay, interval = self._timer
        if delay:
            left = delay - (time.monotonic() - self._entered)
            signal.setitimer(signal.ITIMER_REAL, max(left, 1e-3), interval)
        # A model may catch our exception and go on, or raise another one in its place.
        if kind is None or (issubclass(kind, Exception) and kind is not GenerationTimeout):
            self._raise_swallowed(error)

    def _start(self) -> None:
        if self.seconds is None:
            return
        signal.setitimer(signal.ITIMER_REAL, self.seconds)
        if self.log is not None:
            faulthandler.dump_traceback_later(self.seconds + GRACE, exit=True, file=self.log)

    def _unwatch(self) -> None:
        if self.log is not None:
            faulthandler.cancel_dump_traceback_later()

    def _ring(self, signum: int, frame: FrameType | None) -> Any:
        self.rung = True
        self._unwatch()
        raise GenerationTimeout(self.message())

    def _raise_swallowed(self, cause: BaseException | None = None) -> None:
        if self.rung:
            raise GenerationTimeout(self.message()) from cause


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
