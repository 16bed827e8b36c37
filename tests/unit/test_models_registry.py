"""Which model a name means."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_vdb.errors import BadSetting, UnknownModel
from pytest_vdb.models.catalog import CATALOG
from pytest_vdb.models.open import open_source
from pytest_vdb.models.registry import Registry, gather
from pytest_vdb.records import ModelSpec


def spec(name: str, location: str = "mine:build") -> ModelSpec:
    return ModelSpec(name=name, source="factory", location=location)


def test_the_catalog_comes_first_and_extra_models_after() -> None:
    registry = Registry([spec("mine")])
    assert registry.names() == (*(entry.name for entry in CATALOG), "mine")
    assert registry.names()[0] == "shapes"
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


def saved(folder: Path) -> Path:
    """A folder that looks like a saved pipeline; the registry reads no more than this."""
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("name", "revision"),
    [("org/name", ""), ("org/name@v1.0", "v1.0"), ("org/name@refs/pr/3", "refs/pr/3")],
)
def test_a_hub_id_is_a_repository_whatever_its_revision(name: str, revision: str) -> None:
    found = Registry().find(name)
    assert found == ModelSpec("org/name", "diffusers", "org/name", revision)
    assert (found.slug, found.dtype, found.call) == ("org-name", "float32", {})


def test_a_repository_of_the_catalog_keeps_the_entrys_name_and_defaults() -> None:
    cogvideox = Registry().find("cogvideox")
    assert Registry().find("THUDM/CogVideoX-2b") == cogvideox
    assert Registry().find("thudm/cogvideox-2b@abc") == replace(cogvideox, revision="abc")
    pinned = Registry().find("modelscope")
    assert len(pinned.revision) == 40
    assert Registry().find(pinned.location).revision == pinned.revision


def test_a_repository_of_two_entries_is_the_one_that_is_nothing_else() -> None:
    assert Registry().find("hunyuanvideo-community/HunyuanVideo").name == "hunyuanvideo"


def test_a_hooks_repository_keeps_the_hooks_name() -> None:
    ours = ModelSpec("ours", "diffusers", "org/name", dtype="bfloat16")
    assert Registry([ours]).find("org/name") == ours


@pytest.mark.parametrize(
    "name", ["./sub/my-wan", "{root}/sub/my-wan", "sub/my-wan", "sub/../sub/my-wan/"]
)
def test_a_folder_goes_by_its_own_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(tmp_path / "sub" / "my-wan")
    monkeypatch.chdir(tmp_path)
    found = Registry().find(name.format(root=tmp_path))
    assert found == ModelSpec("my-wan", "diffusers", str(folder))


def test_a_folder_in_the_home_and_the_one_where_we_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(tmp_path / "home" / "m")
    monkeypatch.setenv("HOME", str(folder.parent))
    assert Registry().find("~/m").location == str(folder)
    monkeypatch.chdir(folder)
    assert Registry().find(".").name == "m"


def test_a_folder_or_server_does_not_take_a_known_models_baselines(tmp_path: Path) -> None:
    folder = saved(tmp_path / "cogvideox")
    assert Registry().find(str(folder)).name == "local-cogvideox"
    assert Registry().find("http://cogvideox").name == "server-cogvideox"


def test_what_is_no_saved_pipeline_is_told_from_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match=r"holds no model_index\.json.*--vdb-videos"):
        Registry().find(str(tmp_path))
    for gone in (str(tmp_path / "gone"), "./gone/away", "~no-such-user/m"):
        with pytest.raises(UnknownModel, match="is no folder"):
            Registry().find(gone)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://localhost:8000", "localhost:8000"),
        ("https://host/v1/", "host/v1"),
    ],
)
def test_a_url_is_a_server(url: str, name: str) -> None:
    found = Registry().find(url)
    assert (found.name, found.source, found.location) == (name, "endpoint", url)


@pytest.mark.parametrize("url", ["http://user:secret@host:80/v1", "http://host/v1?key=secret"])
def test_a_url_that_holds_a_secret_is_refused_without_telling_it(url: str) -> None:
    with pytest.raises(UnknownModel, match="the URL of host holds a password or a query") as caught:
        Registry().find(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://", "https:///v1", "http://[::1", "http://:80"])
def test_a_url_without_a_host_is_refused(url: str) -> None:
    with pytest.raises(UnknownModel, match="names no host"):
        Registry().find(url)


@pytest.mark.parametrize(
    "name",
    [
        *("tiny-wam", "a:b:c", ":f", "m:", "1m:f", "", "nonsense"),
        *("a/b/c", "-a/b", "a/-b", "org/name@", "org/na me", "org/name@v 1", "a/b\x1b[31m"),
        *("ftp://host", "http://ho st", "http://h\x1b[31m"),
    ],
)
def test_other_names_are_unknown(name: str) -> None:
    with pytest.raises(UnknownModel, match=r"hub id \(org/name\).*module:function") as error:
        Registry().find(name)
    assert "\x1b" not in str(error.value)


def test_an_unknown_name_gets_the_nearest_ones_or_the_command_that_lists_them() -> None:
    with pytest.raises(UnknownModel, match=r"did you mean 'tiny-wan'"):
        Registry().find("tiny-wam")
    with pytest.raises(UnknownModel, match=r"did you mean 'cogvideox'"):
        Registry().find("cogvideo")
    with pytest.raises(UnknownModel, match=r"'zzz': give a name that `vdb models` lists"):
        Registry().find("zzz")


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
        ({"weights": "randm"}, "no weights 'randm'; did you mean 'random'"),
        ({"task": "text2video"}, "no task 'text2video'; did you mean 'text-to-video'"),
        ({"pipeline": None}, "pipeline is no text"),
        ({"output": 1}, "output is no text"),
        ({"licence": None}, "licence is no text"),
        ({"sha256": None}, "sha256 is no text"),
        ({"sha256": "abc", "source": "diffusers"}, "sha256 is no 64 hex digits"),
        ({"sha256": "a" * 64}, "sha256 is no 64 hex digits of .* a diffusers folder"),
        ({"twin": None}, "twin is no text"),
        ({"audio": "yes"}, "audio is neither True nor False"),
        ({"devices": 0}, "devices is no whole number from 1"),
        ({"devices": True}, "devices is no whole number from 1"),
        ({"memory": 1.5}, "memory is no whole number of bytes"),
        ({"memory": 0}, "memory is no whole number of bytes"),
    ],
)
def test_a_model_whose_fields_mean_nothing_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadSetting, match=message):
        gather([[replace(spec("a"), **fields)]])


def test_nothing_heavy_is_imported_before_a_model_is_opened() -> None:
    code = (
        "import sys, pytest_vdb.models.registry, pytest_vdb.models.recorded, "
        "pytest_vdb.models.comfyui, pytest_vdb.models.open\n"
        "find = pytest_vdb.models.registry.Registry().find\n"
        "assert find('a:b') and find('org/name') and find('http://host') and find('cogvideox')\n"
        "heavy = {'torch', 'numpy', 'diffusers', 'av', 'PIL', 'scipy'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
