"""The pipeline cache: one load each, the least recently used goes, what is held stays."""

from dataclasses import dataclass, field

import pytest

from pytest_vdb.errors import OutOfMemory, PipelinesHeld
from pytest_vdb.models.cache import PipelineCache, total_memory

KB = 1000


@dataclass(eq=False)
class Weights:
    """A source that holds ``nbytes`` and notes when it is closed; it generates nothing."""

    nbytes: int
    provides: frozenset[str] = frozenset()
    closed: bool = field(default=False)

    def generate(self, prompt, seed, call):
        raise AssertionError("nothing is generated here")

    def close(self):
        self.closed = True


class Shelf:
    """A cache and what was loaded into it by name."""

    def __init__(self, budget: int) -> None:
        self.cache = PipelineCache(budget)
        self.made: dict[str, Weights] = {}

    def get(self, name: str, size: int = 4 * KB, need: int | None = None) -> Weights:
        def load():
            self.made[name] = Weights(size)
            return self.made[name], 1.5

        source = self.cache.get(name, "cpu", load, need).source
        assert isinstance(source, Weights)
        return source

    @property
    def open(self) -> list[str]:
        return [name for name, weights in self.made.items() if not weights.closed]


def test_a_second_use_loads_nothing():
    shelf = Shelf(10 * KB)
    assert shelf.get("a") is shelf.get("a")
    assert shelf.cache.loads == 1


def test_the_least_recently_used_goes_first():
    shelf = Shelf(10 * KB)
    for name in ("a", "b", "a", "c"):
        shelf.get(name)
    assert shelf.open == ["a", "c"]


def test_what_is_known_of_a_models_size_makes_room_before_its_load():
    shelf = Shelf(10 * KB)
    shelf.get("a")
    seen = []

    def load():
        seen.extend(shelf.open)
        return Weights(9 * KB), 1.0

    shelf.cache.get("b", "cpu", load, need=9 * KB)
    assert seen == []


def test_a_model_that_came_back_makes_room_by_its_measured_size():
    shelf = Shelf(10 * KB)
    shelf.get("big", 9 * KB)
    shelf.get("a")
    assert shelf.open == ["a"]
    shelf.get("big", 9 * KB)
    assert shelf.open == ["big"]


def test_one_model_larger_than_the_budget_is_loaded_all_the_same():
    shelf = Shelf(10 * KB)
    shelf.get("a")
    shelf.get("huge", 50 * KB)
    assert shelf.open == ["huge"]


def test_a_leased_one_stays_and_its_holder_is_named():
    shelf = Shelf(10 * KB)
    shelf.get("a")
    with shelf.cache.lease("a", "test_x.py::test_a"):
        shelf.get("b")
        with pytest.raises(PipelinesHeld, match=r"test_x\.py::test_a still holds"):
            shelf.get("c", 8 * KB)
        assert shelf.open == ["a"]  # what did not fit was closed again
    shelf.get("c", 8 * KB)
    assert shelf.open == ["c"]


def test_a_load_without_memory_gets_what_idle_ones_took():
    shelf = Shelf(100 * KB)
    shelf.get("a")

    def load():
        if shelf.open:
            raise OutOfMemory("no")
        return Weights(KB), 1.0

    assert shelf.cache.get("b", "cpu", load, None).source.nbytes == KB


def test_a_load_that_fails_alone_fails():
    shelf = Shelf(100 * KB)

    def load():
        raise OutOfMemory("no")

    with pytest.raises(OutOfMemory):
        shelf.cache.get("a", "cpu", load, None)
    assert shelf.cache.loads == 0


def test_clear_closes_everything():
    shelf = Shelf(100 * KB)
    shelf.get("a")
    shelf.get("b")
    shelf.cache.clear()
    assert shelf.open == []


def test_a_cpus_memory_is_what_is_available():
    assert 2**28 < total_memory("cpu") < 2**48
