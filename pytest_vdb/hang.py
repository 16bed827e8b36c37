"""Where a process that hangs in C code leaves its traceback before it ends."""

from __future__ import annotations

import os
from contextlib import nullcontext, suppress

import pytest


def log(config: pytest.Config) -> int | None:
    """A descriptor of stderr behind pytest's capture, until pytest ends.

    None where pytest's own watchdog is on (``faulthandler_timeout``): both need one timer.
    """
    plugins = config.pluginmanager
    if plugins.hasplugin("faulthandler") and float(config.getini("faulthandler_timeout") or 0) > 0:
        return None
    capture = plugins.getplugin("capturemanager")
    descriptor = None
    with capture.global_and_fixture_disabled() if capture else nullcontext(), suppress(OSError):
        descriptor = os.dup(2)
        config.add_cleanup(lambda: os.close(descriptor))
    return descriptor
