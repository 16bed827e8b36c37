"""Rows of the tables of docs/metrics/known-bad.md, and where they stand in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pages

from pytest_vdb.errors import Unmeasured

PAGE = Path(__file__).parents[2] / "docs" / "metrics" / "known-bad.md"
ENOUGH = 0.95


@dataclass(frozen=True)
class Row:
    """Of ``count`` cases, the share on which a metric ranks each fault lower; None: undefined."""

    metric: str
    count: int
    shares: Mapping[str, float | None]
    claims: Sequence[str]

    @property
    def broken(self) -> list[str]:
        """What is claimed and not seen."""
        return [fault for fault in self.claims if not (self.shares.get(fault) or 0) >= ENOUGH]

    @property
    def unclaimed(self) -> list[str]:
        """What is seen and not claimed."""
        return [f for f, s in self.shares.items() if (s or 0) >= ENOUGH and f not in self.claims]

    def __str__(self) -> str:
        shares = {
            fault: "–" if share is None else f"{100 * share:.0f}"
            for fault, share in self.shares.items()
        }
        return marked(self.metric, str(self.count), shares.items(), self.claims)


@dataclass(frozen=True)
class Family:
    """A table: ``claims`` of its metrics, in order; ``rows(wanted)`` measures those."""

    about: str
    faults: Sequence[str]
    claims: Mapping[str, Sequence[str]]
    rows: Callable[[Sequence[str]], Iterator[Row]]
    of: str = "clips"


def tried(
    metric: Any,
    better: str,
    cases: Sequence[Any],
    damaged: Mapping[str, Iterable[Any]],
    value: Callable[[Any], float],
) -> Row:
    """The row of ``metric``, which ``value`` computes of a case: undefined cases are left out, and
    a fault has no share where they are half of all."""
    sign = -1 if better == "higher" else 1

    def measured(case: Any) -> float | None:
        try:
            return sign * value(case)
        except Unmeasured:
            return None

    intact = [measured(case) for case in cases]
    shares = {}
    for fault, versions in damaged.items():
        found = [
            (now > before)
            for before, case in zip(intact, versions, strict=True)
            if before is not None and (now := measured(case)) is not None
        ]
        shares[fault] = sum(found) / len(found) if 2 * len(found) > len(cases) else None
    return Row(metric.name, len(cases), shares, metric.sees)


def table(family: Family, rows: Iterable[str]) -> str:
    head = ("metric", family.of, *(name.replace("_", " ") for name in family.faults))
    lines = [pages.line(head), pages.line(["---"] * len(head)), *rows]
    return "\n".join([family.about, "", *lines, ""])


def marked(
    metric: str, count: str, shares: Iterable[tuple[str, str]], claims: Sequence[str]
) -> str:
    told = (f"**{share}**" if fault in claims else share for fault, share in shares)
    return pages.line([f"`{metric}`", count, *told])


def kept(page: str, name: str, family: Family) -> dict[str, str]:
    """The rows that ``page`` has, by metric, with today's claims; those of other columns are out
    of date."""
    rows = {}
    for line in pages.block(page, name).splitlines():
        first, *told = (cell.strip(" *`") for cell in line.strip("| ").split("|"))
        if first in family.claims and len(told) == len(family.faults) + 1:
            shares = zip(family.faults, told[1:], strict=True)
            rows[first] = marked(first, told[0], shares, family.claims[first])
    return rows
