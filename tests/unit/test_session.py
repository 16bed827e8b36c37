"""What a session decides before anything heavy is imported: who shares a device."""

from __future__ import annotations

import pytest

from pytest_vdb import session
from pytest_vdb.options import Layers
from pytest_vdb.records import ModelSpec
from pytest_vdb.session import VdbSession

MODEL = ModelSpec("mine", "factory", "mine:build")


@pytest.mark.parametrize(
    ("device", "metrics", "workers", "shared"),
    [
        ("cuda:0", "cuda:0", 2, 2),
        ("cuda:0", "cuda:1", 2, 2),
        ("cuda:0", "cpu", 2, 0),
        ("cuda:0", "cuda:0", 1, 0),
    ],
)
def test_workers_whose_metrics_use_an_accelerator_share_it(
    pytestconfig: pytest.Config,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    metrics: str,
    workers: int,
    shared: int,
) -> None:
    """Two GPUs are enough for two workers, unless one scores where the other is timed."""
    monkeypatch.setattr(session, "resolve_device", lambda text: text)
    monkeypatch.setattr("pytest_vdb.parallel.lease.visible_devices", lambda: ["GPU-0", "GPU-1"])
    monkeypatch.setattr(pytestconfig, "workerinput", {"workercount": workers}, raising=False)
    layers = Layers({}, {"device": device, "metric_device": metrics}, pytestconfig.rootpath)
    here = VdbSession(pytestconfig, layers)
    assert here.crowd(MODEL, here.settings) == shared
