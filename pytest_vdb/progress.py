"""One line on the terminal, rewritten after every sample of a long generation."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

LONG = 2.0
"""Seconds of generation from which on a terminal shows its progress."""


def progress(config: pytest.Config, name: str) -> Callable[[int, int], None] | None:
    """What a runner calls with (videos done, videos in all).

    None where nobody watches, or under ``-q``.
    """
    reporter = config.pluginmanager.getplugin("terminalreporter")
    capture = config.pluginmanager.getplugin("capturemanager")
    if reporter is None or capture is None or not reporter.isatty or reporter.verbosity < 0:
        return None
    times = [time.monotonic()]

    def show(done: int, total: int) -> None:
        times.append(time.monotonic())
        if times[-1] - times[0] < LONG:
            return
        each = (times[-1] - times[1]) / (done - 1) if done > 1 else times[1] - times[0]
        line = f"vdb: {name}: {done}/{total} videos, {each * (total - done):.0f} s left"
        with capture.global_and_fixture_disabled():
            reporter.ensure_newline()
            reporter.rewrite(line if done < total else "", erase=True)
            reporter.rewrite("")  # back to the start of the line, for whatever comes next

    return show
