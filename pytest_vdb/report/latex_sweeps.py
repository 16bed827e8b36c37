"""Tables of sweeps for ``--vdb-latex``: a row is a point, a column a measurement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_vdb.records import Json
from pytest_vdb.report import tex

WIDTH = 4
"""Measurements beside each other; more are tables below."""

FRONT = r"$^{\star}$"
CHOSEN = r"$\triangleright$ "
DIFFERS = {"better": "$^{+}$", "worse": "$^{-}$"}

Sweep = Mapping[str, Json]
Point = Mapping[str, Json]


def tables(run: Mapping[str, Json]) -> list[str]:
    """A table or more for each of the run's ``sweeps`` (docs/json.md)."""
    return [_table(sweep) for sweep in run.get("sweeps", ()) if sweep["measurements"]]


def _table(sweep: Sweep) -> str:
    names = [_name(sweep, place) for place in range(len(sweep["points"]))]
    parts = [
        sweep["measurements"][start : start + WIDTH]
        for start in range(0, len(sweep["measurements"]), WIDTH)
    ]
    several = [_part(sweep, part, names) for part in parts]
    return "\n\\bigskip\n".join(several) + tex.below(_legend(sweep))


def _part(sweep: Sweep, part: Sequence[Mapping[str, Json]], names: Sequence[str]) -> str:
    columns = [_column(sweep["points"], m) for m in part]
    heads = [head for head, _ in columns]
    rows = [
        tex.row([name, *(cells[place] for _, cells in columns)]) for place, name in enumerate(names)
    ]
    return tex.tabular(
        1 + len(part), [tex.row([tex.text(sweep["model"]), *heads]), r"\midrule", *rows]
    )


def _column(points: Sequence[Point], m: Mapping[str, Json]) -> tuple[str, list[str]]:
    """Its head, and a cell for each point: the value with its interval, the best in bold."""
    levels = [point["levels"][m["name"]] for point in points]
    values = [level["value"] for level in levels if level["value"] is not None]
    largest = max(map(abs, values), default=0.0)
    scale, unit = tex.scale(largest, m["unit"])
    decimals = tex.places(largest / scale, 4)
    best = (max if m["direction"] == "higher" else min)(values, default=None)
    best = None if best is None else tex.number(best / scale, decimals)
    alike = {tex.number(value / scale, decimals) for value in values} == {best}
    cells = []
    for level in levels:
        if level["value"] is None:
            cells.append("--")
            continue
        cell = tex.number(level["value"] / scale, decimals)
        if cell == best and not alike:
            cell = rf"\textbf{{{cell}}}"
        ends = [tex.number(end / scale, decimals) for end in level["interval"] or ()]
        if len({*ends}) > 1:  # memory that repeats has none to show
            cell += f" [{', '.join(ends)}]"
        cells.append(cell + DIFFERS.get(level["differs"] or "", ""))
    return tex.measurement(m["name"], unit, m["direction"]), cells


def _name(sweep: Sweep, place: int) -> str:
    point = sweep["points"][place]
    front = sweep["fronts"][0]["points"] if sweep["fronts"] else []
    chosen = (sweep.get("recommended") or {}).get("point") == place
    failed = "" if point["passed"] else " (failed)"
    return CHOSEN * chosen + tex.text(point["id"]) + FRONT * (place in front) + failed


def _legend(sweep: Sweep) -> list[str]:
    centre = sweep["centre"]
    whom = "the best" if centre is None else tex.text(sweep["points"][centre]["id"])
    said = []
    if sweep["fronts"]:
        axes = ", ".join(tex.text(axis) for axis in sweep["fronts"][0]["axes"])
        said.append(rf"{FRONT}~beaten by none in {axes}")
    levels = [level for point in sweep["points"] for level in point["levels"].values()]
    for word, sign in DIFFERS.items():
        if any(level["differs"] == word for level in levels):
            said.append(rf"{sign}~{word} than {whom} ($p<.05$, corrected)")
    if (sweep.get("recommended") or {}).get("point") is not None:
        said.append(f"{CHOSEN}recommended for {tex.text(sweep['limits'])}")
    said.append(r"in brackets: 95\,\% intervals")
    if any(level["value"] is not None for level in levels):
        said.append("bold: best of the column")
    return said
