"""Commands that need what pytest reads: ini files, ``conftest.py`` and the ``--vdb-*`` flags.

pytest is started with a plugin that does the command's work in the place of collecting and running
tests, so that models, workloads and places mean what they mean in a run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vdb.errors import BadSetting, VdbError
from pytest_vdb.units import plain

if TYPE_CHECKING:
    from pytest_vdb.session import VdbSession

QUIET = ("-qq", "--no-header", "--disable-warnings", "-p", "no:cacheprovider")


def run(arguments: Sequence[str], work: Callable[[VdbSession], None]) -> int:
    """Do ``work`` under pytest with these arguments; the status is 0, or 2 for a usage error.

    Raises what ``work`` raises of VdbError.
    """
    worker = _Work(work)
    status = int(pytest.main([*QUIET, *arguments], plugins=[worker]))
    if worker.error is not None:
        raise worker.error.with_traceback(None)
    return 2 if status == pytest.ExitCode.USAGE_ERROR else status


class _Work:
    def __init__(self, work: Callable[[VdbSession], None]) -> None:
        self.work = work
        self.error: VdbError | None = None
        self.done = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> bool:
        return True  # nothing is collected

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        from pytest_vdb.plugin import _session

        try:
            if session.config.getoption("numprocesses", None):
                raise BadSetting("this is no work for several workers at once; add -n0")
            self.work(_session(session.config))
            self.done = True
        except VdbError as error:
            self.error = error
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.done:  # and no test, which pytest alone would call a failure
            session.exitstatus = pytest.ExitCode.OK


def tell(session: VdbSession, text: str) -> None:
    """Lines on standard output, past pytest's capturing."""
    capture: Any = session.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        for line in text.splitlines():
            print(plain(line), flush=True)
