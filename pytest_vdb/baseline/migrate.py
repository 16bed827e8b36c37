"""Baseline files of older schemas in the form of this one. Nothing is dropped on the way.

A file is migrated whenever it is read, and written in the new form by the next update of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytest_vdb.records import BASE

SCHEMA = 2
"""What this release writes.

1: the first. 2: a session says where it was run; older ones count as the base branch's.
"""


def migrate(data: dict[str, Any]) -> dict[str, Any]:
    """``data`` of any schema from 1 on, one step at a time.

    Raises KeyError, TypeError or AttributeError for a file that is not of the schema it names.
    """
    while data["schema"] < SCHEMA:
        data = {**STEPS[data["schema"]](data), "schema": data["schema"] + 1}
    return data


def _sources(data: dict[str, Any]) -> dict[str, Any]:
    workloads = {
        key: {
            **workload,
            "sessions": {
                date: {"source": BASE, **session} for date, session in workload["sessions"].items()
            },
        }
        for key, workload in data["workloads"].items()
    }
    return {**data, "workloads": workloads}


STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _sources}
