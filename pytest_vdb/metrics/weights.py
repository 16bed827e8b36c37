"""Where the weights of metrics' networks are, and whether they are the right ones.

Looked for in this order: the folder of ``--vdb-metric-weights``, an installed package, the model
hub and its cache. Files are safetensors, or ``.pth`` files read with ``weights_only=True``; no
pickled code is ever run. Light: torch is imported when a network is loaded.
"""

from __future__ import annotations

import functools
import hashlib
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_vdb.errors import MissingWeights, WrongWeights
from pytest_vdb.names import file_sha256

ANNOTATED: tuple[Any, str] = (typing.OrderedDict, "typing.OrderedDict")
"""An OrderedDict that was made by its name in `typing`, as in AMT's file, says so in an attribute.
It is a name and no code; torch's weights_only knows the one in `collections` alone."""


@dataclass(frozen=True)
class Network:
    """A pretrained network: where its files come from, and how they become a module.

    ``files`` are their names; the first one is what ``sha256`` is about: the whole digest, or its
    leading digits where the publisher gives no more, or nothing. They are looked for

    - in the folder ``name`` of ``--vdb-metric-weights``,
    - where ``package`` is installed, below ``inside`` (``install`` says how to get it),
    - in the hub's repository ``hub``.

    ``url`` is where a person finds them. ``load`` gets the path of the first file and gives a
    `torch.nn.Module` in float32 on the CPU, in evaluation mode.
    """

    name: str
    files: tuple[str, ...]
    load: Callable[[Path], Any]
    url: str
    licence: str
    sha256: str = ""
    hub: str = ""
    package: str = ""
    inside: str = ""
    install: str = ""


@dataclass(frozen=True)
class Found:
    """The first file of a network, and the digest that a number's provenance names.

    ``sha256`` is that of the file; of several files, of a line for each: its name and its sha256.
    """

    path: Path
    sha256: str


def find(network: Network, folder: Path | None = None) -> Found:
    """The files of ``network``. ``folder`` is ``--vdb-metric-weights``.

    Raises MissingWeights, which says what to fetch and where to put it, and WrongWeights for a
    file of another digest.
    """
    path = (
        _in_folder(network, folder)
        or _in_package(network)
        or _in_cache(network)
        or _on_hub(network)
    )
    if path is None:
        raise MissingWeights(f"{network.name}: its weights are not here; {how_to_get(network)}")
    digest = _sha256(path, path.stat().st_mtime_ns)
    if not digest.startswith(network.sha256):
        raise WrongWeights(
            f"{path} is not the file that {network.name} is defined by: its sha256 is {digest} and "
            f"begins with {network.sha256} in the catalog; {how_to_get(network)}"
        )
    rest = [path.with_name(name) for name in network.files[1:]]
    if rest:
        lines = [f"{file.name} {_sha256(file, file.stat().st_mtime_ns)}\n" for file in rest]
        whole = "".join([f"{path.name} {digest}\n", *lines])
        digest = hashlib.sha256(whole.encode()).hexdigest()
    return Found(path, digest)


def is_here(network: Network, folder: Path | None = None) -> bool:
    """Whether the files are on this machine; nothing is fetched or read."""
    return bool(_in_folder(network, folder) or _in_package(network) or _in_cache(network))


def how_to_get(network: Network) -> str:
    """A sentence for a person whose machine lacks the files."""
    names = ", ".join(network.files)
    install = f"{network.install}, or " if network.install else ""
    return (
        f"{install}put {names} ({network.url}) into DIR/{network.name}/ and give "
        "--vdb-metric-weights=DIR"
    )


def _in_folder(network: Network, folder: Path | None) -> Path | None:
    if folder is None:
        return None
    paths = [folder / network.name / name for name in network.files]
    return paths[0] if all(path.is_file() for path in paths) else None


def _in_package(network: Network) -> Path | None:
    from importlib.metadata import PackageNotFoundError, distribution

    if not network.package:
        return None
    try:
        installed = distribution(network.package)
    except PackageNotFoundError:
        return None
    paths = [Path(str(installed.locate_file(network.inside))) / name for name in network.files]
    return paths[0] if all(path.is_file() for path in paths) else None


def _in_cache(network: Network) -> Path | None:
    if not network.hub:
        return None
    from huggingface_hub import try_to_load_from_cache

    paths = [try_to_load_from_cache(network.hub, name) for name in network.files]
    return Path(str(paths[0])) if all(isinstance(path, str) for path in paths) else None


@functools.cache
def _on_hub(network: Network) -> Path | None:
    if not network.hub or not _hub_answers():
        return None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        paths = [Path(hf_hub_download(network.hub, name)) for name in network.files]
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError):
        return None  # offline, or not what it was: how_to_get says where to find it
    return paths[0]


@functools.cache
def _hub_answers() -> bool:
    """Whether the hub's machine takes connections: its library would try for half a minute."""
    import socket
    from urllib.parse import urlsplit

    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    url = urlsplit(constants.ENDPOINT)
    try:
        socket.create_connection((url.hostname, url.port or 443), timeout=5).close()
    except OSError:
        return False
    return True


@functools.cache
def _sha256(path: Path, changed: int) -> str:
    return file_sha256(path)


def read_state(path: Path) -> dict[str, Any]:
    """The tensors of a safetensors file, or of one that torch saved; never runs pickled code.

    Raises WrongWeights for a file that is neither.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        import torch

        with torch.serialization.safe_globals([ANNOTATED]):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # safetensors and torch raise many kinds
        raise WrongWeights(f"{path} holds no weights: {error}") from None
    if not isinstance(state, dict):
        raise WrongWeights(f"{path} holds a {type(state).__name__} and no weights by name")
    return state


def fill(module: Any, state: dict[str, Any], where: object) -> None:
    """Load ``state`` strictly. Raises WrongWeights, which names what is missing or too much."""
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise WrongWeights(f"{where} does not hold this network's weights: {error}") from None
