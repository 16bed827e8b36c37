"""Stored seconds: pytest's cache, or a file that several machines share."""

import json

import pytest

from pytest_vdb.errors import BadSetting
from pytest_vdb.parallel.durations import KEY, Durations


@pytest.fixture
def config(pytester):
    return lambda *args: pytester.parseconfigure(*args)


def test_nothing_is_known_at_first(config):
    stored = Durations.load(config())
    assert stored.of("a.py::test") is None
    assert stored.load_of("group") is None


def test_the_cache_keeps_them_from_run_to_run(config):
    stored = Durations.load(config())
    stored.add("a.py::test", 12.0, "group", 10.0)
    stored.add("a.py::other", 3.0, "group", 0.0)
    stored.save()
    again = Durations.load(config())
    assert again.of("a.py::test") == 2.0
    assert again.of("a.py::other") == 3.0
    assert again.load_of("group") == 10.0


def test_without_a_cache_nothing_is_kept_and_nothing_fails(config):
    stored = Durations.load(config("-p", "no:cacheprovider"))
    stored.add("a.py::test", 1.0)
    stored.save()
    assert Durations.load(config("-p", "no:cacheprovider")).of("a.py::test") is None


def test_a_broken_cache_is_an_empty_one(config):
    for broken in ({"schema": 9}, {"schema": 1, "tests": {"a": -1}, "loads": {}}, [1]):
        config().cache.set(KEY, broken)
        assert Durations.load(config()).tests == {}


def test_a_file_takes_the_place_of_the_cache(config, pytester):
    stored = Durations.load(config("--vdb-durations=seconds.json"))
    stored.add("a.py::test", 1.5)
    stored.save()
    written = (pytester.path / "seconds.json").read_text()
    assert json.loads(written) == {"schema": 1, "tests": {"a.py::test": 1.5}, "loads": {}}
    assert Durations.load(config("--vdb-durations=seconds.json")).of("a.py::test") == 1.5
    assert Durations.load(config()).of("a.py::test") is None


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"schema": 2}', '{"schema": 1, "tests": {"a": NaN}, "loads": {}}'],
    ids=["torn", "list", "schema", "nan"],
)
def test_another_file_is_refused_by_name(config, pytester, text):
    (pytester.path / "seconds.json").write_text(text)
    with pytest.raises(BadSetting, match=r"--vdb-durations: .*seconds\.json is no file"):
        Durations.load(config("--vdb-durations=seconds.json"))
