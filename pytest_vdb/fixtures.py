"""The fixtures, thin: each hands out what another room makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from pytest_vdb.errors import Incomplete

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_vdb.measure.inprocess import InProcess
    from pytest_vdb.records import Baseline, ModelSpec
    from pytest_vdb.view import Vdb


@pytest.fixture(scope="session")
def vdb_model(request: pytest.FixtureRequest) -> ModelSpec:
    """The model under test (a ``ModelSpec``); every test that uses it runs once a model."""
    try:
        spec: ModelSpec = request.param
    except AttributeError:
        raise Incomplete(
            "a vdb fixture was asked for by request.getfixturevalue: make it an argument of the "
            "test, which is how pytest learns to run it once a model"
        ) from None
    return spec


@pytest.fixture(scope="session")
def _vdb_point(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The point of a sweep at which a test runs, as a layer of settings; empty without a sweep."""
    point: dict[str, Any] = getattr(request, "param", {})
    return point


@pytest.fixture
def vdb(request: pytest.FixtureRequest, vdb_model: ModelSpec, _vdb_point: dict[str, Any]) -> Vdb:
    """Measurements of the model on this test's workload, generated when first asked for."""
    from pytest_vdb import marker
    from pytest_vdb.stash import SESSION, TEST
    from pytest_vdb.verdicts import TestRun
    from pytest_vdb.view import Vdb

    session = request.config.stash[SESSION]
    settings = session.layers.resolve(marker.layers(request.node))
    view = Vdb(session.bench(vdb_model, settings), request.node.nodeid, settings)
    request.node.stash[TEST] = TestRun(view, settings)
    return view


@pytest.fixture
def vdb_pipeline(request: pytest.FixtureRequest, vdb: Vdb) -> Iterator[Any]:
    """The loaded pipeline itself, shared with the in-process runner; it stays for this test.

    Raises Incomplete for what is no diffusers pipeline in this process: recorded videos, servers,
    engines, and all models under the child-process runner or on a cluster.
    """
    from pytest_vdb.stash import SESSION

    session = request.config.stash[SESSION]
    bench = vdb._bench
    runner = session.runner(bench.settings.runner, bench.spec)
    if runner.name != "inprocess" or vdb.model.source not in ("diffusers", "factory"):
        names = {"child": "runner is a child process", "cluster": "runner is a cluster"}
        why = names.get(runner.name, "model runs elsewhere")
        raise Incomplete(f"vdb_pipeline needs a pipeline in this process, and the {why}")
    session.sharing.touched(bench.spec)  # whatever it generates from now on is its own
    with session.charged("load"):
        here = cast("InProcess", runner)
        lease = vdb._guarded(lambda: here.source(bench.job(), request.node.nodeid))
    with lease as source:
        pipeline = getattr(source, "pipeline", None)
        if pipeline is None:
            raise Incomplete(f"{vdb.model.name} is an engine, and no diffusers pipeline")
        yield pipeline


@pytest.fixture
def vdb_baseline(vdb: Vdb) -> dict[str, Baseline | None]:
    """What this test is compared with: ``{"quality": Baseline, "performance": Baseline}``."""
    from pytest_vdb.records import Kind

    return {"quality": vdb.baseline(Kind.SCORE), "performance": vdb.baseline(Kind.LATENCY)}
