"""What a change does to its own gate, in words."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_vdb.records import Json

FEW = 4


def told(found: dict[str, Json] | None) -> list[str]:
    """``gate_edits`` of a run as lines of its summary; none where there is nothing to say."""
    if not found or not found["edits"]:
        return []
    trusted = f"{found['ref']} ({found['commit'][:8]})"
    lines = [f"THIS CHANGE EDITS ITS OWN GATE; baselines and policy are those of {trusted}:"]
    for what in dict.fromkeys(edit["what"] for edit in found["edits"]):
        group = [edit for edit in found["edits"] if edit["what"] == what]
        if what == "baseline":
            lines.append(f"  baselines: {_few(group)}")
            continue
        for edit in group:
            aside = "; this run has the base's" if edit["restored"] else ""
            lines.append(f"  {what} {edit['path']} {edit['how']}{aside}")
            lines += [f"    {line}" for line in edit["lines"]]
    return lines


def _few(group: Sequence[dict[str, Json]]) -> str:
    files = [f"{edit['path']} {edit['how']}" for edit in group if edit["path"].endswith(".json")]
    media = len(group) - len(files)
    more = [f"{len(files) - FEW} more files"] if len(files) > FEW else []
    counted = [f"{media} {'medium' if media == 1 else 'media'}"] if media else []
    return ", ".join([*files[:FEW], *more, *counted])
