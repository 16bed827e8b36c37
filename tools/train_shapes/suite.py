"""The prompt suite `shapes`: the scenes that training never sees, one JSON object a line.

python tools/train_shapes/suite.py > pytest_vdb/prompts/shapes.jsonl
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

from data import held_out


def lines() -> Iterator[str]:
    for number, scene in enumerate(held_out(), 1):
        tags = [f"{attribute}:{value}" for attribute, value in asdict(scene).items()]
        entry = {"id": f"shapes-{number:02}", "prompt": scene.caption(), "tags": tags}
        yield json.dumps(entry)


if __name__ == "__main__":
    print(*lines(), sep="\n")
