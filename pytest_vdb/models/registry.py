"""Which model a name means, without importing any of them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pytest_vdb.errors import BadSetting, UnknownModel, nearest
from pytest_vdb.models.catalog import CATALOG
from pytest_vdb.models.sources import PROVIDES
from pytest_vdb.records import CONTROL, ModelSpec

FACTORY = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
TEXTS = ("name", "source", "location", "revision", "dtype", "summary")


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
        """The model called ``name``, or the factory that ``package.module:function`` names.

        Raises UnknownModel. A factory is not imported here, so one that does not exist is found
        missing only when it is loaded.
        """
        if name in self._specs:
            return self._specs[name]
        if FACTORY.fullmatch(name):
            return ModelSpec(name=name, source="factory", location=name)
        raise UnknownModel(
            f"there is no model {name!r}: {nearest(name, self._specs)} (or name a function of your "
            "own that gives a diffusers pipeline, as package.module:function)"
        )


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
    if spec.source not in PROVIDES:
        return f"there is no source {spec.source!r}; {nearest(spec.source, PROVIDES)}"
    return ""
