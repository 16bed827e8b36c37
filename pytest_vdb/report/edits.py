"""What a change does to its own gate, in words."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pytest_vdb.records import Json

FEW = 4
MEDIUM = re.compile(r"(^|/)[0-9a-f]{64}\.[^/]+$")


def told(found: dict[str, Json] | None) -> list[str]:
    """``gate_edits`` of a run as lines of its summary; none where there is nothing to say."""
    if not found or not found["edits"]:
        return []
    trusted = f"{found['ref']} ({found['commit'][:8]})"
    lines = [f"THIS CHANGE EDITS ITS OWN GATE; baselines and policy are those of {trusted}:"]
    for what in dict.fromkeys(edit["what"] for edit in found["edits"]):
        group = [edit for edit in found["edits"] if edit["what"] == what]
        if what == "baseline":
            lost = [
                edit["path"] for edit in group if edit["how"] == "deleted" and not _medium(edit)
            ]
            lines += [f"  baseline {path} deleted" for path in lost]
            if others := [edit for edit in group if edit["path"] not in lost]:
                lines.append(f"  baselines: {_few(others)}")
            continue
        for edit in group:
            aside = "; this run has the base's" if edit["restored"] else ""
            lines.append(f"  {what} {edit['path']} {edit['how']}{aside}")
            lines += [f"    {line}" for line in edit["lines"]]
    return lines


def overruled(tests: Sequence[dict[str, Json]]) -> list[str]:
    """What markers of tests ask for and do not get, a line each."""
    asked: dict[str, list[str]] = {}
    for test in tests:
        for word in test.get("overruled", ()):
            asked.setdefault(word, []).append(test["nodeid"].partition("::")[2])
    why = "does not count: policy is the ref's and the command's, and a marker only tightens it"
    return [f"vdb({word}) of {', '.join(names)} {why}" for word, names in asked.items()]


def _few(group: Sequence[dict[str, Json]]) -> str:
    files = [f"{edit['path']} {edit['how']}" for edit in group if not _medium(edit)]
    media = len(group) - len(files)
    more = [f"{len(files) - FEW} more files"] if len(files) > FEW else []
    counted = [f"{media} {'medium' if media == 1 else 'media'}"] if media else []
    return ", ".join([*files[:FEW], *more, *counted])


def _medium(edit: dict[str, Json]) -> bool:
    """Whether it is a file of the media's store, which is named by its hash."""
    return bool(MEDIUM.search(edit["path"]))
