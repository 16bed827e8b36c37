"""``sweeps`` of a run (docs/json.md) in words and tables, for the terminal and Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from pytest_vdb.records import Json, State
from pytest_vdb.report.gfm import Section, code, row
from pytest_vdb.units import plain, show

DIFFERS = {"better": " +", "worse": " -"}
FRONT = "*"


def told(test: Mapping[str, Json], state: State) -> bool:
    """Whether a sweep's table says all of a measurement: that of a point held to no baseline."""
    explores = (test.get("sweep") or {}).get("explores")
    return bool(explores) and state is State.NOT_APPLICABLE


def title(sweep: Mapping[str, Json]) -> str:
    factors = " × ".join(sweep["factors"])
    held = ", compared with no baseline" if sweep["explores"] else ""
    tests = ", ".join(dict.fromkeys(map(_function, chain(*(p["tests"] for p in sweep["points"])))))
    return f"sweep of {sweep['model']} by {tests}: {factors} ({sweep['mode']}{held})"


def _function(nodeid: str) -> str:
    return nodeid.partition("[")[0].rpartition("::")[2]


def advice(sweep: Mapping[str, Json]) -> str:
    """The recommendation in a sentence, or why there is none; empty where none was asked for."""
    if (found := sweep.get("recommended")) is None:
        return ""
    if found["point"] is None:
        return f"no setting is recommended: {found['why']}"
    return f"recommended: {sweep['points'][found['point']]['id']}, {found['why']}"


def legend(sweep: Mapping[str, Json]) -> str:
    whom = "the best" if sweep["centre"] is None else sweep["points"][sweep["centre"]]["id"]
    front = f"{FRONT} beaten by none in {', '.join(axes)}; " if (axes := _axes(sweep)) else ""
    told = f"{front}+ better, - worse than {whom} (p < .05, corrected); [95 % interval]"
    shown = columns(sweep)
    lacking = [m["name"] for m in sweep["measurements"] if m not in shown]
    return f"{told}; measured at no point: {', '.join(lacking)}" if lacking else told


def columns(sweep: Mapping[str, Json]) -> list[Mapping[str, Json]]:
    """The measurements that any point has."""
    return [
        m
        for m in sweep["measurements"]
        if any(point["levels"][m["name"]]["value"] is not None for point in sweep["points"])
    ]


def _axes(sweep: Mapping[str, Json]) -> list[str]:
    return list(sweep["fronts"][0]["axes"]) if sweep["fronts"] else []


def cell(level: Mapping[str, Json], unit: str) -> str:
    """``0.148 s [0.145, 0.151] +``, or a dash."""
    if level["value"] is None:
        return "–"
    text = show(level["value"], unit)
    if (interval := level["interval"]) and interval[0] != interval[1]:
        text += " [{}, {}]".format(*(show(bound, unit) for bound in interval))
    return text + DIFFERS.get(level["differs"] or "", "")


@dataclass(frozen=True)
class Line:
    """A point as a row: ``mark`` says what it is, ``cells`` hold its measurements."""

    mark: str
    name: str
    cells: tuple[str, ...]
    recommended: bool


def lines(sweep: Mapping[str, Json]) -> list[Line]:
    on = sweep["fronts"][0]["points"] if sweep["fronts"] else []
    chosen = (sweep.get("recommended") or {}).get("point")
    return [
        Line(
            FRONT if place in on else "",
            point["id"] + ("" if point["passed"] else " (failed)"),
            tuple(cell(point["levels"][m["name"]], m["unit"]) for m in columns(sweep)),
            place == chosen,
        )
        for place, point in enumerate(sweep["points"])
    ]


def text(sweep: Mapping[str, Json], width: int) -> Iterator[tuple[str, bool]]:
    """Lines of a terminal with whether each is the recommended point's; as many columns beside
    each other as ``width`` holds, the others below."""
    found = lines(sweep)
    names = [plain(line.name) for line in found]
    wide = max(map(len, names))
    blocks = [
        [plain(m["name"]), *(line.cells[i] for line in found)] for i, m in enumerate(columns(sweep))
    ]
    for block in _blocks(blocks, width - wide - 4):
        sizes = [max(map(len, column)) for column in block]
        heads = (column[0].ljust(size) for column, size in zip(block, sizes, strict=True))
        yield f"{'':{wide + 2}}  {'  '.join(heads)}".rstrip(), False
        for place, line in enumerate(found, 1):
            cells = (column[place].ljust(size) for column, size in zip(block, sizes, strict=True))
            told = f"{line.mark:1} {names[place - 1]:{wide}}  {'  '.join(cells)}"
            yield told.rstrip(), line.recommended


def _blocks(columns: Sequence[list[str]], room: int) -> Iterator[list[list[str]]]:
    block: list[list[str]] = []
    used = 0
    for column in columns:
        needs = max(map(len, column)) + 2
        if block and used + needs > room:
            yield block
            block, used = [], 0
        block.append(column)
        used += needs
    if block:
        yield block


def write(
    reporter: Any, found: Sequence[Mapping[str, Json]], width: int, limits: str | None
) -> None:
    """Through pytest's own reporter; ``limits`` are those of ``--vdb-recommend``."""
    line = reporter.line
    if limits is not None and not found:
        line("--vdb-recommend: no test was swept (--vdb-sweep, or a vdb_sweep marker)", yellow=True)
    for sweep in found:
        line(plain(title(sweep)), bold=True)
        for told, recommended in text(sweep, width):
            line(told, green=recommended, bold=recommended)
        line(plain(legend(sweep)))
        if said := advice(sweep):
            certain = sweep["recommended"]["point"] is not None
            line(plain(said), green=certain, yellow=not certain)


def shown(found: Sequence[Mapping[str, Json]]) -> list[dict[str, Json]]:
    """``found`` as the page takes it: with every text and cell beside the numbers."""
    return [
        {
            "measurements": columns(sweep),
            "fronts": sweep["fronts"],
            "points": [
                {
                    **point,
                    "cells": {
                        m["name"]: cell(point["levels"][m["name"]], m["unit"])
                        for m in sweep["measurements"]
                    },
                }
                for point in sweep["points"]
            ],
            "title": title(sweep),
            "legend": legend(sweep),
            "advice": advice(sweep),
            "chosen": (sweep.get("recommended") or {}).get("point"),
        }
        for sweep in found
    ]


def sections(found: Sequence[Mapping[str, Json]], weight: int) -> list[Section]:
    """A table a sweep, of Markdown; rows may be left out from the last on."""
    return [_section(sweep, weight) for sweep in found]


def _section(sweep: Mapping[str, Json], weight: int) -> Section:
    heads = ("", "point", *(code(m["name"], 60) for m in columns(sweep)))
    rule = row(["---"] * len(heads))
    parts = [
        row(
            (
                "**→**" if line.recommended else "\\*" if line.mark else "",
                code(line.name, 120),
                *(_escaped(one) for one in line.cells),
            )
        )
        for line in lines(sweep)
    ]
    said = advice(sweep)
    told = f"**{code(said, 400)}**\n\n" if said else ""
    head = f"{code(title(sweep))}\n\n{told}{row(heads)}\n{rule}\n"
    return Section(
        weight, "points of a sweep", parts, head, f"\n\n{code(legend(sweep), 300)}", "\n"
    )


def _escaped(text: str) -> str:
    """A cell of ours, whose brackets make no link and whose unit is code."""
    return code(text, 80) if text != "–" else text
