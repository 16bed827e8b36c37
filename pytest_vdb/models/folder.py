"""Is a pipeline's folder complete, and free of code and pickles? Nothing of it is loaded here."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from pytest_vdb.errors import PickleRefused, SourceError
from pytest_vdb.models.catalog import SHAPES
from pytest_vdb.models.families import FAMILIES
from pytest_vdb.names import file_sha256
from pytest_vdb.records import Json, ModelSpec

INDEX = "model_index.json"
STEMS = ("diffusion_pytorch_model", "model")  # of diffusers and of transformers
PICKLES = ("*.bin", "*.ckpt", "*.pt", "*.pth")
LIBRARIES = ("diffusers", "transformers")


def read_index(folder: Path, spec: ModelSpec) -> dict[str, Json]:
    """``model_index.json``: what the pipeline is made of. Raises SourceError."""
    path = folder / INDEX
    if not path.is_file():
        held = sorted(p.name for p in folder.iterdir())[:8]
        raise SourceError(
            f"model {spec.name!r}: {folder} has no {INDEX} (it holds {', '.join(held) or 'nothing'}"
            "); give the folder that save_pretrained wrote or `hf download` filled, or load a "
            "single file in a function of your own (module:function)"
        )
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as exc:
        raise SourceError(
            f"model {spec.name!r}: {path} is no JSON ({exc}), so the folder is half-downloaded; "
            + fetch_again(folder, spec)
        ) from exc
    if not isinstance(index, dict) or "_class_name" not in index:
        raise SourceError(f"model {spec.name!r}: {path} names no pipeline (_class_name)")
    return index


def components(index: dict[str, Json]) -> dict[str, tuple[str, str]]:
    """Library and class of each component that is not left out."""
    pairs = {k: v for k, v in index.items() if not k.startswith("_") and isinstance(v, list)}
    return {k: (str(v[0]), str(v[1])) for k, v in pairs.items() if len(v) == 2 and v[0]}


def component_class(name: str, library: str, kind: str, spec: ModelSpec) -> Any:
    """The class of one component, of diffusers or transformers alone. Raises SourceError."""
    import diffusers.pipelines as pipelines

    if library in LIBRARIES:
        module: Any = importlib.import_module(library)
    elif not (module := getattr(pipelines, library, None)):
        raise SourceError(
            f"model {spec.name!r}: its {name} is {library}.{kind}, code that comes with the model. "
            "Such code is not run; load it in a function of your own (module:function)"
        )
    if (found := getattr(module, kind, None) or _renamed(kind)) is None:
        raise SourceError(
            f"model {spec.name!r}: its {name} is a {kind}, which this {module.__name__} does not "
            f"have; pip install -U {module.__name__.partition('.')[0]}"
        )
    return found


def _renamed(kind: str) -> Any:
    """The class of transformers that took the place of ``kind``, where diffusers knows one."""
    table = importlib.import_module("diffusers.utils.deprecation_utils")
    remap = getattr(table, "_maybe_remap_transformers_class", None)  # of newer releases
    name = remap(kind) if remap else None
    return getattr(importlib.import_module("transformers"), name, None) if name else None


def refuse_code(index: dict[str, Json], spec: ModelSpec) -> None:
    """Raise SourceError for a pipeline or a component that is the repository's own code."""
    if not isinstance(index["_class_name"], str):
        raise SourceError(
            f"model {spec.name!r}: its pipeline is {index['_class_name']}, code that comes with "
            "the model. Such code is not run; load it in a function of your own (module:function)"
        )
    for name, (library, kind) in components(index).items():
        component_class(name, library, kind, spec)


def check_folder(
    folder: Path, spec: ModelSpec, variant: str = "", given: Iterable[str] = ()
) -> None:
    """Raise unless ``folder`` can be loaded: every component, all weights, whole files.

    ``variant`` are the weight files to take where there are any, ``given`` the components that
    come from elsewhere. Raises SourceError, which names the files and the command that fetches
    them again, or PickleRefused.
    """
    index = read_index(folder, spec)
    refuse_code(index, spec)
    missing: list[str] = []
    for name, (library, kind) in components(index).items():
        if name in given:
            continue
        place = folder / name
        found = component_class(name, library, kind, spec)
        if not place.is_dir() or not any(place.iterdir()):
            missing.append(f"{name}/ (nothing of it is there)")
        elif isinstance(found, type) and issubclass(found, torch.nn.Module):
            missing += (f"{name}/{file}" for file in check_weights(place, variant, spec.name))
    if missing:
        raise SourceError(
            f"model {spec.name!r}: {folder} is half-downloaded. Missing or cut short: "
            f"{', '.join(missing)}; {fetch_again(folder, spec)}"
        )


def check_digest(folder: Path, spec: ModelSpec) -> None:
    """Raise SourceError where ``folder`` holds other weights than those that ``spec`` names."""
    if spec.sha256 and (found := digest(folder)) != spec.sha256:
        raise SourceError(
            f"model {spec.name!r}: {folder} holds other weights than it should: their sha256 is "
            f"{found}, not {spec.sha256}; {fetch_again(folder, spec)}"
        )


def digest(folder: Path) -> str:
    """What the weights of a pipeline's folder are known by: 64 hex digits.

    sha256 over a line for each safetensors file of a component, in order: its path below
    ``folder``, and the sha256 of its bytes. Configurations are not part of it.
    """
    whole = hashlib.sha256()
    for path in sorted(folder.glob("*/*.safetensors")):
        whole.update(f"{path.parent.name}/{path.name} {file_sha256(path)}\n".encode())
    return whole.hexdigest()


def check_weights(folder: Path, variant: str, model: str) -> list[str]:
    """What is missing of one model's ``config.json`` and safetensors. Raises PickleRefused."""
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    if files := _weight_files(folder, variant):
        return missing + [text for name in files if (text := _cut_short(folder / name))]
    pickles = sorted(p.name for pattern in PICKLES for p in folder.glob(pattern))
    if pickles:
        raise PickleRefused(
            f"model {model!r}: {folder} has its weights as pickles only ({', '.join(pickles)}), "
            "and a pickle can run any code. Convert it once, on a machine where that is no harm: "
            "load it there with from_pretrained(..., use_safetensors=False), then "
            "save_pretrained(FOLDER, safe_serialization=True)"
        )
    variants = sorted({p.name.split(".")[1] for p in folder.glob("*.*.safetensors")})
    hint = f" (there is the variant {variants[0]}: --vdb-set variant=...)" if variants else ""
    return [*missing, f"{STEMS[0]}.safetensors or {STEMS[1]}.safetensors{hint}"]


def _weight_files(folder: Path, variant: str) -> list[str]:
    """The safetensors that a load would read: one file, or the shards that an index lists."""
    for middle in ([f".{variant}"] if variant else []) + [""]:
        for stem in STEMS:
            index = folder / f"{stem}.safetensors.index{middle}.json"
            if index.is_file():
                return sorted({*_shards(index)})
            if (folder / f"{stem}{middle}.safetensors").is_file():
                return [f"{stem}{middle}.safetensors"]
    return []


def _shards(index: Path) -> Iterator[str]:
    try:
        yield from map(str, json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError):
        yield index.name  # what cannot be read is itself cut short


def _cut_short(path: Path) -> str:
    """The file's name and what is wrong with its length, or an empty string.

    A safetensors file is 8 bytes with the header's length N (little endian), N bytes of JSON, and
    the tensors, whose ``data_offsets`` count from there. Nothing else of it is read.
    """
    if not path.is_file():
        return path.name
    if path.suffix != ".safetensors":
        return f"{path.name} (no list of shards in it)"
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if 8 + length <= size else {}
        ends = [v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"]
    except (ValueError, TypeError, KeyError, AttributeError):
        return f"{path.name} (its header cannot be read)"
    whole = 8 + length + max(ends, default=0)
    return "" if header and size >= whole else f"{path.name} ({size} of at least {whole} bytes)"


def fetch_command(location: str, revision: str = "", folder: Path | None = None) -> str:
    """The command line that fetches a repository without its pickles."""
    words = ["hf download", location]
    words += [f"--revision {revision}"] if revision else []
    words += [f'--exclude "{pattern}"' for pattern in PICKLES]
    words += [f"--local-dir {folder}"] if folder else []
    return " ".join(words)


def fetch_again(folder: Path, spec: ModelSpec) -> str:
    """What to type where ``folder`` is not complete."""
    if spec.location == SHAPES.location:
        return (
            "it comes with pytest-vdb: reinstall that (pip install --force-reinstall --no-deps), "
            f"or in a clone: git checkout -- {SHAPES.location}"
        )
    if not Path(spec.location).expanduser().is_dir():
        return f"fetch the rest with: {fetch_command(spec.location, spec.revision)}"
    places = (family.location for family in FAMILIES)
    same = (place for place in places if place.rpartition("/")[2] == folder.name)
    return f"fetch it again with: {fetch_command(next(same, 'ORG/NAME'), '', folder)}"
