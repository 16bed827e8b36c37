"""What this plugin keeps with pytest's own objects, and who made it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_vdb.options import Layers
    from pytest_vdb.results import Results
    from pytest_vdb.session import VdbSession
    from pytest_vdb.verdicts import TestRun

SESSION: pytest.StashKey[VdbSession] = pytest.StashKey()
LAYERS: pytest.StashKey[Layers] = pytest.StashKey()
RESULTS: pytest.StashKey[Results] = pytest.StashKey()
TEST: pytest.StashKey[TestRun] = pytest.StashKey()


def session_of(config: pytest.Config) -> VdbSession:
    """This process's session, made when the first vdb test is met."""
    if SESSION not in config.stash:
        from pytest_vdb.session import VdbSession

        config.stash[SESSION] = VdbSession(config, config.stash[LAYERS])
    return config.stash[SESSION]


def results_of(config: pytest.Config) -> Results:
    """The controller's results, made when the first vdb test has run."""
    if RESULTS not in config.stash:
        from pytest_vdb.results import Results

        config.stash[RESULTS] = Results(session_of(config))
    return config.stash[RESULTS]


def is_worker(config: pytest.Config) -> bool:
    """Whether this process is one of xdist's workers."""
    return hasattr(config, "workerinput")


def uses_vdb(item: pytest.Item) -> bool:
    return "vdb_model" in getattr(item, "fixturenames", ())
