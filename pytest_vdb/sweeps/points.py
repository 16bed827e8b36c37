"""Which points a sweep has: a full grid of values, or one factor at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest

from pytest_vdb.errors import BadSetting, nearest
from pytest_vdb.marker import CALL_ARGUMENTS
from pytest_vdb.models.load_options import LOAD_OPTIONS
from pytest_vdb.names import slug
from pytest_vdb.records import Json

MODES = ("grid", "one-at-a-time")
CENTRE = "centre"
"""Id of the point that changes nothing of a test's own settings."""
NOT_SWEPT = ("seeds", "num_seeds", "prompts")
"""What is the same at every point: points are compared on it."""
LONGEST = 40
"""Characters of a text in an id."""


@dataclass(frozen=True)
class Point:
    """Call arguments and load options that are laid over a test's own. ``id`` is its part of a
    node id, such as ``num_inference_steps=10-guidance_scale=3``."""

    id: str
    call: Mapping[str, Json]


@dataclass(frozen=True)
class Sweep:
    """Values by factor. ``explores``: a flag or ini option asks for it, and no test's marker, so
    its points are compared with no baseline."""

    factors: Mapping[str, tuple[Json, ...]]
    mode: str = "grid"
    explores: bool = False

    def points(self) -> list[Point]:
        """Every point: a grid's last factor changes fastest; of the other mode the centre is first.

        Raises BadSetting for factors that make no sweep.
        """
        names = [*self.factors]
        if self.mode == "grid":
            found = [
                dict(zip(names, values, strict=True)) for values in product(*self.factors.values())
            ]
            if len(found) < 2:
                raise BadSetting(
                    "a sweep of one value is none: give two or more, as in "
                    f"{names[0]}=10,20, or set it by --vdb-set"
                )
            return [Point(self._id(call), call) for call in found]
        changed = [{name: value} for name in names for value in self.factors[name]]
        return [Point(CENTRE, {}), *(Point(self._id(call), call) for call in changed)]

    def _id(self, call: Mapping[str, Json]) -> str:
        return "-".join(self._part(name, value) for name, value in call.items())

    def _part(self, name: str, value: Json) -> str:
        if isinstance(value, str):
            return f"{slug(name)}={slug(value)[:LONGEST]}"
        if isinstance(value, list | tuple | dict):
            place = [*map(json.dumps, self.factors[name])].index(json.dumps(value))
            return f"{slug(name)}{place}"
        return f"{slug(name)}={'none' if value is None else json.dumps(value)}"


def by_marks(marks: Iterable[pytest.Mark]) -> Sweep | None:
    """The sweep of a test's ``vdb_sweep`` markers, farthest first, or None without one.

    They are merged factor by factor; the nearest wins. Raises BadSetting.
    """
    factors: dict[str, tuple[Json, ...]] = {}
    mode = None
    for mark in marks:
        mode = mark.kwargs.get("mode", mode or "grid")
        factors |= dict(_factors(mark))
    if mode is None:
        return None
    if mode not in MODES:
        raise BadSetting(f"@pytest.mark.vdb_sweep(mode={mode!r}): write {' or '.join(MODES)}")
    if not factors:
        raise BadSetting("@pytest.mark.vdb_sweep names nothing to vary: num_inference_steps=[8, 4]")
    return Sweep(factors, mode)


def _factors(mark: pytest.Mark) -> Iterator[tuple[str, tuple[Json, ...]]]:
    if mark.args:
        raise BadSetting(f"@pytest.mark.vdb_sweep takes keywords alone, not {mark.args[0]!r}")
    for name, values in mark.kwargs.items():
        if name == "mode":
            continue
        if name == "call":
            if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
                raise BadSetting(
                    "@pytest.mark.vdb_sweep(call=...) is a dict of lists by argument, not "
                    f"{values!r}"
                )
            yield from ((key, _values(key, several)) for key, several in values.items())
        elif name in CALL_ARGUMENTS or name in LOAD_OPTIONS:
            yield name, _values(name, values)
        elif name in NOT_SWEPT:
            raise BadSetting(
                f"@pytest.mark.vdb_sweep({name}=...): every point has the test's own {name}, of "
                f"@pytest.mark.vdb({name}=...)"
            )
        else:
            known = ("mode", "call", *CALL_ARGUMENTS, *LOAD_OPTIONS)
            raise BadSetting(
                f"@pytest.mark.vdb_sweep has no argument {name!r}: {nearest(name, known)} "
                "(another pipeline argument goes in call={...})"
            )


def _values(name: str, values: Any) -> tuple[Json, ...]:
    """The values of one factor: plain finite JSON, none twice."""
    if not isinstance(values, list | tuple) or not values:
        raise BadSetting(f"@pytest.mark.vdb_sweep({name}=...) is a list of values, not {values!r}")
    try:
        texts = [json.dumps(value, allow_nan=False) for value in values]
    except (TypeError, ValueError) as error:
        raise BadSetting(
            f"@pytest.mark.vdb_sweep({name}=...): values must be plain finite JSON: {error}"
        ) from None
    if len({*texts}) < len(texts):
        raise BadSetting(f"@pytest.mark.vdb_sweep({name}={values!r}) names one value twice")
    return tuple(values)
