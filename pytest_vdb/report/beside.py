"""What ran side by side, what it took, and how the code of the two sides differs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from pytest_vdb.records import Json


def lines(tests: Iterable[Json]) -> list[str]:
    """A line a trial, and below it one a package whose version or place differ."""
    told = []
    ran = [test["beside"] for test in tests if test.get("beside")]
    # All tests of one workload tell of the same trial; its last one knows of all its pairs.
    for trial in {(trial["model"], trial["workload"]): trial for trial in ran}.values():
        pairs = trial["pairs"]
        told.append(
            f"{trial['model']} beside {trial['base']}: {pairs} process pair{'s' * (pairs != 1)}, "
            f"{trial['loads']} loads, {trial['seconds']:.0f} s"
        )
        base, ours = trial["code"].get("base", {}), trial["code"].get("candidate", {})
        for name in sorted({*base, *ours}):
            if base.get(name) != ours.get(name):
                told.append(f"  {name}: {' against '.join(_sides(base.get(name), ours.get(name)))}")
    return told


def _sides(*sides: str | None) -> list[str]:
    """Version and place of a package on each side; what long places share is cut out."""
    places = [Path(side.partition(" ")[2]) for side in sides if side is not None]
    if len(places) < 2 or not all(place.is_absolute() for place in places):
        return [side or "–" for side in sides]
    shared = os.path.commonpath([place.parent for place in places])
    told = []
    for side, place in zip(sides, places, strict=True):
        version = (side or "").partition(" ")[0]
        own = place.relative_to(shared).parts
        own = own if len(own) <= 4 else (*own[:2], "…", own[-1])
        told.append(f"{version} {Path(shared if shared == '/' else '…', *own)}")
    return told
