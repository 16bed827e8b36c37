"""Wires placement into a run: workers' devices and tests, and the seconds it is planned with."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import pytest

from pytest_vdb.errors import VdbError
from pytest_vdb.options import Layers


class FanOut:
    """Registered in the controller: what xdist asks, and how long each test took."""

    def __init__(self, config: pytest.Config, layers: Layers) -> None:
        self.config = config
        self.layers = layers
        self.pinned = False
        self._seconds: dict[str, float] = {}
        self._failed: set[str] = set()
        self._loads: dict[str, tuple[str, float]] = {}

    # ------------------------------------------------------------------ xdist

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self, specs: Sequence[Any]) -> None:
        """Each worker sees its own GPU from its start, where the run is one of ours."""
        if not (self.layers.cli or self.layers.ini):
            return
        from pytest_vdb.environment import resolve_device
        from pytest_vdb.parallel import xdist

        if resolve_device(self.layers.session().device) != "cpu":
            self.pinned = xdist.pin(specs)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["vdb_placed"] = self.pinned and self.config.getoption("dist") != "each"

    @pytest.hookimpl(wrapper=True, optionalhook=True)
    def pytest_xdist_make_scheduler(self) -> Generator[None, Any, Any]:
        """Ours in place of any other, as soon as the workers have found vdb tests."""
        from pytest_vdb.parallel import xdist
        from pytest_vdb.stash import session_of

        native = yield
        scratch = session_of(self.config).scratch
        try:
            return xdist.scheduling(native, self.config, self.layers, scratch)
        except VdbError as error:
            raise pytest.UsageError(str(error)) from None

    # ------------------------------------------------------------------ how long it took

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if str(report.when) == "???":
            return  # its worker died in it
        self._seconds[report.nodeid] = self._seconds.get(report.nodeid, 0.0) + report.duration
        if report.failed:
            self._failed.add(report.nodeid)
        if (data := getattr(report, "vdb", None)) is not None:
            self._loads[report.nodeid] = data["group"], data["seconds"]["load"]

    def save(self, *, update: bool) -> None:
        """Keep the seconds of this run. Raises BadSetting and BaselineWriteError.

        A test that failed is not known to have run to its end, and replaces nothing.
        """
        from pytest_vdb.parallel.durations import Durations

        stored = Durations.load(self.config)
        if stored.path is not None and not update:
            return
        for nodeid, seconds in self._seconds.items():
            if nodeid not in self._failed or stored.of(nodeid) is None:
                stored.add(nodeid, seconds, *self._loads.get(nodeid, ()))
        stored.save()


class Collected:
    """Registered in a worker: tells the controller which tests belong together."""

    @pytest.hookimpl(wrapper=True)
    def pytest_collection_modifyitems(
        self, items: list[pytest.Item]
    ) -> Generator[None, None, None]:
        """``--dist=loadgroup`` writes groups into node ids, by which baselines are found."""
        from pytest_vdb.stash import uses_vdb

        ids = [(item, item.nodeid) for item in items if uses_vdb(item)]
        yield
        for item, nodeid in ids:
            if item.nodeid != nodeid:
                item._nodeid = nodeid  # type: ignore[attr-defined]  # as xdist does

    @pytest.hookimpl(tryfirst=True)  # xdist's own tells that the collection is complete
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        from pytest_vdb.stash import session_of, uses_vdb

        users = [item for item in session.items if uses_vdb(item)]
        if users:
            from pytest_vdb.parallel import xdist

            xdist.write_plan(session_of(session.config), users)
