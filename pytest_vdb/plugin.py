"""Pytest hooks: wiring only."""

from __future__ import annotations

import inspect
import json
import shutil
import sys
import unittest
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vdb import failures, fanout, hookspecs, options
from pytest_vdb.errors import EXIT_INFRA, VdbError

# Fixtures are found by name in the plugin's own namespace.
from pytest_vdb.fixtures import _vdb_point as _vdb_point
from pytest_vdb.fixtures import vdb as vdb
from pytest_vdb.fixtures import vdb_baseline as vdb_baseline
from pytest_vdb.fixtures import vdb_model as vdb_model
from pytest_vdb.fixtures import vdb_pipeline as vdb_pipeline
from pytest_vdb.stash import (
    LAYERS,
    RESULTS,
    SESSION,
    TEST,
    is_worker,
    results_of,
    session_of,
    uses_vdb,
)

if TYPE_CHECKING:
    from pytest_vdb.verdicts import TestRun

RUNS_NOTHING = ("collectonly", "setupplan", "showfixtures", "show_fixtures_per_test")
"""Options of pytest's under which what an earlier run has written stays."""

NOT_REACHED: dict[str, Any] = {"model": None, "workload": None, "measurements": []}
"""The record of a test that broke before it could say anything."""


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", options.MARKER)
    config.addinivalue_line("markers", options.SWEEP_MARKER)
    try:
        layers = _layers(config)
    except VdbError as error:
        raise pytest.UsageError(str(error)) from None
    config.stash[LAYERS] = layers
    if not is_worker(config):
        config.pluginmanager.register(Controller(config), "vdb-controller")
        config.pluginmanager.register(fanout.FanOut(config, layers), "vdb-fan-out")
    else:
        config.pluginmanager.register(fanout.Collected(), "vdb-collected")
    if (shard := layers.session().shard) is not None:
        from pytest_vdb.sharded import Sharded

        config.pluginmanager.register(Sharded(config, shard), "vdb-sharded")
    if layers.session().cluster is not None:
        from pytest_vdb.clustered import Joining

        config.pluginmanager.register(Joining(), "vdb-joining")


@pytest.hookimpl(tryfirst=True, optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """``-n auto`` is the number of visible GPUs. xdist asks before plugins are configured."""
    from pytest_vdb.parallel import xdist

    try:
        return xdist.workers(config, options.Layers.of(config))
    except VdbError as error:
        raise pytest.UsageError(str(error)) from None


def _layers(config: pytest.Config) -> options.Layers:
    """Settings of the command line and the ini file; policy as ``--vdb-baseline-ref`` has it."""
    given = getattr(config, "workerinput", {}).get("vdb_layers")
    if given is not None:  # a worker's command line is not the user's
        return options.Layers(given["ini"], given["cli"], config.rootpath)
    layers = options.Layers.of(config)
    name = layers.session().baseline_ref
    if name is None:
        return layers
    from pytest_vdb import trusted
    from pytest_vdb.gitrepo import Ref

    return trusted.layers(config, layers, Ref.of("--vdb-baseline-ref", name, config.rootpath))


# ------------------------------------------------------------------------- collection


def pytest_sessionstart(session: pytest.Session) -> None:
    """A flag or ini option that names nothing ends the run before collection."""
    layers = session.config.stash[LAYERS]
    if not layers.cli and not layers.ini:
        return
    from pytest_vdb import checks

    try:
        checks.of_run(session_of(session.config))
    except VdbError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """The tests that ``--vdb-keep`` has kept of a run are those of that run."""
    return True if collection_path.suffix == ".kept" and collection_path.is_dir() else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    asked = "vdb_model" in metafunc.fixturenames
    if not asked and metafunc.definition.get_closest_marker("vdb") is None:
        return
    from pytest_vdb import checks, marker, swept

    try:
        layers = marker.layers(metafunc.definition)
        if not asked:
            return  # the marker is checked all the same; a module's may cover plain tests
        session = session_of(metafunc.config)
        checks.of_test(session, session.layers.resolve(layers))
        swept.parametrize(metafunc, session)
    except VdbError as error:
        raise pytest.Collector.CollectError(f"{metafunc.definition.nodeid}: {error}") from None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of one pipeline follow each other, so that it is loaded once."""
    users = [item for item in items if uses_vdb(item)]
    if not users:
        return
    from pytest_vdb import checks, marker

    session = session_of(users[0].config)
    for item in users:  # a parameter's own marks are seen here for the first time
        try:
            checks.of_test(session, session.layers.resolve(marker.layers(item)))
        except VdbError as error:
            raise pytest.UsageError(f"{item.nodeid}: {error}") from None
    items[:] = marker.by_pipeline(items)


def pytest_pycollect_makeitem(collector: pytest.Collector, name: str, obj: object) -> None:
    if not (isinstance(obj, type) and issubclass(obj, unittest.TestCase)):
        return
    marked = any(getattr(mark, "name", "") == "vdb" for mark in getattr(obj, "pytestmark", []))
    methods = (
        f for key, f in vars(obj).items() if key.startswith("test") and inspect.isfunction(f)
    )
    if marked or any("vdb" in inspect.signature(method).parameters for method in methods):
        raise pytest.Collector.CollectError(
            f"{name} is a unittest.TestCase, which cannot take fixtures such as vdb: write a "
            f"plain class or functions"
        )


def pytest_report_header(config: pytest.Config) -> str | None:
    """One line, where a flag asks for it; a bare run says it once it has met a test of ours."""
    return session_of(config).headline() if config.stash[LAYERS].given else None


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> str | None:
    if config.stash[LAYERS].given:
        return None
    if not any(uses_vdb(item) for item in items):
        return None
    return session_of(config).headline()


# ------------------------------------------------------------------------- running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    """A fixture that takes a measurement fails like a test that does: without our traceback."""
    try:
        return (yield)
    except VdbError as error:
        if TEST in item.stash:
            item.stash[TEST].conclude(completed=False)
        pytest.fail(f"{type(error).__name__}: {error}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Judge what the test touched, after its body and still in its call phase."""
    run = item.stash.get(TEST, None)
    if run is None:
        return (yield)
    failure: BaseException | None = None
    result = None
    try:
        result = yield
    except (KeyboardInterrupt, SystemExit, pytest.exit.Exception):
        raise
    except BaseException as error:
        failure = error
    trouble = None
    with session_of(item.config).charged("plugin"):
        try:
            run.conclude(completed=failure is None)
        except VdbError as error:
            trouble = error
        evidence = run.evidence()
    if evidence:
        item.add_report_section("call", "vdb", evidence)
    failures.judged(run, failure, trouble)
    return result


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Between two pipelines nobody keeps a device, nor a worker its memory."""
    if not uses_vdb(item) or (nextitem is not None and not uses_vdb(nextitem)):
        return
    from pytest_vdb import marker

    if nextitem is None or marker.pipeline_key(nextitem) != marker.pipeline_key(item):
        try:
            session_of(item.config).leave_pipeline()
        except VdbError as error:
            pytest.fail(f"{type(error).__name__}: {error}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    run = item.stash.get(TEST, None)
    if call.when == "setup" and report.failed and uses_vdb(item):
        _attach(report, item, run, "error")
    if run is None or call.when != "call":
        return report
    # Replaced, not appended: a rerun must not leave the first try's. JUnit reads the item's.
    others = [pair for pair in item.user_properties if not pair[0].startswith("vdb.")]
    item.user_properties[:] = [*others, *(run.properties() if _with_properties(item) else [])]
    report.user_properties = list(item.user_properties)
    if report.skipped and run.only_not_applicable and isinstance(report.longrepr, tuple):
        path, line, _ = item.location
        report.longrepr = (path, (line or 0) + 1, report.longrepr[2])  # the test's, not this file's
    lost = run.infra and report.failed
    if lost:
        # An error of the infrastructure says nothing of the test: report it as pytest reports
        # everything that kept a test from being judged.
        report.when = "setup"
    _attach(report, item, run, "error" if lost else report.outcome)
    return report


def _with_properties(item: pytest.Item) -> bool:
    """Not where JUnit's strict form is written: its schema knows no properties of a test."""
    config = item.config
    strict = config.getini("junit_family") == "xunit2"
    return not (strict and config.getoption("xmlpath", None))


def _attach(
    report: pytest.TestReport, item: pytest.Item, run: TestRun | None, outcome: str
) -> None:
    """Put a test's record on its report: builtins only, which is what leaves a worker."""
    from pytest_vdb import marker

    nothing: dict[str, Any] = {"nodeid": report.nodeid, **NOT_REACHED}
    updates: list[Any] = []
    trouble = []
    session = session_of(item.config)
    with session.charged("plugin"):
        if run is not None and run.settings.update and outcome == "passed":
            try:
                updates = run.updates()
            except OSError as error:
                trouble.append(f"the media of {report.nodeid} were not kept: {error}")
        test = {**(run.to_json() if run else nothing), "outcome": outcome}
        test |= {"line": failures.place(item), "failure": failures.told(report, item, run)}
    data = {
        "test": test,
        "updates": updates,
        "trouble": trouble,
        "seconds": session.take_seconds(),
        "gpu_seconds": session.take_gpu_seconds(),
        "group": marker.pipeline_key(item),
        "notes": session.sharing.take_notes(),
    }
    report.vdb = json.loads(json.dumps(data, allow_nan=False))  # type: ignore[attr-defined]


@pytest.hookimpl(tryfirst=True)
def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    if "pytest_vdb.statistic" not in sys.modules:
        return None  # then neither side can be ours
    from pytest_vdb.statistic import explain

    return explain(op, left, right)


# ------------------------------------------------------------------------- the controller


class Controller:
    """Registered in the controller alone: gathers reports, writes results and baselines."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Workers write samples and media into the controller's one folder of this run."""
        node.workerinput["vdb_scratch"] = str(session_of(self.config).scratch)
        layers = self.config.stash[LAYERS]
        if layers.session().baseline_ref is not None:
            node.workerinput["vdb_layers"] = {"ini": {**layers.ini}, "cli": {**layers.cli}}

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self) -> None:
        """What has to be said or written whatever happens: results, reports, edits of the gate."""
        layers, option = self.config.stash[LAYERS], self.config.option
        if not layers.cli and not layers.ini:
            return
        if any(getattr(option, name, False) for name in RUNS_NOTHING):
            return
        from pytest_vdb.results import targets

        session = session_of(self.config)
        if session.settings.baseline_ref or targets(session):
            results_of(self.config)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = getattr(report, "vdb", None)
        if data is not None:
            results_of(self.config).add(data)
        elif str(report.when) == "???" and RESULTS in self.config.stash:  # xdist: a worker is gone
            results_of(self.config).add_lost(report.nodeid)

    @pytest.hookimpl(tryfirst=True)  # before xdist waits for its workers: Ctrl-C may come again
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if RESULTS not in self.config.stash:
            return
        results = results_of(self.config)
        if exitstatus == pytest.ExitCode.TESTS_FAILED and results.infra == session.testsfailed:
            session.exitstatus = EXIT_INFRA
        try:
            fan_out: fanout.FanOut = self.config.pluginmanager.getplugin("vdb-fan-out")
            fan_out.save(update=results.session.settings.update and results.sharded is None)
        except VdbError as error:
            results.trouble.append(str(error))
        if not results.finish(int(session.exitstatus)) and not session.exitstatus:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if RESULTS in self.config.stash:
            from pytest_vdb.report import terminal

            results = results_of(self.config)
            terminal.write(terminalreporter, results)
            for line in results.annotations():
                terminalreporter.line(line)


def pytest_unconfigure(config: pytest.Config) -> None:
    session = config.stash.get(SESSION, None)
    if session is not None:
        try:
            session.close()
        finally:
            if not is_worker(config):
                shutil.rmtree(session.scratch, ignore_errors=True)
