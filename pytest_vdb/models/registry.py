"""Which model a name means, without importing or downloading any of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from pytest_vdb.errors import BadSetting, UnknownModel, nearest
from pytest_vdb.models.catalog import CATALOG
from pytest_vdb.models.sources import PROVIDES
from pytest_vdb.names import CONTROL
from pytest_vdb.records import ModelSpec

FACTORY = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
HUB = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w./-]+))?", re.ASCII)
URL = re.compile(r"https?://[!-~]*")
SHA256 = re.compile(r"[0-9a-f]{64}")
INDEX = "model_index.json"  # what makes a folder a saved pipeline
WAYS = (
    "give a name that `vdb models` lists, a hub id (org/name), a folder with a model_index.json, "
    "package.module:function, or the URL of a video API"
)
TEXTS = (
    *("name", "source", "location", "revision", "dtype", "summary"),
    *("weights", "pipeline", "task", "output", "licence", "twin", "sha256", "prompts"),
)
CHOICES = {
    "source": tuple(PROVIDES),
    "weights": ("pretrained", "random"),
    "task": ("text-to-video", "image-to-video"),
}


class Registry:
    """The catalog's models and ``extra`` ones, which conftest files and packages add."""

    def __init__(self, extra: Iterable[ModelSpec] = ()) -> None:
        """Raises BadSetting where two models share a name, or names that make the same slug."""
        by_slug: dict[str, ModelSpec] = {}
        for spec in (*CATALOG, *extra):
            if (other := by_slug.setdefault(spec.slug, spec)) is not spec:
                raise BadSetting(
                    f"two models are called {spec.slug!r}: {other.name!r} at {other.location} and "
                    f"{spec.name!r} at {spec.location}; rename the second"
                )
        self._specs = {spec.name: spec for spec in by_slug.values()}

    def names(self) -> tuple[str, ...]:
        """Known names, the catalog's first."""
        return tuple(self._specs)

    def find(self, name: str) -> ModelSpec:
        """The model that ``name`` means; the first of these that fits:

        a known name, the URL of a video API, a folder that holds a saved pipeline, a hub id
        ``org/name`` with or without ``@revision``, or a function ``package.module:function``.
        Raises UnknownModel. Nothing is imported or downloaded here, so a function, a repository
        or a server that does not exist is found missing only when it is loaded.
        """
        if name in self._specs:
            return self._specs[name]
        if URL.fullmatch(name):
            return self._own(_endpoint(name), "server")
        if name.startswith((".", "/", "~")) or Path(name, INDEX).is_file():
            return self._own(_folder(name), "local")
        if hub := HUB.fullmatch(name):
            return self._hub(hub[1], hub[2] or "")
        if FACTORY.fullmatch(name):
            return ModelSpec(name=name, source="factory", location=name)
        close = nearest(name, self._specs)
        hint = close + " Or " if close.startswith("did you mean") else ""
        raise UnknownModel(f"there is no model {name!r}: {hint}{WAYS}")

    def _hub(self, location: str, revision: str) -> ModelSpec:
        """The entry that has this repository, or the repository with its class's own defaults.

        A revision is not part of the name: two revisions are compared with one baseline.
        """
        entries = [s for s in self._specs.values() if s.source == "diffusers"]
        for spec in entries:
            if spec.location.lower() == location.lower():
                return replace(spec, revision=revision or spec.revision)
        return ModelSpec(location, "diffusers", location, revision)

    def _own(self, spec: ModelSpec, prefix: str) -> ModelSpec:
        """``spec`` under a name that no known model has, whose baselines are its own."""
        taken = {known.slug for known in self._specs.values()}
        return replace(spec, name=f"{prefix}-{spec.name}") if spec.slug in taken else spec


def _folder(name: str) -> ModelSpec:
    """A saved pipeline, under its folder's name: the same on every machine."""
    folder = Path(os.path.expanduser(name)).resolve()  # pathlib's raises for an unknown user
    if not (folder / INDEX).is_file():
        what = "holds no model_index.json" if folder.is_dir() else "is no folder"
        raise UnknownModel(
            f"{name!r} {what}: give a folder that save_pretrained of a pipeline wrote "
            "(recorded videos are given by --vdb-videos)"
        )
    return ModelSpec(folder.name, "diffusers", str(folder))


def _endpoint(url: str) -> ModelSpec:
    """A server's API, named by its host and path without what may be secret in a URL."""
    try:
        parts = urlsplit(url)
    except ValueError:  # an address with a broken bracket
        parts = urlsplit("")
    if parts.username or parts.password or parts.query:
        raise UnknownModel(
            f"the URL of {parts.hostname} holds a password or a query: give the address alone "
            "(docs/endpoint.md says where a key goes)"
        )
    if not parts.hostname:
        raise UnknownModel(f"{url!r} names no host; write e.g. http://localhost:8000")
    return ModelSpec(f"{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}", "endpoint", url)


def gather(results: Iterable[object]) -> list[ModelSpec]:
    """The models in what ``pytest_vdb_models`` hooks returned, one result an implementation.

    Raises BadSetting for a result that is not a list (or other iterable) of ModelSpec, and for a
    ModelSpec whose fields cannot mean anything.
    """
    specs: list[ModelSpec] = []
    for result in results:
        members = list(result) if isinstance(result, Iterable) else [None]
        for member in members:
            if not isinstance(member, ModelSpec):
                raise BadSetting(
                    f"pytest_vdb_models returned {result!r}; return a list: [ModelSpec(...)]"
                )
            if problem := _problem(member):
                raise BadSetting(f"pytest_vdb_models returned {member!r}: {problem}")
            specs.append(member)
    return specs


def _problem(spec: ModelSpec) -> str:
    """What is wrong with the fields of ``spec``, or an empty string."""
    for field in TEXTS:
        if not isinstance(getattr(spec, field), str):
            return f"{field} is no text"
    for field in ("call", "options"):
        if not isinstance(getattr(spec, field), dict):
            return f"{field} is no dict"
    if not spec.name.strip() or CONTROL.search(spec.name):
        return "name is empty or holds control characters"
    for field, known in CHOICES.items():
        if (value := getattr(spec, field)) not in known:
            return f"there is no {field} {value!r}; {nearest(value, known)}"
    if spec.sha256 and not (SHA256.fullmatch(spec.sha256) and spec.source == "diffusers"):
        return "sha256 is no 64 hex digits of the weight files of a diffusers folder or hub id"
    if not isinstance(spec.audio, bool):
        return "audio is neither True nor False"
    if not _positive(spec.devices):
        return "devices is no whole number from 1"
    if spec.memory is not None and not _positive(spec.memory):
        return "memory is no whole number of bytes (or None: not known)"
    return ""


def _positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
