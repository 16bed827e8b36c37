"""What decides who makes which sample on a cluster, where, and how often it is tried."""

from __future__ import annotations

import random
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pytest_vdb.errors import BadSetting, InfraError
from pytest_vdb.parallel.capacity import threads
from pytest_vdb.parallel.cluster import Cluster, needed
from pytest_vdb.parallel.ledger import TRIES, Ledger, Need, Node, Spent, spread, vacant
from pytest_vdb.parallel.on_node import check_version, code, looking
from pytest_vdb.readers import cluster as read
from pytest_vdb.records import ModelSpec

GIB = 2**30


def ledger(count: int, *actors: str) -> Ledger:
    made = Ledger(count)
    for actor in actors:
        made.join(actor)
    return made


def test_nobody_holds_more_than_two_and_towards_the_end_one() -> None:
    book = ledger(7, "a", "b")
    assert [book.hand(actor) for actor in "ababab"] == [0, 1, 2, 3, None, None]
    assert book.finish("a", 0)
    assert book.hand("a") == 4  # three wait, more than there are actors
    assert book.finish("a", 2)
    assert book.hand("a") is None  # two wait: each would be one's that could be another's
    assert book.finish("b", 1)
    assert book.finish("b", 3)
    assert [book.hand("b"), book.hand("a"), book.hand("b")] == [5, None, None]


def test_what_the_dead_held_is_made_next_and_once() -> None:
    book = ledger(5, "a", "b")
    for actor in "abab":
        book.hand(actor)
    assert book.finish("b", 1)
    assert book.lose("a") == [0, 2]
    book.join("c")
    assert book.hand("c") == 0
    assert not book.finish("a", 1)
    assert book.finish("a", 0)  # its last answer was on the way
    assert not book.finish("c", 0)
    assert [book.hand("c"), book.finish("b", 3), book.hand("b")] == [2, True, 4]
    assert book.finish("c", 2)
    assert not book.done
    assert book.finish("b", 4)
    assert book.done


def test_a_sample_that_kills_every_actor_is_given_up() -> None:
    book = ledger(3, *"abc")
    for name in "abc"[: TRIES - 1]:
        assert book.hand(name) == 0
        assert book.lose(name)[0] == 0
    book.join("last")
    book.hand("last")
    with pytest.raises(Spent) as spent:
        book.lose("last")
    assert spent.value.index == 0


def test_getting_ready_has_its_tries_too() -> None:
    book = ledger(3, *"ab")
    assert book.hand("a") == 0
    book.lose("a", unready=True)  # which died over the sample that it held
    for _ in range(TRIES - 1):
        book.lose("one that never was ready", unready=True)
    book.lose("one that is gone with its node")
    with pytest.raises(Spent) as spent:
        book.lose("b", unready=True)
    assert spent.value.index is None


def test_one_that_only_waited_behind_a_fatal_sample_is_not_blamed() -> None:
    book = ledger(40, *"abcd")
    for name in "abcd":
        first, second = book.hand(name), book.hand(name)
        assert first is not None
        assert second is not None
        assert book.finish(name, first)
        assert book.lose(name) == [second]
    assert sorted({*book.finished, *book._waiting}) == list(range(40))


@pytest.mark.parametrize("seed", range(20))
def test_every_sample_once_whoever_dies(seed: int) -> None:
    """Actors answer, die and come late at random; nothing is lost or doubled."""
    chance = random.Random(seed)
    book, actors, running, kept, made = Ledger(30, tries=99), ["0", "1", "2"], {}, [], 3
    for actor in actors:
        book.join(actor)
        running[actor] = []
    late: list[tuple[str, int]] = []
    while not book.done:
        for actor in actors:
            while (index := book.hand(actor)) is not None:
                running[actor].append(index)
        assert all(len(held) <= 2 for held in running.values())
        actor = chance.choice(actors)
        if chance.random() < 0.15:
            late += [(actor, index) for index in running.pop(actor)]
            book.lose(actor)
            actors[actors.index(actor)] = new = str(made)
            made += 1
            book.join(new)
            running[new] = []
        elif chance.random() < 0.1 and late:
            ghost, index = late.pop()
            kept += [index] if book.finish(ghost, index) else []
        elif running[actor]:
            index = running[actor].pop(0)
            kept += [index] if book.finish(actor, index) else []
    assert sorted(kept) == list(range(30))


def test_actors_are_spread_over_the_nodes_that_hold_them() -> None:
    head = Node("h", "head", cpus=8, memory=16 * GIB)
    two = Node("b", "two", cpus=32, gpus=2, memory=64 * GIB, gpu_memory=24 * GIB)
    four = Node("a", "four", cpus=32, gpus=4, memory=64 * GIB, gpu_memory=80 * GIB)
    nodes = [head, two, four]
    assert spread(nodes, Need(1, gpus=1)) == ["a", "b", "a", "b", "a", "a"]
    assert spread(nodes[::-1], Need(1, gpus=1), 3) == ["a", "b", "a"]
    assert spread(nodes, Need(1, gpus=2)) == ["a", "b", "a"]
    assert spread(nodes, Need(1, gpus=1, gpu_memory=40 * GIB)) == ["a"] * 4
    assert spread(nodes, Need(1, gpus=2, gpu_memory=40 * GIB)) == ["a", "b", "a"]
    assert spread(nodes, Need(1, gpus=8)) == []
    assert spread([head], Need(2, memory=6 * GIB)) == ["h", "h"]


def test_a_dead_actors_place_is_taken_again_while_its_node_lives() -> None:
    places = ["a", "b", "a"]
    assert vacant(places, [], ["a", "b"]) == "a"
    assert vacant(places, ["a", "a"], ["a", "b"]) == "b"
    assert vacant(places, ["a", "a"], ["a"]) is None
    assert vacant(places, places, ["a", "b"]) is None


def test_an_actor_takes_the_cores_it_computes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ModelSpec("m", "factory", "m:build", options={"num_threads": 3}, memory=5 * GIB)
    assert needed(spec, "cpu") == Need(3, memory=5 * GIB)
    assert needed(spec, "cuda") == Need(1, gpus=1, gpu_memory=5 * GIB)
    wide = ModelSpec("m", "factory", "m:build", devices=4)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert (threads(wide), needed(wide, "cpu").cpus) == (2, 4)
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert threads(wide) is None
    assert needed(ModelSpec("m", "factory", "m:build"), "cpu").cpus >= 1
    assert str(needed(spec, "cuda")) == "1 core, 1 GPU, 5.0 GiB on its GPUs"


def test_auto_leaves_it_to_ray_where_to_look() -> None:
    Cluster("auto", Path(), Path())._reach()


def test_a_node_must_run_the_very_same_plugin() -> None:
    look = looking("cpu", 1)()
    check_version("here", look)
    assert look["quality"]["identity"]["device"] == "cpu"
    for change, words in (
        ({"version": "9.9"}, "node n2 has pytest-vdb 9.9, and this"),
        ({"code": "0" * 64}, "with other files, and this"),
        ({"version": "", "error": "No module named 'pytest_vdb'"}, r"no pytest-vdb \(No module"),
    ):
        with pytest.raises(BadSetting, match=words):
            check_version("n2", {**look, **change})
    assert len(code()) == 64


def test_only_what_lies_in_the_repository_travels(tmp_path: Path) -> None:
    here = [str(tmp_path), str(tmp_path / "src"), "", "/usr/lib/python3", str(tmp_path.parent)]
    remote = Cluster("ray://head:10001", tmp_path, tmp_path)
    assert remote.paths([*here, str(tmp_path / ".venv/lib/site-packages")]) == (".", "src")
    assert Cluster("local", tmp_path, tmp_path).paths(here) == tuple(here)


@pytest.mark.parametrize(
    "address", ["local", "auto", "ray://head:10001", "10.0.0.1:6379", "[::1]:1"]
)
def test_addresses_as_ray_users_write_them(address: str) -> None:
    assert read(address) == address


@pytest.mark.parametrize("address", ["", "loca", "ray://head", "http://head:1", "head:port"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(BadSetting, match="is no cluster; write local, auto"):
        read(address)


def test_a_cluster_that_nobody_runs_is_told_in_seconds(tmp_path: Path, free_port: int) -> None:
    if find_spec("ray") is None:
        pytest.skip("needs Ray: pip install pytest-vdb[ray]")
    with pytest.raises(InfraError, match=r"does not answer.*Connection refused"):
        _ = Cluster(f"ray://127.0.0.1:{free_port}", tmp_path, tmp_path).ray


def test_why_ray_does_not_connect_is_the_machines_or_the_users_fault() -> None:
    for address, error, kind, words in (
        ("local", RuntimeError("Failed to start GCS"), InfraError, "does not start: Failed to"),
        ("ray://h:1", ConnectionError("timeout"), InfraError, "token, set RAY_AUTH_MODE=token"),
        ("h:1", RuntimeError("Version mismatch"), BadSetting, "^--vdb-cluster=h:1: Version mis"),
    ):
        with pytest.raises(kind, match=words):
            raise Cluster(address, Path(), Path())._refusal(error)


def test_without_ray_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # find_spec finds none, as where it is missing
    with pytest.raises(BadSetting, match=r"pip install pytest-vdb\[ray\]"):
        _ = Cluster("local", tmp_path, tmp_path).ray


@pytest.fixture
def free_port() -> Any:
    """A port on which nobody listens."""
    import socket

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
