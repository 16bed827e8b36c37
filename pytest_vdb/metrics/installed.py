"""Metrics that installed packages offer by an entry point: known to tests, library and command.

Light: importlib alone, and only where metrics are looked up.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pytest_vdb.errors import BadSetting
from pytest_vdb.metrics.registry import MetricSpec, gather

GROUP = "pytest_vdb.metrics"


@cache
def installed() -> tuple[tuple[str, MetricSpec], ...]:
    """Who offers a metric, and the metric, for each entry point of the group `GROUP`.

    An entry point names a function that gives MetricSpecs, or a sequence of them. Read once a
    process. Raises BadSetting, which names the distribution, for one that gives neither.
    """
    found = sorted(entry_points(group=GROUP), key=lambda entry: (_owner(entry), entry.name))
    return tuple((_owner(entry), spec) for entry in found for spec in _offered(entry))


def _offered(entry: EntryPoint) -> list[MetricSpec]:
    owner = _owner(entry)
    told = f"{owner}: its entry point {entry.name} = {entry.value} of {GROUP}"
    try:
        given: Any = entry.load()
        given = given() if callable(given) else given
    except Exception as error:  # another's code may raise anything
        raise BadSetting(
            f"{told} cannot be loaded: {type(error).__name__}: {error}; mend it, or uninstall "
            f"{owner}"
        ) from error
    return gather([given], told)


def _owner(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "a package without a name"
