"""The real architecture at full size with seeded random weights: nothing to download.

Latency, memory and energy of a diffusion transformer do not depend on what its weights say, so
they can be gated without them; quality cannot, and is not measured. Configurations come from a
folder, from the ones that ship here, or from the hub's cache.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pytest_vdb.errors import SourceError
from pytest_vdb.models.folder import component_class, components, read_index, refuse_code
from pytest_vdb.records import Json, ModelSpec

CONFIGS = Path(__file__).with_name("configs")


def shipped() -> dict[str, Path]:
    """The configurations that ship with the package: the file by the hub id that it is of."""
    files = {f: json.loads(f.read_text(encoding="utf-8")) for f in sorted(CONFIGS.glob("*.json"))}
    return {repository: f for f, read in files.items() for repository in read["repositories"]}


def configuration(spec: ModelSpec) -> dict[str, Json]:
    """``pipeline``, ``arguments`` and ``components`` (library, class, config) of ``spec``.

    Of the folder ``spec.location``, else shipped, else of the hub's cache; ``folder`` is set where
    it came from one. Raises SourceError where there is none.
    """
    from pytest_vdb.models.hub import cached_folder

    folder = Path(spec.location).expanduser()
    if folder.is_dir():
        return _of_folder(folder, spec)
    known = shipped()
    if path := known.get(spec.location):
        read = json.loads(path.read_text(encoding="utf-8"))
        if spec.pipeline in ("", read["pipeline"]):  # not for another pipeline's parts
            return dict(read)
    if found := cached_folder(spec.location, spec.revision, "model_index.json"):
        return _of_folder(found, spec)
    raise SourceError(
        f"model {spec.name!r}: there is no configuration of {spec.location} for random weights. "
        f"They ship for {', '.join(known)}; else fetch its configuration files, which are small: "
        f'hf download {spec.location} --include "*.json" "*.txt" "*.model" (with --local-dir '
        "FOLDER, give that folder as the model)"
    )


def _of_folder(folder: Path, spec: ModelSpec) -> dict[str, Json]:
    """The configurations in a pipeline's folder; its weights need not be there."""
    index = read_index(folder, spec)
    refuse_code(index, spec)
    named = {}
    for name, (library, kind) in components(index).items():
        path = folder / name / "config.json"
        read = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        named[name] = {"library": library, "class": kind, "config": read}
    arguments = {
        key: value
        for key, value in index.items()
        if not key.startswith("_") and not isinstance(value, list)
    }
    return {
        "pipeline": index["_class_name"],
        "arguments": arguments,
        "components": named,
        "folder": str(folder),
    }


def build(spec: ModelSpec, device: str, dtype: torch.dtype, seed: int = 0) -> Any:
    """The pipeline of ``spec`` with random weights, made on ``device`` in ``dtype``.

    Nothing is made in float32 first; layers that a pretrained load keeps in float32 are so here.
    Raises SourceError without a configuration, or for one that this diffusers cannot build.
    """
    return fill(assemble(configuration(spec), spec, device, dtype), seed)


def assemble(found: dict[str, Json], spec: ModelSpec, device: str, dtype: torch.dtype) -> Any:
    """The pipeline of a `configuration`; its weights are not set yet. Raises SourceError."""
    from pytest_vdb.models.hub import pipeline_class

    made = {
        name: component(name, entry, spec, device, dtype, found.get("folder"))
        for name, entry in found["components"].items()
    }
    kind = pipeline_class(replace(spec, pipeline=spec.pipeline or found["pipeline"]))
    try:
        return kind(**made, **found["arguments"])
    except TypeError as exc:
        raise SourceError(f"model {spec.name!r}: {kind.__name__} says {exc}") from exc


def component(
    name: str,
    entry: dict[str, Json],
    spec: ModelSpec,
    device: str,
    dtype: torch.dtype,
    folder: str | None = None,
) -> Any:
    """One component from its library, class and configuration; a model's weights are not set yet.

    What has no weights is read from ``folder`` where there is one. A tokenizer without files
    becomes one that works on bytes: prompts are padded to the same length, so shapes are real.
    Raises SourceError.
    """
    kind = component_class(name, entry["library"], entry["class"], spec)
    if issubclass(kind, torch.nn.Module):
        with _made_as(device, dtype):
            module = _model(kind, entry["config"])
        return keep_float32(module.eval(), dtype)
    if folder is not None:
        return kind.from_pretrained(str(Path(folder) / name))
    if "Tokenizer" in entry["class"]:
        from transformers import ByT5Tokenizer

        return ByT5Tokenizer(**entry["config"])
    return kind(**entry["config"])


def _model(kind: Any, config: dict[str, Json]) -> Any:
    """A model of diffusers or transformers from its configuration."""
    if getattr(kind, "config_class", None) is not None:  # of transformers
        return kind(kind.config_class.from_dict(dict(config)))
    return kind.from_config(dict(config))


@contextmanager
def _made_as(device: str, dtype: torch.dtype) -> Iterator[None]:
    """Tensors are made on ``device`` in ``dtype``, and random ones are the same every time.

    Not on the meta device: tables that a constructor computes (of rotary embeddings) are no
    parameters, and would be lost.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.random.fork_rng(), torch.device(device):
            torch.manual_seed(0)
            yield
    finally:
        torch.set_default_dtype(before)


def keep_float32(module: Any, dtype: torch.dtype) -> Any:
    """Give ``module`` the float32 layers that its library keeps when it loads half precision.

    diffusers keeps those of ``_keep_in_fp32_modules`` in float16 and bfloat16; transformers those
    in float16, and those of ``_keep_in_fp32_modules_strict`` in both.
    """
    if dtype not in (torch.float16, torch.bfloat16):
        return module
    names = set(getattr(module, "_keep_in_fp32_modules_strict", None) or ())
    if dtype is torch.float16 or type(module).__module__.startswith("diffusers"):
        names |= set(getattr(module, "_keep_in_fp32_modules", None) or ())
    for key, parameter in module.named_parameters():
        if names & set(key.split(".")):
            parameter.data = parameter.data.float()
    return module


def fill(pipeline: Any, seed: int = 0) -> Any:
    """Overwrite every parameter of ``pipeline`` with seeded values, in place; give it back.

    A matrix is normal with standard deviation 1/sqrt(fan_in), so activations keep their size;
    vectors are 1 (norms) or 0 (biases). Each parameter has a generator of its own on its own
    device, seeded with the crc32 of its name and ``seed``: the values depend on neither the order
    of components nor the process. They are the same for one kind of device.
    """
    for name, module in pipeline.components.items():
        if isinstance(module, torch.nn.Module):
            with torch.no_grad():
                for key, parameter in module.named_parameters():
                    _fill(parameter, f"{name}.{key}", seed)
    return pipeline


def _fill(parameter: torch.Tensor, name: str, seed: int) -> None:
    if parameter.numel() == max(parameter.shape, default=1):
        parameter.fill_(0.0 if name.endswith("bias") else 1.0)
        return
    generator = torch.Generator(parameter.device)
    generator.manual_seed(zlib.crc32(f"{seed}:{name}".encode()))
    fan_in = parameter.numel() // parameter.shape[0]
    parameter.normal_(0.0, fan_in**-0.5, generator=generator)
