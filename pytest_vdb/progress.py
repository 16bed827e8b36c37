"""One line on the terminal, rewritten after every sample of a long generation."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pytest_vdb.units import plain

LONG = 2.0
"""Seconds of generation from which on a terminal shows its progress."""

ERASE, UP, RIGHT = "\x1b[K", "\x1b[A", "\x1b[{}C"
"""Control sequences of ECMA-48: erase to the end of the line, a line up, columns to the right."""


@contextmanager
def progress(config: pytest.Config, name: str) -> Iterator[Callable[[int, int], None] | None]:
    """What a runner calls in the block with (videos done, videos in all), after every video at
    least.

    It writes on the line below pytest's own, goes back to where that one ends, and leaves nothing
    when all is done or failed. None where nobody watches, under ``-q``, and under ``-s``, where the
    line is for what the model prints.
    """
    reporter = config.pluginmanager.getplugin("terminalreporter")
    capture = config.pluginmanager.getplugin("capturemanager")
    quiet = config.getoption("capture") == "no" or os.environ.get("TERM") == "dumb"
    if (
        reporter is None
        or capture is None
        or not reporter.isatty
        or reporter.verbosity < 0
        or quiet
    ):
        yield None
        return
    times = [time.monotonic()]
    shown = ""

    def write(line: str) -> None:
        nonlocal shown
        shown = line
        wide = reporter._tw.fullwidth
        column = reporter._width_of_current_line % wide
        back = f"{UP}\r{RIGHT.format(column) if column else ''}"
        with capture.global_and_fixture_disabled():
            sys.stdout.write(f"\n\r{line[: wide - 1]}{ERASE}{back}")
            sys.stdout.flush()

    def show(done: int, total: int) -> None:
        if done < len(times):
            return  # something goes on, and no video is finished yet
        times.append(time.monotonic())
        if times[-1] - times[0] < LONG:
            return
        each = (times[-1] - times[1]) / (done - 1) if done > 1 else times[1] - times[0]
        left = f"{done}/{total} videos, {each * (total - done):.0f} s left"
        write(f"vdb: {plain(name)}: {left}" if done < total else "")

    try:
        yield show
    finally:
        if shown:
            write("")
