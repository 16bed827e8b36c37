"""Components that a pipeline takes from another place than its own repository."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import torch

from pytest_vdb.errors import SourceError
from pytest_vdb.models.folder import check_weights, component_class
from pytest_vdb.models.load_options import PARTS
from pytest_vdb.records import Json, ModelSpec

BESIDE = {"image_encoder": "feature_extractor"}
"""What an image encoder cannot work without is taken from the same place where it lies there."""


def load_parts(spec: ModelSpec, options: Mapping[str, Json], dtype: torch.dtype) -> dict[str, Any]:
    """The components among ``options``, each from its hub id or folder, by name.

    A part lies in the subfolder of its name, or alone in its repository. Raises SourceError,
    PickleRefused, UnknownModel or InfraError.
    """
    parts: dict[str, Any] = {}
    for name in PARTS:
        if location := options.get(name):
            found = _folder(str(location), name, spec)
            parts[name] = _model(_inside(found, name), name, spec, dtype)
            beside = BESIDE.get(name, "")
            if beside and (found / beside).is_dir():
                parts[beside] = _processor(found / beside, beside, spec)
    return parts


def _folder(location: str, name: str, spec: ModelSpec) -> Path:
    from pytest_vdb.models.hub import fetch

    folder = Path(location).expanduser()
    if folder.is_dir():
        return folder
    places = [name, *([BESIDE[name]] if name in BESIDE else [])]
    # A part that lies alone has its files at the top.
    patterns = ["config.json", "diffusion_pytorch_model*", "model*.safetensors*"]
    patterns += [f"{place}/*" for place in places]

    def snapshot(repository: str, revision: str | None) -> str:
        return huggingface_hub.snapshot_download(
            repository, revision=revision, allow_patterns=patterns, ignore_patterns=["*.bin"]
        )

    return fetch(location, "", spec, ("config.json", f"{name}/config.json"), snapshot)


def _inside(folder: Path, name: str) -> Path:
    return folder / name if (folder / name).is_dir() else folder


def _model(folder: Path, name: str, spec: ModelSpec, dtype: torch.dtype) -> Any:
    from pytest_vdb.models.hub import quietly_loaded

    if missing := check_weights(folder, "", spec.name):
        raise SourceError(
            f"model {spec.name!r}: its {name} in {folder} is half-downloaded. Missing or cut "
            f"short: {', '.join(missing)}"
        )
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if "_class_name" in config:
        kind = component_class(name, "diffusers", str(config["_class_name"]), spec)
    else:
        named = config.get("architectures") or ["?"]
        kind = component_class(name, "transformers", str(named[0]), spec)
    return quietly_loaded(kind, folder, dtype, {})


def _processor(folder: Path, name: str, spec: ModelSpec) -> Any:
    path = folder / "preprocessor_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    named = config.get("image_processor_type") or config.get("feature_extractor_type") or "?"
    return component_class(name, "transformers", str(named), spec).from_pretrained(str(folder))
