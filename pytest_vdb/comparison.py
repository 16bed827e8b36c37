"""What a test compared, so that ``--vdb-prove`` can compare it again with other values.

Light on purpose (standard library only), as `statistic` is.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, runtime_checkable

from pytest_vdb.errors import NotApplicable, Unmeasured
from pytest_vdb.records import Measurement

SIGNS: dict[Callable[[Any, Any], bool], str] = {
    operator.lt: "<",
    operator.le: "<=",
    operator.gt: ">",
    operator.ge: ">=",
    operator.eq: "==",
    operator.ne: "!=",
}


@runtime_checkable
class Side(Protocol):
    """A statistic or a series: one side of a comparison that can be had of other values."""

    @property
    def measurement(self) -> Measurement: ...

    @property
    def label(self) -> str:
        """Measurement and statistic: ``latency.median``."""

    def over(self, others: Mapping[str, Measurement]) -> Self:
        """The same of the measurement of its name in ``others``, untraced."""

    def __float__(self) -> float: ...


@dataclass(frozen=True)
class Place:
    """A line of a file, as a frame names it."""

    file: str
    line: int


@dataclass(frozen=True)
class Comparison:
    """``left`` ``compare`` ``right``, which ``held`` or not where the test made it."""

    place: Place
    left: Side
    compare: Callable[[Any, Any], bool]
    right: Any
    held: bool

    @property
    def measurements(self) -> list[Measurement]:
        """Of both sides."""
        return [side.measurement for side in (self.left, self.right) if isinstance(side, Side)]

    def holds(self, others: Mapping[str, Measurement]) -> bool | None:
        """With ``others`` by name in place of its own; None where there is no number then."""
        try:
            right = self.right.over(others) if isinstance(self.right, Side) else self.right
            return bool(self.compare(self.left.over(others), right))
        except Unmeasured:
            return None

    def value(self, others: Mapping[str, Measurement]) -> float | None:
        """What is on the left then; None where there is no number."""
        try:
            return float(self.left.over(others))
        except (Unmeasured, NotApplicable):
            return None

    def __str__(self) -> str:
        right = self.right.label if isinstance(self.right, Side) else repr(self.right)
        return f"{self.left.label} {SIGNS[self.compare]} {right}"


@dataclass
class Trace:
    """What a test did with its statistics: kept under ``--vdb-prove`` alone.

    ``untraced`` are the places where one became a plain number, which nobody can follow.
    """

    comparisons: list[Comparison] = field(default_factory=list)
    untraced: list[Place] = field(default_factory=list)


def line_in(file: str) -> int | None:
    """The line that the nearest running frame of ``file`` has come to, or None."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename != file:
        frame = frame.f_back
    return frame.f_lineno if frame.f_code.co_filename == file else None


def caller(module: str) -> Place:
    """The nearest frame outside the file ``module``, which calls this function."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename == module and frame.f_back is not None:
        frame = frame.f_back
    return Place(frame.f_code.co_filename, frame.f_lineno)
