"""Which model a name means, without importing any of them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pytest_vdb.errors import BadSetting, UnknownModel, nearest
from pytest_vdb.models.catalog import CATALOG
from pytest_vdb.records import ModelSpec

FACTORY = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


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
