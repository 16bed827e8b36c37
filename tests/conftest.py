"""What every test may use."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vdb.baseline.source import NUMBERS

if TYPE_CHECKING:
    from pytest_vdb.measure.serve import ServedSource, Server

# One thread a process: tests run beside each other, and torch's threads wait by spinning.
os.environ["OMP_NUM_THREADS"] = "1"

# What is stored here is no pull request's, also where this suite itself runs for one.
for name in (*NUMBERS, "GITHUB_EVENT_NAME", "GITHUB_REF"):
    os.environ.pop(name, None)

pytest_plugins = ["pytester"]

VIDEO_SERVER = Path(__file__).with_name("video_server.py")

Control = Callable[..., Any]
Seen = Callable[[], list[dict[str, Any]]]


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedSource]:
    """A video server in a process of its own that really generates, as ``--vdb-serve`` has it."""
    from pytest_vdb.measure.serve import ServedSource
    from pytest_vdb.models.sources import SERVE
    from pytest_vdb.records import ModelSpec

    location = f"{SERVE}{sys.executable} {VIDEO_SERVER} {{port}}"
    log = tmp_path_factory.mktemp("server") / "server.log"
    source = ServedSource(ModelSpec("served", "endpoint", location), log)
    yield source
    source.close()


@pytest.fixture(scope="session")
def server(served: ServedSource) -> Server:
    return served.server


@pytest.fixture
def control(server: Server) -> Iterator[Control]:
    """Switch misbehaviour of the server on, and all other off."""
    yield lambda **wanted: tell(server.url, **wanted)
    tell(server.url)


@pytest.fixture
def seen(server: Server) -> Seen:
    """The requests since the last ``control``."""
    return lambda: json.load(urllib.request.urlopen(f"{server.url}/seen"))


def tell(url: str, **wanted: Any) -> None:
    """``POST /control`` of the video server at ``url``."""
    body = json.dumps({"reset": True, **wanted}).encode()
    urllib.request.urlopen(urllib.request.Request(f"{url}/control", body)).read()
