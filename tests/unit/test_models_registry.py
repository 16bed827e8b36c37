"""Which model a name means."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from pytest_vdb.errors import BadSetting, UnknownModel
from pytest_vdb.models.open import open_source
from pytest_vdb.models.registry import Registry, gather
from pytest_vdb.records import ModelSpec


def spec(name: str, location: str = "mine:build") -> ModelSpec:
    return ModelSpec(name=name, source="factory", location=location)


def test_the_catalog_comes_first_and_extra_models_after() -> None:
    registry = Registry([spec("mine")])
    assert registry.names() == ("tiny-wan", "tiny-ltx", "mine")
    assert registry.find("tiny-wan").location == "pytest_vdb.models.embedded:tiny_wan"
    assert registry.find("mine").location == "mine:build"


def test_a_factory_needs_no_registration_and_is_not_imported() -> None:
    found = Registry().find("no_such.package:build_it")
    assert (found.name, found.source, found.location) == (
        "no_such.package:build_it",
        "factory",
        "no_such.package:build_it",
    )
    assert found.slug == "no_such.package-build_it"


@pytest.mark.parametrize("name", ["tiny-wam", "owner/model", "a:b:c", ":f", "m:", "1m:f", ""])
def test_other_names_are_unknown(name: str) -> None:
    with pytest.raises(UnknownModel, match=r"module:function"):
        Registry().find(name)


def test_an_unknown_name_gets_the_nearest_ones() -> None:
    with pytest.raises(UnknownModel, match=r"did you mean 'tiny-wan'"):
        Registry().find("tiny-wam")


def test_a_name_taken_twice_names_both_places() -> None:
    with pytest.raises(BadSetting, match=r"embedded:tiny_wan.*theirs:build"):
        Registry([spec("tiny-wan", "theirs:build")])


def test_names_with_one_slug_collide() -> None:
    with pytest.raises(BadSetting, match=r"a:x.*b:x"):
        Registry([spec("org/model", "a:x"), spec("org-model", "b:x")])


def test_an_unknown_source_is_refused() -> None:
    with pytest.raises(BadSetting, match=r"'telepathy'.*factory, recorded"):
        open_source(ModelSpec(name="m", source="telepathy", location="x"))


def test_models_of_hooks_are_gathered_in_order() -> None:
    assert [s.name for s in gather([[spec("a")], (), (spec(n) for n in "bc")])] == ["a", "b", "c"]


@pytest.mark.parametrize("result", [spec("a"), None, 5, ["x"], "x", {"a": spec("a")}, [None]])
def test_a_hook_that_returns_anything_else_is_refused(result: object) -> None:
    with pytest.raises(BadSetting, match=r"pytest_vdb_models returned .*\[ModelSpec\(...\)\]"):
        gather([[spec("fine")], result])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": 5}, "name is no text"),
        ({"location": None}, "location is no text"),
        ({"source": ["factory"]}, "source is no text"),
        ({"call": None}, "call is no dict"),
        ({"options": "x"}, "options is no dict"),
        ({"name": " "}, "name is empty"),
        ({"name": "a\x1b[31m"}, "control characters"),
        ({"source": "factorie"}, "no source 'factorie'; did you mean 'factory'"),
    ],
)
def test_a_model_whose_fields_mean_nothing_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadSetting, match=message):
        gather([[replace(spec("a"), **fields)]])


def test_nothing_heavy_is_imported_before_a_model_is_opened() -> None:
    code = (
        "import sys, pytest_vdb.models.registry, pytest_vdb.models.recorded, "
        "pytest_vdb.models.comfyui, pytest_vdb.models.open\n"
        "assert pytest_vdb.models.registry.Registry().find('a:b')\n"
        "heavy = {'torch', 'numpy', 'diffusers', 'av', 'PIL', 'scipy'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
