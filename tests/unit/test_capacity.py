"""What fits on a machine, how many workers that makes, and what each of them sees."""

from types import SimpleNamespace

import pytest

from pytest_vdb.parallel import capacity, lease, xdist
from pytest_vdb.parallel.capacity import Capacity, Need, auto_workers, need, slots
from pytest_vdb.parallel.durations import Durations
from pytest_vdb.records import ModelSpec

EIGHT = Capacity(devices=8, memory=8 * 80)


@pytest.fixture
def gpus(monkeypatch):
    """A machine with three GPUs, or as many as are said."""

    def have(names):
        monkeypatch.setattr(lease, "visible_devices", lambda: list(names))
        monkeypatch.setattr(capacity, "visible_devices", lambda: list(names))
        monkeypatch.setattr(xdist, "visible_devices", lambda: list(names))

    monkeypatch.delenv(lease.DEVICES, raising=False)
    have(["GPU-a", "GPU-b", "GPU-c"])
    return have


def spec(**more):
    return ModelSpec("m", "factory", "m:build", **more)


def test_a_share_is_the_larger_part_of_devices_and_memory():
    assert EIGHT.share(Need(2, 16)) == 2 / 8
    assert EIGHT.share(Need(1, 160)) == 160 / 640
    assert EIGHT.share(Need(99, 0)) == 1.0
    assert EIGHT.share(Need(4, 64), crowded=True) == 64 / 640
    assert Capacity(0, 0).share(Need(1, 1)) == 1.0


def test_what_a_model_needs_depends_on_where_it_runs():
    assert need(spec(devices=2, memory=5), "cuda") == Need(2, 5)
    assert need(spec(memory=5), "cpu") == Need(0, 5)
    assert need(spec(options={"num_threads": 3}), "cpu") == Need(3, 0)
    assert need(spec(devices=2), "cpu") == Need(2, 0)
    assert need(ModelSpec("m", "recorded", "videos", memory=5), "cuda") == Need()


def test_auto_is_a_worker_a_gpu(gpus, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert auto_workers("cuda", {}, asked=True) == 3
    monkeypatch.setattr(capacity, "usable_cores", lambda: ["cpu"] * 6)
    assert auto_workers("cpu", {"num_threads": 2}, asked=True) == 3
    gpus([])
    assert auto_workers("cuda", {}, asked=True) == 1
    assert auto_workers("cpu", {}, asked=False) is None


def test_workers_that_are_placed_have_a_gpu_each(gpus):
    where = {"in_process": False, "scores": False, "placed": True, "narrow": True}
    assert slots(spec(devices=2), "cuda", **where) == 3
    assert slots(spec(devices=2), "cuda", **{**where, "placed": False}) == 1
    assert slots(spec(), "cuda", **{**where, "scores": True}) == 3
    assert slots(spec(), "cuda", **{**where, "scores": True, "narrow": False}) == 1


def test_each_worker_is_pinned_to_an_entry_of_the_callers_own_list(gpus):
    specs = [SimpleNamespace(popen=True, env={}) for _ in range(4)]
    assert xdist.pin([*specs, SimpleNamespace(popen=False, env=None)])
    seen = [one.env["CUDA_VISIBLE_DEVICES"] for one in specs]
    assert seen == ["GPU-a", "GPU-b", "GPU-c", "GPU-a"]
    assert {one.env[lease.DEVICES] for one in specs} == {"GPU-a,GPU-b,GPU-c"}
    gpus([])
    assert not xdist.pin([SimpleNamespace(popen=True, env={})])


def test_a_pinned_worker_leases_from_all_of_the_run(gpus, monkeypatch, tmp_path):
    gpus(["GPU-b"])
    monkeypatch.setenv(lease.DEVICES, "GPU-a,GPU-b,GPU-c")
    assert lease.run_devices() == ["GPU-b", "GPU-a", "GPU-c"]
    with lease.Lease(3, folder=tmp_path, links={}) as held:
        assert sorted(held.env["CUDA_VISIBLE_DEVICES"].split(",")) == ["GPU-a", "GPU-b", "GPU-c"]


PLAN = {
    "tests": {"v.py::a[m]": ["m", "one"], "v.py::b[m]": ["m", "two"], "v.py::c[m]": ["m", "one"]},
    "needs": {"m": [1, 0]},
}
NODES = ["v.py::a[m]", "p.py::x", "v.py::b[m]", "v.py::c[m]", "p.py::y"]


def test_tests_are_grouped_by_pipeline_generation_and_file():
    stored = Durations({"v.py::a[m]": 4.0, "p.py::x": 2.0}, {"m": 9.0})
    vdb, plain = xdist.groups(NODES, PLAN, stored, EIGHT)
    assert (vdb.load, vdb.share, vdb.loads) == (9.0, 1 / 8, True)
    assert [batch.tests for batch in vdb.batches] == [((0, 4.0), (3, 3.0)), ((2, 3.0),)]
    assert not plain.loads
    assert [batch.tests for batch in plain.batches] == [((1, 2.0),), ((4, 3.0),)]
    kept = xdist.groups(NODES, PLAN, stored, EIGHT, dist="loadfile")[1]
    assert [batch.tests for batch in kept.batches] == [((1, 2.0), (4, 3.0))]
    over_files = ["p.py::x@one", "q.py::y@one", "q.py::z@two"]
    for group, tests in zip(
        xdist.groups(over_files, PLAN, Durations(), EIGHT, dist="loadgroup"), (2, 1), strict=True
    ):
        assert [len(batch.tests) for batch in group.batches] == [tests]
    unknown = xdist.groups(NODES, PLAN, Durations(), EIGHT)[0]
    assert (unknown.load, unknown.seconds) == (1.0, 4.0)
