"""What tests of several modules use."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="session", autouse=True)
def _imports_are_no_garbage() -> None:
    """What profiles memory looks for garbage first; what was imported is none, and is much."""
    gc.collect()
    gc.freeze()


def state(pipeline: Any) -> dict[str, Any]:
    """Everything that a clock may change: hooks, attributes of instances, classes."""
    found = {}
    for name, component in pipeline.components.items():
        if not hasattr(component, "__dict__"):
            continue
        hooks = [key for key in vars(component) if key.endswith(("hooks", "hooks_always_called"))]
        found[name] = (
            type(component),
            {key: list(vars(component)[key]) for key in hooks},
            {key: id(value) for key, value in vars(component).items() if callable(value)},
            sorted(vars(component)),
        )
    return found


Test = dict[str, Any]
Run = dict[str, Any]


@pytest.fixture(scope="session")
def measured() -> Callable[..., Test]:
    """An entry of ``measurements`` (docs/json.md), such as ``measured("clip", "PASS", n=8)``."""

    def make(name: str, state: str, *, consequence: str = "pass", **verdict: Any) -> Test:
        said = {
            "state": state,
            "reason": "because",
            "effect": None,
            "interval": None,
            "relative": True,
            "tolerance": "2%",
            "p": None,
            "n": 8,
            "baseline": None,
            "accepted": "",
            "against": "",
            "resolves": None,
            "consequence": consequence,
            **verdict,
        }
        return {
            "name": name,
            "unit": "1",
            "direction": "higher",
            "kind": "score",
            "line": 7,
            "samples": [{"prompt": "p1", "seed": 0, "value": 0.5}],
            "statistics": {"mean": 0.5},
            "headline": "mean",
            "provenance": {"how": "counted", "version": "1", "device": "cpu", "package": ""},
            "verdict": said,
        }

    return make


@pytest.fixture(scope="session")
def tested() -> Callable[..., Test]:
    """An entry of ``tests``, which took the measurements given."""

    def make(nodeid: str, outcome: str, *measurements: Test, **more: Any) -> Test:
        prompts = [{"id": "p1", "text": "a red fox"}]
        workload = {"hash": nodeid, "prompts": prompts, "seeds": [0], "call": {}, "dtype": "f"}
        return {
            "nodeid": nodeid,
            "outcome": outcome,
            "model": {"name": "tiny"},
            "line": 3,
            "workload": workload,
            "measurements": [*measurements],
            "failure": None,
            "beside": None,
            "attribution": None,
            **more,
        }

    return make


ONCE = [
    ("clip", "no weights are there", "Unmeasured: clip is UNMEASURED: no weights are there"),
    ("samples", "not reached: SourceError: m: no folder", "SourceError: m: no folder\nlook at it"),
]
"""Measurements that an error took the place of: name, reason, and how their test failed by it."""


@pytest.fixture(params=ONCE, ids=["unmeasured", "not reached"])
def lost(request: Any, tested: Callable[..., Test], measured: Callable[..., Test]) -> Test:
    """A test whose failure is told by its measurement."""
    name, reason, text = request.param
    entry = measured(name, "UNMEASURED", reason=reason, consequence="fail", n=0) | {"samples": []}
    failure = {"text": text, "file": "a.py", "line": 20}
    return tested("a.py::t", "failed", entry, failure=failure)


@pytest.fixture(scope="session")
def ran() -> Callable[..., Run]:
    """A run of the tests given, in the form of ``--vdb-json``."""

    def make(code: int, *tests: Test, **more: Any) -> Run:
        return {
            "schema": 1,
            "exit": code,
            "commit": "1a2b3c4",
            "gate_edits": None,
            "environment": {"facts": {"device": "cpu"}},
            "tests": [*tests],
            "timing": {"generate": 1.0, "metrics": 0.0},
            **more,
        }

    return make
