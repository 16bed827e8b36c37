"""Whose fault an exception is: the model's own errors become ours, with the model's traceback."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_vdb.errors import InfraError, OutOfMemory, SourceError, VdbError
from pytest_vdb.measure.runner import Job

PACKAGE = str(Path(__file__).parents[1])
LINES = 40  # of a traceback: its end says what went wrong

EXHAUSTED = re.compile(
    r"out of memory|can't allocate memory|not enough memory|bad_alloc|ALLOC_FAILED", re.IGNORECASE
)
BROKEN = re.compile(
    r"CUDA.*(uncorrectable|busy or unavailable|no CUDA-capable device|system not yet initialized)"
    r"|GPU is lost|No CUDA GPUs are available",
    re.IGNORECASE,
)
"""The words of CUDA, torch and NVML for a device that failed or went away, whatever the code."""

SIZE = re.compile(
    r"(?:tried|unable) to allocate (\d[\d.]* ?(?:bytes|[KMGT]i?B))", re.IGNORECASE
)  # torch on CUDA and on the CPU, numpy


OUTCOMES = (pytest.skip.Exception, pytest.fail.Exception, pytest.xfail.Exception)
"""What decides a test's outcome in pytest; none of them is an Exception."""


@contextmanager
def blame_model(job: Job, phase: str) -> Iterator[None]:
    """Turn what the model raises in the block into SourceError or OutOfMemory, chained; what says
    that a GPU failed or is gone, into InfraError.

    Our own errors pass as they are (unless memory was the cause), and so do KeyboardInterrupt and
    ``pytest.exit``. A model's SystemExit may not end the session, and its ``pytest.skip`` may not
    skip the gate, so they are SourceErrors.
    """
    try:
        yield
    except pytest.exit.Exception:
        raise
    except (Exception, SystemExit, *OUTCOMES) as exc:
        if (exhausted := _exhausted(exc)) is not None:
            message = _no_memory(job, phase, exhausted)
            for held in (exc, exhausted):  # their frames would keep the tensors alive
                traceback.clear_frames(held.__traceback__)
            raise OutOfMemory(message) from exc
        if isinstance(exc, VdbError):
            raise
        if isinstance(exc, RuntimeError) and BROKEN.search(str(exc)):
            said = str(exc).strip().splitlines()[0]
            raise InfraError(
                f"{job.device} failed during {phase} of model {job.model.name!r}: {said}; see "
                "nvidia-smi and dmesg before anything is run there again"
            ) from exc
        raise SourceError(
            f"{phase} of model {job.model.name!r} ({job.model.location}) raised "
            f"{type(exc).__name__}:\n{model_traceback(exc)}"
        ) from exc


def model_traceback(exc: BaseException) -> str:
    """The traceback from the first frame that is not ours, its last lines where it is long."""
    report = traceback.TracebackException.from_exception(exc)
    outside = [i for i, f in enumerate(report.stack) if not f.filename.startswith(PACKAGE)]
    # The embedded models are ours: where nothing else is on the stack, all of it is shown.
    del report.stack[: outside[0] if outside else 0]
    lines = "".join(report.format()).rstrip().splitlines()
    return "\n".join(lines if len(lines) <= LINES else ["  ...", *lines[-LINES:]])


def _exhausted(exc: BaseException) -> BaseException | None:
    """The exception that says that memory ran out: ``exc`` or what it was raised from."""
    seen: BaseException | None = exc
    while seen is not None:
        if isinstance(seen, OutOfMemory):
            return None  # already ours
        if isinstance(seen, MemoryError) or type(seen).__name__ == "OutOfMemoryError":
            return seen
        if isinstance(seen, RuntimeError) and EXHAUSTED.search(str(seen)):
            return seen
        seen = seen.__cause__
    return None


def _no_memory(job: Job, phase: str, exc: BaseException) -> str:
    size = SIZE.search(str(exc))
    wanted = f"at a request for {size[1]}" if size else "(the allocator named no size)"
    return (
        f"{phase} of model {job.model.name!r} ran out of memory on {job.device} {wanted}; ask for "
        "fewer frames or pixels, a smaller dtype (--vdb-dtype), --vdb-set=vae_tiling=true, "
        "--vdb-set=cpu_offload=model, or a larger device\n"
        f"{type(exc).__name__}: {str(exc).strip()[:500]}"
    )
