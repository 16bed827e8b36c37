"""Which worker gets which test, on simulated workers that the shipped scheduler gives orders."""

from pathlib import Path

import numpy as np
import pytest

from pytest_vdb.parallel.schedule import Batch, Group, Order, Schedule, pack

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    import placement_study

    return placement_study


def pipeline(name, tests, load=10.0, share=0.0, seconds=1.0):
    """Each test a generation of its own."""
    batches = tuple(Batch(((test, seconds),)) for test in tests)
    return Group(name, batches, load, share)


def plain(name, tests):
    return Group(name, tuple(Batch(((test, 1.0),)) for test in tests), loads=False)


def told(orders):
    """Tests by worker, and who was told that nothing follows."""
    return {o.worker: o.tests for o in orders if o.tests}, [o.worker for o in orders if o.last]


def test_pack_puts_the_longest_first_into_the_emptiest_bin():
    groups = {"a": 5.0, "b": 4.0, "c": 3.0, "d": 3.0, "e": 3.0}
    assert pack(groups, 2) == [["a", "d"], ["b", "c", "e"]]
    assert pack(dict(reversed(groups.items())), 2) == pack(groups, 2)
    assert pack({"a": 1.0}, 3) == [["a"], [], []]
    assert sorted(name for bin_ in pack(groups, 4) for name in bin_) == sorted(groups)
    with pytest.raises(ValueError, match="0 bins"):
        pack(groups, 0)


def test_the_longest_group_starts_first_and_stays_on_its_worker():
    schedule = Schedule([pipeline("short", range(3)), pipeline("long", range(3, 9))], 1)
    orders = schedule.join("w")
    ran = []
    while not schedule.idle:
        tests, last = told(orders)
        ran += tests.get("w", ())
        orders = schedule.done("w", ran[len(ran) - schedule.held("w")])
    assert ran == [*range(3, 9), *range(3)]
    assert last == ["w"]
    assert schedule.loads == 2


def test_each_worker_takes_a_group_and_knows_two_of_its_tests():
    schedule = Schedule([pipeline("a", range(4)), pipeline("b", range(4, 8))], 2)
    assert told(schedule.join("w0", "w1")) == ({"w0": (0, 1), "w1": (4, 5)}, [])
    assert told(schedule.done("w0", 0)) == ({"w0": (2,)}, [])
    assert told(schedule.done("w1", 4)) == ({"w1": (6,)}, [])


def test_a_group_is_shared_where_another_load_pays_and_only_there():
    """Ten tests of 10 s: after a load of 5 s another worker shortens it, after one of 200 s not."""
    for load, helps in ((5.0, True), (200.0, False)):
        schedule = Schedule([pipeline("a", range(10), load=load, seconds=10.0)], 2)
        assert ("w1" in told(schedule.join("w0", "w1"))[0]) is helps
        assert schedule.loads == 1 + helps


def test_tests_of_one_generation_are_never_parted():
    together = Group("a", (Batch(tuple((test, 10.0) for test in range(10))),), load=0.1)
    assert told(Schedule([together], 2).join("w0", "w1"))[0] == {"w0": (0, 1)}


def test_nothing_starts_that_does_not_fit():
    """Two groups of four devices of eight and one of all: that one alone, then both."""
    wide = pipeline("wide", [0, 1], share=1.0)
    halves = [pipeline("a", [2, 3], share=0.5, seconds=50), pipeline("b", [4, 5], share=0.5)]
    schedule = Schedule([*halves, wide], 3)
    assert told(schedule.join("w0", "w1", "w2")) == ({"w0": (0, 1)}, [])
    # the next group is known, and does not begin beside the last test of this one
    assert told(schedule.done("w0", 0)) == ({"w0": (2,)}, [])
    assert told(schedule.done("w0", 1)) == ({"w0": (3,), "w1": (4, 5)}, ["w2"])


def test_a_worker_that_would_wait_for_another_lets_its_last_test_run():
    """It runs a test when it knows the next: neither may hold what the other one waits for."""
    halves = [pipeline("a", [0, 1], share=0.4), pipeline("b", [2, 3], share=0.4)]
    late = Schedule([*halves, pipeline("wide", [4, 5], share=0.9)], 2)
    assert told(late.join("w0", "w1"))[0] == {"w0": (4, 5)}
    ran = set()
    held = {"w0": [4, 5], "w1": []}
    last = set()
    for _ in range(20):
        for worker, queue in held.items():
            if len(queue) == 2 or (queue and worker in last):
                ran.add(queue[0])
                tests, gone = told(late.done(worker, queue.pop(0)))
                last |= {*gone}
                for name, more in tests.items():
                    held[name] += more
    assert ran == set(range(6))


def test_plain_tests_are_shared_by_all_and_come_after_pipelines():
    schedule = Schedule([plain("test_a.py", range(6)), pipeline("p", [6, 7])], 3)
    found, _ = told(schedule.join("w0", "w1", "w2"))
    assert found == {"w0": (6, 7), "w1": (0, 2), "w2": (1, 3)}


def test_a_dead_workers_test_is_lost_once_and_its_others_go_on():
    schedule = Schedule([pipeline("a", range(5), load=1000.0)], 2)
    schedule.join("w0", "w1")
    schedule.done("w0", 0)
    broken, orders = schedule.lost("w0")
    assert broken == 1
    assert told(orders) == ({"w1": (2, 3)}, [])
    assert told(schedule.done("w1", 2)) == ({"w1": (4,)}, [])
    assert told(schedule.done("w1", 3)) == ({}, ["w1"])
    assert schedule.finished
    assert schedule.lost("w1")[0] == 4
    assert schedule.idle


def test_a_dead_workers_batch_stays_one():
    """Its rest is one generation's: two workers would both make the videos."""
    together = Batch(tuple((test, 10.0) for test in range(6)))
    alone = Batch(((6, 10.0),))
    schedule = Schedule([Group("a", (together, alone), load=0.1)], 3)
    assert told(schedule.join("w0"))[0] == {"w0": (0, 1)}
    assert schedule.lost("w0") == (0, [])
    assert told(schedule.join("w1", "w2"))[0] == {"w1": (1, 2), "w2": (6,)}
    assert told(schedule.done("w1", 1))[0] == {"w1": (3,)}
    # the test that it was not told of in time goes back in front of what follows it
    assert schedule.lost("w1")[0] == 2
    assert schedule.again(2) == []
    assert told(schedule.join("w3"))[0] == {"w3": (2, 3)}


def test_what_a_dead_worker_left_waits_for_the_next_one():
    schedule = Schedule([pipeline("a", range(3))], 1)
    schedule.join("w0")
    assert schedule.lost("w0") == (0, [])
    assert not schedule.finished
    assert told(schedule.join("w1")) == ({"w1": (1, 2)}, [])
    assert schedule.again(0) == []
    assert told(schedule.done("w1", 1)) == ({"w1": (0,)}, ["w1"][:0])


def test_a_worker_without_tests_is_let_go_in_the_end():
    schedule = Schedule([pipeline("a", [0])], 2)
    assert schedule.join("w0", "w1") == [
        Order("w0", (0,)),
        Order("w0", last=True),
        Order("w1", last=True),
    ]
    with pytest.raises(KeyError):
        schedule.done("w0", 3)


def test_random_suites_load_little_and_end_near_the_bound(study):
    """8 workers, 6 pipelines, 120 tests, 200 suites: loads, fit and makespan at once."""
    found = study.tried(study.SHAPES[0], 200)
    near = 0
    for suite, outcome in found:
        assert sorted(outcome.ran) == list(range(120))
        assert outcome.repeated == 0
        assert outcome.loads <= len(suite.groups) + 1
        assert outcome.fullest <= 1 + 1e-9
        near += outcome.makespan <= 1.10 * suite.bound(8)
    assert near >= 190


def test_suites_of_all_widths_fit_the_machine_and_end(study):
    for suite, outcome in study.tried(study.SHAPES[-1], 20):
        assert sorted(outcome.ran) == list(range(240))
        assert outcome.fullest <= 1 + 1e-9
        assert outcome.makespan <= 2 * suite.bound(8)


def test_workers_that_die_at_random_lose_their_tests_only(study):
    """Whoever dies, every other test runs once, and the end is reached."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        suite = study.draw(rng, 5, 60, 4, widths=(1, 2, 4))
        schedule = Schedule(suite.groups, 4)
        held, last, ran, lost = {}, set(), [], []

        def obey(orders, held=held, last=last):
            for order in orders:
                held[order.worker] += order.tests
                last |= {order.worker} if order.last else set()

        names = iter(range(1000))
        for _ in range(4):
            name = next(names)
            held[name] = []
            obey(schedule.join(name))
        while not schedule.idle:
            ready = [n for n, q in held.items() if len(q) == 2 or (q and n in last)]
            assert ready, "nobody can go on"
            name = ready[rng.integers(len(ready))]
            if rng.random() < 0.1:
                del held[name]
                broken, orders = schedule.lost(name)
                lost.append(broken)
                obey(orders)
                held[new := next(names)] = []
                obey(schedule.join(new))
            else:
                ran.append(held[name].pop(0))
                obey(schedule.done(name, ran[-1]))
        assert sorted(ran + lost) == list(range(60))


def test_scheduling_is_cheap(study):
    """The limit is 1 ms a test at 10,000 tests; this machine's share of it is not promised."""
    assert study.cost(10, 10_000, 8, plain=True) < 1e-3
    assert study.cost(100, 2_000, 8) < 1e-3
