"""Models by name, without loading any."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pytest_vdb.errors import BadSetting, UnknownModel, nearest
from pytest_vdb.models.catalog import CATALOG
from pytest_vdb.records import ModelSpec


class Registry:
    """The catalog and those handed in by ``pytest_vdb_models`` hooks."""

    def __init__(self, extra: Iterable[ModelSpec] = ()) -> None:
        self._specs = {spec.name: spec for spec in CATALOG}
        for spec in extra:
            if spec.name in self._specs:
                raise BadSetting(
                    f"two models are called {spec.name!r}: {self._specs[spec.name].location} and "
                    f"{spec.location}; give yours another name"
                )
            self._specs[spec.name] = spec

    def names(self) -> tuple[str, ...]:
        return tuple(self._specs)

    def find(self, name: str) -> ModelSpec:
        """The model called ``name``, or a factory ``module:function``; raises UnknownModel."""
        if name in self._specs:
            return self._specs[name]
        if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", name):
            return ModelSpec(name, "factory", name)
        raise UnknownModel(
            f"no model {name!r}: {nearest(name, self._specs)} "
            f"(your own: --vdb-model module:function, which gives a diffusers pipeline)"
        )
