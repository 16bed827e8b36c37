"""The baseline file: one benchmark file's measurements of one model in one environment.

Small, diffable, versioned JSON. ``tests`` indexes which measurements each test touched, so that
one that is no longer taken is noticed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pytest_vdb.baseline.validate import check
from pytest_vdb.errors import BaselineError
from pytest_vdb.records import Baseline, Record

SCHEMA = 1


@dataclass(frozen=True)
class BaselineFile(Record):
    """``workloads`` by workload hash; ``tests`` maps a test to {workload hash: [names]}."""

    model: str
    environment: dict[str, str]
    workloads: dict[str, Baseline] = field(default_factory=dict)
    tests: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **super().to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            model=data["model"],
            environment=data["environment"],
            workloads={k: Baseline.from_json(w) for k, w in data["workloads"].items()},
            tests=data["tests"],
        )

    def dumps(self) -> str:
        return json.dumps(self.to_json(), indent=1, sort_keys=True, allow_nan=False) + "\n"


def read(path: Path) -> BaselineFile | None:
    """The file at ``path``, None where there is none; BaselineError where it cannot be trusted."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise BaselineError(f"{path} cannot be read: {error}") from None
    restore = f"restore it from version control: git checkout -- {path}"
    try:
        data = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise BaselineError(f"{path} is corrupt ({error}); {restore}") from None
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA:
        age = "a newer" if isinstance(schema, int) and schema > SCHEMA else "an older"
        todo = (
            "upgrade pytest-vdb"
            if age == "a newer"
            else "move it away and write it anew with --vdb-update"
        )
        raise BaselineError(
            f"{path} has schema {schema!r}, of {age} pytest-vdb; this one reads {SCHEMA}: {todo}"
        )
    try:
        file = BaselineFile.from_json(data)
        check(file)
    except (KeyError, TypeError, AttributeError) as error:
        raise BaselineError(f"{path} is corrupt ({error!r}); {restore}") from None
    except ValueError as error:
        raise BaselineError(f"{path} is corrupt ({error}); {restore}") from None
    return file


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no measurement")


def _finite(text: str) -> float:
    """A number as Python reads it, where it has room for it: ``1e999`` would be infinite."""
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)
