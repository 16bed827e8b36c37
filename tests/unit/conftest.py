"""What tests of several modules use."""

from __future__ import annotations

import gc
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
