"""What a session decides before anything heavy is imported: who shares a device."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_vdb import session
from pytest_vdb.options import Layers
from pytest_vdb.records import ModelSpec, Run, Sample
from pytest_vdb.report.terminal import duration
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


@pytest.mark.parametrize(
    ("device", "devices", "took"), [("cuda:1", 1, 7.5), ("cuda", 4, 30.0), ("cpu", 1, 0.0)]
)
def test_gpu_time_is_that_of_generations_on_every_gpu(
    pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch, device, devices, took
) -> None:
    monkeypatch.setattr(session, "resolve_device", lambda text: text)
    here = VdbSession(pytestconfig, Layers({}, {"device": device}, pytestconfig.rootpath))
    model = replace(MODEL, devices=devices)
    shape = (1, 1, 1, 3)
    samples = [Sample("p", seed, "", "", shape, wall=wall) for seed, wall in ((0, 2.5), (1, None))]
    here.used(model, Run(tuple(samples), load=9.0, first_call=5.0))
    assert here.take_gpu_seconds() == took
    assert here.take_gpu_seconds() == 0
    # two videos in one second, whatever each request waited
    here.used(model, Run(tuple(samples), load=9.0, first_call=5.0, throughput=2.0))
    assert here.take_gpu_seconds() == (6.0 * devices if took else 0)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (119.0, "119.0 s"), (150.0, "2.5 min"), (7300.0, "2.0 h")],
)
def test_gpu_time_is_said_as_people_do(seconds, said) -> None:
    assert duration(seconds) == said
