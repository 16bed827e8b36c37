"""Hooks for model repositories (in ``conftest.py``) and packages. None can alter a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_vdb.metrics.registry import MetricSpec
    from pytest_vdb.records import Json, ModelSpec


@pytest.hookspec
def pytest_vdb_models() -> Iterable[ModelSpec]:
    """Models that ``--vdb-model`` shall know by name.

    Example::

        def pytest_vdb_models():
            from pytest_vdb import ModelSpec

            return [ModelSpec("our-wan", "factory", "our_repo.pipelines:wan")]

    Called once, before collection: put it in the ``conftest.py`` of the root or of a folder that
    is named on the command line.
    """
    raise AssertionError("a specification, never called")


@pytest.hookspec
def pytest_vdb_metrics() -> Iterable[MetricSpec]:
    """Metrics that ``vdb.score(name)`` shall know by name; see docs/metrics.md for an example."""
    raise AssertionError("a specification, never called")


@pytest.hookspec
def pytest_vdb_report(run: dict[str, Json]) -> None:
    """Called once on the controller with the finished run, in the form of ``--vdb-json``.

    Example::

        def pytest_vdb_report(run):
            for test in run["tests"]:
                for m in test["measurements"]:
                    wandb.log({f"{test['nodeid']}/{m['name']}": m["statistics"]})

    It gets a copy; an exception in it is reported and changes no verdict.
    """
    raise AssertionError("a specification, never called")
