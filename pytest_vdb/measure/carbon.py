"""Carbon: grams of CO2 from joules and the intensity of a grid that the user names."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path

from pytest_vdb.errors import BadSetting, nearest

JOULES_PER_KWH = 3.6e6
TABLE = Path("data", "private_infra", "global_energy_mix.json")  # in the package codecarbon


def grams(joules: float, intensity: float) -> float:
    """Grams of CO2 (equivalents) of ``joules`` where a kWh costs ``intensity`` grams."""
    return joules / JOULES_PER_KWH * intensity


def intensity(grid: str, table: Path | None = None) -> float:
    """Grams of CO2 a kWh of ``grid``: a number above 0, or a country's ISO code of three letters.

    A country's is the yearly mean in codecarbon's own table (``table`` replaces the installed
    one's); codecarbon is not imported and tracks nothing. There is no default: raises BadSetting
    for what is neither, and for a country where codecarbon is not installed.
    """
    try:
        number = float(grid)
    except ValueError:
        return _of_country(grid.strip().upper(), table or _installed(grid))
    if not 0 < number < math.inf:
        raise BadSetting(f"--vdb-grid={grid}: give grams of CO2 a kWh, above 0")
    return number


def _of_country(code: str, table: Path) -> float:
    try:
        countries = json.loads(table.read_text(encoding="utf-8"))
        known = {iso: float(row["carbon_intensity"]) for iso, row in countries.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise BadSetting(
            f"--vdb-grid={code}: {table} is not codecarbon's table as version 3 ships it "
            f"({type(exc).__name__}: {exc}); give grams of CO2 a kWh"
        ) from exc
    if code not in known:
        close = nearest(code, known) if len(code) == 3 else "give three letters, as DEU"
        raise BadSetting(f"--vdb-grid={code}: codecarbon has no such country; {close}")
    return known[code]


def _installed(grid: str) -> Path:
    """Where the installed codecarbon keeps its table; finding a package does not import it."""
    found = importlib.util.find_spec("codecarbon")
    if found is None or found.origin is None:
        raise BadSetting(
            f"--vdb-grid={grid}: countries are looked up in codecarbon's table, and codecarbon is "
            "not installed; give grams of CO2 a kWh (--vdb-grid=380), or pip install codecarbon"
        )
    return Path(found.origin).parent / TABLE
