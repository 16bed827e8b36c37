"""Open what a `ModelSpec` names; heavy libraries load when they are needed, and not before."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from pytest_vdb.errors import BadSetting
from pytest_vdb.models.sources import PROVIDES, Source
from pytest_vdb.records import ModelSpec

PLAIN = {*sys.stdlib_module_names, "numpy", "torch", "PIL"} - {"importlib", "runpy", "pickle"}
"""Modules that bring no diffusers pipeline with them."""


def open_source(spec: ModelSpec, device: str = "cpu") -> Source:
    """Load ``spec`` on ``device`` (``"cpu"``, ``"cuda:0"``) and give what generates its videos.

    How many threads torch uses belongs to the process, so the runner sets
    ``spec.options["num_threads"]``, not the source.

    Raises SourceError (the model could not be loaded), UnknownModel (the hub has no such
    repository), InfraError (it cannot be reached), BadManifest (recorded videos whose manifest is
    wrong) or BadSetting (a spec whose ``source`` does not exist, load options that mean nothing).
    """
    match spec.source:
        case "diffusers":
            from pytest_vdb.models.hub import open_hub

            return open_hub(spec, device)
        case "factory":
            from pytest_vdb.models.factory import open_factory

            return open_factory(spec, device)
        case "endpoint":
            from pytest_vdb.models.endpoint import EndpointSource

            return EndpointSource(spec)
        case "recorded":
            from pytest_vdb.models.recorded import RecordedSource

            return RecordedSource(spec)
    raise BadSetting(
        f"model {spec.name!r} has the source {spec.source!r}; "
        f"give one of: {', '.join(sorted(PROVIDES))}"
    )


def needs_diffusers(spec: ModelSpec) -> bool:
    """Whether the load of ``spec`` may import diffusers, which takes seconds.

    A function's does not where the file that it lies in imports nothing but `PLAIN` modules. The
    file is read and not run; where that cannot be done, the answer is yes.
    """
    if spec.source != "factory":
        return spec.source == "diffusers"
    name = spec.location.partition(":")[0]
    if "." in name:  # to find it would import what it lies in
        return True
    try:
        found = find_spec(name)
        tree = ast.parse(Path(str(found and found.origin)).read_bytes())
    except (ImportError, OSError, SyntaxError, ValueError):
        return True
    return not PLAIN.issuperset(_imported(tree))


def _imported(tree: ast.Module) -> Iterator[str]:
    """The packages that a file imports, anywhere in it; its own neighbours are empty names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "" if node.level else (node.module or "").partition(".")[0]
