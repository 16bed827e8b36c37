"""Whose baseline a measurement is held to, on files as an update writes them"""

from dataclasses import replace

import pytest

from pytest_vdb.baseline.identity import relative_path, step
from pytest_vdb.baseline.schema import BaselineFile
from pytest_vdb.baseline.store import Store, write_atomically
from pytest_vdb.baseline.yardstick import Wanted, choose
from pytest_vdb.records import Baseline, Environment, Kind, Prompt, Session, Stored, Workload

STACK = {"torch": "torch2.13", "diffusers": "diffusers0.42", "cuda": "cuda13.0"}
H100 = Environment(
    {"device": "NVIDIA H100 PCIe", "count": "1gpu", **STACK, "driver": "driver580", "pool": "lab"},
    {"architecture": "sm_90"},
)
H200 = replace(H100, identity={**H100.identity, "device": "NVIDIA H200"})
CPU = Environment(
    {"device": "cpu", **STACK, "cpu": "AMD EPYC", "cores": "2c"}, {"architecture": "x86_64"}
)
NODEID = "benchmarks/test_bench.py::test_x[m]"
WORKLOAD = Workload(
    prompts=(Prompt("p1", "a fox"),), seeds=(0,), call={}, dtype="float32", options={}
)


def on(environment, **changed):
    return replace(environment, identity={**environment.identity, **changed})


@pytest.mark.parametrize(
    ("ours", "theirs", "kind", "alike"),
    [
        (H100, on(H100, driver="driver570"), Kind.LATENCY, "same GPU model"),
        (H100, on(H100, pool="other"), Kind.ENERGY, "same GPU model"),
        (CPU, on(CPU, cores="64c"), Kind.LATENCY, "same CPU model"),
        (H100, H200, Kind.MEMORY, "same architecture"),
        (H100, H200, Kind.SCORE, "same architecture"),
        (H100, H200, Kind.LATENCY, None),
        (H100, H200, Kind.ENERGY, None),
        (CPU, on(CPU, cpu="Intel Xeon"), Kind.MEMORY, "same architecture"),
        (CPU, on(CPU, cpu="Intel Xeon"), Kind.LATENCY, None),
        # another stack is accepted by a person, never laddered
        (H100, on(H100, torch="torch2.14"), Kind.SCORE, None),
        (H100, on(H100, cuda="cuda12.8"), Kind.SCORE, None),
        (H100, on(H100, xformers="xformers0.1"), Kind.SCORE, None),
        (H100, on(H100, count="2gpu"), Kind.LATENCY, None),
        (CPU, on(CPU, by="served"), Kind.LATENCY, None),
        (H100, H100, Kind.SCORE, None),
    ],
)
def test_only_hardware_may_differ(ours, theirs, kind, alike):
    found = step(ours, theirs.identity, theirs.facts, kind)
    assert (found and found.alike) == alike
    if found:
        assert found.factor == {"same architecture": 4}.get(alike, 2)


def test_an_architecture_is_known_or_no_step():
    a100 = replace(on(H100, device="NVIDIA A100"), facts={"architecture": "sm_80"})
    assert step(H100, a100.identity, a100.facts, Kind.SCORE) is None
    assert step(H100, H200.identity, {}, Kind.SCORE) is None  # an older file
    endpoint = Environment({"device": "endpoint"}, {"architecture": ""})
    assert step(endpoint, {"device": "endpoint", "pool": "x"}, {}, Kind.LATENCY) is None


def stored(root, environment, date="2026-01-01", name="latency", version="1"):
    value = Stored("s", "lower", {"version": version, "weights": None}, {date: {"p1/0": 1.0}})
    session = Session(date, "abc", environment.facts)
    baseline = Baseline(WORKLOAD, {date: session}, {name: value})
    file = BaselineFile("m", environment.identity, {WORKLOAD.hash: baseline})
    write_atomically(root / relative_path("m", environment, NODEID), file.dumps())


def held(store, name="latency", kind=Kind.LATENCY, exact=False, version="1"):
    wanted = Wanted(WORKLOAD.hash, name, kind, {"version": version, "weights": None})
    return choose(store, relative_path("m", H100, NODEID), wanted, H100, exact=exact)


def test_the_nearest_and_newest_machine_serves_where_this_one_has_nothing(tmp_path):
    stored(tmp_path, H200)
    stored(tmp_path, H200, name="memory.peak")
    stored(tmp_path, on(H100, driver="driver560"), "2026-01-01")
    stored(tmp_path, on(H100, driver="driver570"), "2026-02-01")
    store = Store(tmp_path, tmp_path / "media")
    found = held(store)
    assert found.key == on(H100, driver="driver570").key
    assert found.against == f"{found.key} (same GPU model; tolerance doubled)"
    memory = held(store, "memory.peak", Kind.MEMORY)
    assert memory.against == f"{H200.key} (same architecture; tolerance fourfold)"
    assert held(store, exact=True).baseline is None

    stored(tmp_path, H100)
    exact = held(Store(tmp_path, tmp_path / "media"))
    assert exact.baseline is not None
    assert exact.against == ""
    # What is stored here under another definition is not evaded by going elsewhere.
    other = held(Store(tmp_path, tmp_path / "media"), version="2")
    assert other.step is None
