"""What every test may use."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
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

# Where a shell started this in the background, Ctrl-C would be ignored, in processes of ours too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What is stored here is no pull request's, also where this suite itself runs for one; and runs that
# fail on purpose annotate nothing and add to no job's summary.
GITHUB = ("EVENT_NAME", "REF", "ACTIONS", "STEP_SUMMARY", "RUN_ID")
for name in (*NUMBERS, *(f"GITHUB_{one}" for one in GITHUB)):
    os.environ.pop(name, None)

pytest_plugins = ["pytester"]

LEAN = ("-pno:cacheprovider", "-pno:hypothesispytest", "-pno:anyio")
"""For a pytest run in processes of its own, workers among them: to import these plugins, which
nothing in it uses, takes each process 1.3 s of CPU time, and all the rest 0.4."""

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


@pytest.fixture
def draw() -> Any:
    """Write two recorded clips of a drifting texture; ``noise`` (grey levels) has them flicker."""
    import numpy as np

    from pytest_vdb.models.clips import write_webp

    def write(folder: Path, noise: float = 0.0) -> None:
        folder.mkdir(exist_ok=True)
        random = np.random.default_rng(0)
        lines = []
        for prompt in ("a red fox", "a blue boat"):
            picture = random.integers(60, 190, (8, 8, 3)).repeat(8, 0).repeat(8, 1)
            frames = np.stack([np.roll(picture, step, axis=1) for step in range(5)])
            frames = frames + noise * random.standard_normal((5, 1, 1, 1))
            name = f"{prompt.replace(' ', '-')}.webp"
            write_webp(folder / name, frames.clip(0, 255).astype(np.uint8), 8, lossless=True)
            entry = {"file": name, "prompt": prompt, "num_frames": 5, "height": 64, "width": 64}
            lines.append(json.dumps({**entry, "model": "ours"}))
        (folder / "prompts.jsonl").write_text("\n".join(lines) + "\n")

    return write


def ended(pid: int) -> bool:
    """Whether a process is gone within some seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False
