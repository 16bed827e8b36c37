"""Finding the weights of metrics' networks, checking them, and saying what to fetch."""

from __future__ import annotations

import hashlib
import pickle
import typing
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pytest_vdb.errors import MissingWeights, WrongWeights
from pytest_vdb.metrics import weights
from pytest_vdb.metrics.registry import Metrics
from pytest_vdb.metrics.weights import Network, fill, find, is_here, read_state

STATE = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.zeros(2)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "one").mkdir()
    save_file(STATE, tmp_path / "one" / "one.safetensors")
    (tmp_path / "one" / "config.json").write_text("{}")
    return tmp_path


@pytest.fixture
def one(folder: Path) -> Network:
    sha256 = hashlib.sha256((folder / "one" / "one.safetensors").read_bytes()).hexdigest()
    files = ("one.safetensors", "config.json")
    return Network("one", files, read_state, "https://example.org/one", "MIT", sha256)


@pytest.fixture
def unreachable_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    for cached in (weights._hub_answers, weights._on_hub):
        cached.cache_clear()
    yield
    for cached in (weights._hub_answers, weights._on_hub):
        cached.cache_clear()


def test_a_folder_s_files_are_found_with_their_digest(one: Network, folder: Path) -> None:
    found = find(one, folder)
    assert found.path == folder / "one" / "one.safetensors"
    assert find(replace(one, sha256=one.sha256[:8]), folder) == found
    alone = replace(one, files=one.files[:1])
    assert find(alone, folder).sha256 == one.sha256
    (folder / "one" / "config.json").write_text('{"layers": 2}')
    assert find(one, folder).sha256 != found.sha256
    assert is_here(one, folder)
    assert not is_here(one)


def test_other_weights_are_refused(one: Network, folder: Path) -> None:
    save_file({"weight": torch.ones(2)}, folder / "one" / "one.safetensors")
    with pytest.raises(WrongWeights, match="is not the file that one is defined by"):
        find(one, folder)


def test_every_file_is_needed(one: Network, folder: Path) -> None:
    (folder / "one" / "config.json").unlink()
    with pytest.raises(MissingWeights) as caught:
        find(one, folder)
    assert "put one.safetensors, config.json (https://example.org/one) into DIR/one/" in str(
        caught.value
    )


def test_a_hub_that_cannot_be_reached_is_asked_once_and_named(
    one: Network, unreachable_hub: None
) -> None:
    with pytest.raises(MissingWeights, match="--vdb-metric-weights=DIR"):
        find(replace(one, hub="org/one"))


def test_an_installed_package_s_file_is_found() -> None:
    (spec,) = (m for m in Metrics() if m.name == "subject_consistency[efficientnet_lite0]")
    (network,) = spec.networks
    if not is_here(network):
        pytest.skip(network.install)
    digests = spec.digests()
    assert digests == f"efficientnet_lite0 {network.sha256}"
    assert spec.provenance("cpu", digests).weights == digests


def test_torch_and_safetensors_files_are_read_and_no_code_is_run(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "one.pth")
    save_file(STATE, tmp_path / "one.safetensors")
    for name in ("one.pth", "one.safetensors"):
        assert torch.equal(read_state(tmp_path / name)["weight"], STATE["weight"])
    named = typing.OrderedDict()  # as in amt-s.pth: it keeps its name
    named["weight"] = STATE["weight"]
    torch.save(named, tmp_path / "named.pth")
    assert torch.equal(read_state(tmp_path / "named.pth")["weight"], STATE["weight"])
    ran = tmp_path / "ran"
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil(str(ran))))
    with pytest.raises(WrongWeights, match=r"evil\.pth holds no weights"):
        read_state(tmp_path / "evil.pth")
    assert not ran.exists()


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (open, (self.path, "w"))


@pytest.mark.parametrize("damage", [b"", b"no weights at all"])
def test_damaged_files_are_named(tmp_path: Path, damage: bytes) -> None:
    for name in ("bad.pth", "bad.safetensors"):
        (tmp_path / name).write_bytes(damage)
        with pytest.raises(WrongWeights, match=rf"{name} holds no weights"):
            read_state(tmp_path / name)


def test_weights_of_another_network_are_named() -> None:
    layer = torch.nn.Linear(3, 2)
    fill(layer, STATE, "one.pth")
    with pytest.raises(WrongWeights, match=r"one\.pth does not hold this network's weights"):
        fill(layer, {"weight": STATE["weight"]}, "one.pth")


def test_every_network_says_where_its_weights_are_and_under_what_licence() -> None:
    networks = {network for spec in Metrics() for network in spec.networks}
    assert len({network.name for network in networks}) == len(networks)
    for network in networks:
        assert "https://" in network.url
        assert network.licence
        assert network.files
        assert network.package == "" or network.install
