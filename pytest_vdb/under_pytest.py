"""Commands that need what pytest reads: ini files, ``conftest.py`` and the ``--vdb-*`` flags.

pytest is started with a plugin that does the command's work in the place of collecting and running
tests, so that models, workloads and places mean what they mean in a run.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vdb.errors import BadSetting, VdbError
from pytest_vdb.report.writers import WRITERS
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


def told(arguments: Sequence[str], work: Callable[[VdbSession], int]) -> int:
    """The status that ``work`` makes of the settings alone: no session starts, and none ends.

    Raises BadSetting for arguments that pytest does not know, and what ``work`` raises of VdbError.
    """
    reader = _Reader(work)
    pytest.main([*QUIET, "--capture=no", *arguments], plugins=[reader])
    if reader.error is not None:
        raise reader.error.with_traceback(None)
    if reader.status is None:
        raise BadSetting("pytest cannot read its configuration or these flags; it says why above")
    return reader.status


class _Reader:
    def __init__(self, work: Callable[[VdbSession], int]) -> None:
        self.work = work
        self.status: int | None = None
        self.error: VdbError | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> int:
        """In the place of a session, which would begin the results file of ``addopts`` anew."""
        from pytest_vdb.plugin import _layers
        from pytest_vdb.session import VdbSession

        try:
            session = VdbSession(config, _layers(config))
            if extra := config.getoption("file_or_dir"):
                raise BadSetting(f"unrecognized arguments: {' '.join(extra)}")
            try:
                self.status = self.work(session)
            finally:
                session.close()
                if "scratch" in session.__dict__:
                    shutil.rmtree(session.scratch, ignore_errors=True)
        except VdbError as error:
            self.error = error
        return 0


class _Work:
    def __init__(self, work: Callable[[VdbSession], None]) -> None:
        self.work = work
        self.error: VdbError | None = None
        self.done = False

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """This is no run: the files of reports in ``addopts`` are an earlier run's.

        What limits the base's runs may stand alone, since it limits a calibration's as well.
        """
        from pytest_vdb.checks import OF_THE_BASE
        from pytest_vdb.stash import LAYERS

        if (layers := config.stash.get(LAYERS, None)) is not None:
            cli, ini = (
                {k: v for k, v in of.items() if k not in ("json", "shard", *WRITERS)}
                for of in (layers.cli, layers.ini)
            )
            ini |= {name: cli.pop(name) for name in OF_THE_BASE if name in cli}
            if cli or ini:
                cli["github"] = "off"
            config.stash[LAYERS] = replace(layers, cli=cli, ini=ini)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> bool:
        return True  # nothing is collected

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        from pytest_vdb.stash import session_of

        try:
            if session.config.getoption("numprocesses", None):
                raise BadSetting("this is no work for several workers at once; add -n0")
            self.work(session_of(session.config))
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
