"""``--vdb-recommend``: what a setting must meet, such as ``clip_score>=28,latency<=2s``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from pytest_vdb.errors import BadSetting
from pytest_vdb.readers import duration, size

_LIMIT = re.compile(r"\s*([^\s<>=]+)\s*(<=|>=)\s*([^\s<>=]+)\s*")

UNITS = {"latency": "s", "load": "s", "memory": "B"}
"""Of measurements by family; every other one has plain numbers."""


@dataclass(frozen=True)
class Limit:
    """``name`` must be at least (``>=``) or at most (``<=``) ``value``, in its base unit.

    ``unit`` is ``s`` or ``B`` where it was written as a time or a size, else empty.
    """

    name: str
    sign: str
    value: float
    text: str
    unit: str = ""

    @property
    def odd(self) -> str:
        """What is wrong with its unit, or empty."""
        own = UNITS.get(self.name.partition(".")[0], "")
        if self.unit in ("", own):
            return ""
        kind = "time" if self.unit == "s" else "size"
        return f"{self.text}: {self.name} is no {kind}; write a number in its own unit"

    def met(self, low: float, high: float) -> bool:
        """Whether all of an interval keeps it."""
        return low >= self.value if self.sign == ">=" else high <= self.value


def parse(text: str) -> tuple[Limit, ...]:
    """The limits of ``NAME>=VALUE,NAME<=VALUE``; a value is a number in the measurement's unit, a
    duration (``2s``, ``150ms``) or a size (``20GiB``). Raises BadSetting."""
    return tuple(map(_one, text.split(",")))


def _one(text: str) -> Limit:
    match = _LIMIT.fullmatch(text)
    found = _number(match[3]) if match else None
    if match is None or found is None:
        raise BadSetting(
            f"{text.strip()!r} is no limit; write NAME>=VALUE or NAME<=VALUE, as in "
            "clip_score>=28,latency<=2s"
        )
    value, unit = found
    return Limit(match[1], match[2], value, f"{match[1]}{match[2]}{match[3]}", unit)


def _number(text: str) -> tuple[float, str] | None:
    readers: tuple[tuple[Callable[[str], float], str], ...] = (
        (float, ""),
        (duration, "s"),
        (size, "B"),
    )
    for read, unit in readers:
        try:
            value = float(read(text))
        except ValueError:  # BadSetting is one
            continue
        return (value, unit) if math.isfinite(value) else None
    return None
