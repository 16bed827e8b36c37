"""A real run with one of everything, its page, and Debian's Chromium to look at it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_vdb.models.clips import write_webp
from tests.conftest import LEAN

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FRAMES = 12
GREY = 20
"""What each frame's background is brighter than the one before it, on both sides."""
HOSTILE = """</script><img src=x onerror="window.hacked=1"> \x1b[31m {{ 7*7 }} ../../etc/passwd"""
SUITE = """
import os
import pytest

def test_quality(vdb):
    assert vdb.score("sharpness").mean > 0
    assert vdb.score("temporal_flickering").mean > 0
    if "CHANGED" in os.environ:
        assert vdb.score("motion_energy").mean > 0

def test_adherence(vdb):
    if "CHANGED" in os.environ:
        assert vdb.score("shapes_color").mean > 0

def test_own(vdb):
    if "CHANGED" in os.environ:
        assert vdb.score("sharpness").mean > 1e9
"""
CONFTEST = """
def pytest_vdb_models():
    from pytest_vdb import ModelSpec
    return [ModelSpec("wide", "factory", "model_under_test:build", devices=9999)]
"""


def record(folder: Path, *, changed: bool) -> None:
    """Three clips: a picture on a background that says which frame it is; changed ones blur."""
    folder.mkdir(exist_ok=True)
    lines = []
    for number, prompt in enumerate(("a red fox", HOSTILE, "a blue boat")):
        random = np.random.default_rng(number)
        frames = np.zeros((FRAMES, 32, 48, 3), np.uint8)
        picture = random.integers(0, 255, (16, 16, 3), np.uint8)
        for t in range(FRAMES):
            frames[t] = GREY * t
            blurred = changed and t >= FRAMES // 2 + number
            frames[t, 8:24, 16:32] = int(picture.mean()) if blurred else picture
        write_webp(folder / f"{number}.webp", frames, 12, lossless=True)
        lines.append({"file": f"{number}.webp", "prompt": prompt, "seed": 0, "model": "clips"})
    (folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def run(root: Path, *args: str, **environment: str) -> str:
    command = [sys.executable, "-m", "pytest", "-q", *LEAN, "benchmarks", *args]
    kept = {k: v for k, v in os.environ.items() if k not in ("CI", "PYTEST_ADDOPTS")}
    done = subprocess.run(
        [*command, "--vdb-videos=clips"],
        cwd=root,
        env=kept | environment,
        timeout=240,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run with a regression, a new and an unmeasured one, a failed assertion and an
    infrastructure error."""
    root = tmp_path_factory.mktemp("suite")
    (root / "benchmarks").mkdir()
    (root / "benchmarks" / "test_bench.py").write_text(SUITE)
    (root / "conftest.py").write_text(CONFTEST)
    record(root / "clips", changed=False)
    told = run(root, "--vdb-update")
    assert "updated baselines" in told, told
    record(root / "clips", changed=True)
    told = run(root, "--vdb-model=wide", "--vdb-html=page", CHANGED="yes")
    assert (root / "page" / "index.html").is_file(), told
    return root / "page"


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: tox -e browser")
    if CHROMIUM is None:
        pytest.skip("needs Debian's package chromium")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


class Seen:
    """One opened page, and whatever it asked for or complained of."""

    frames, grey = FRAMES, GREY

    def __init__(self, browser: Any, folder: Path, scheme: str = "light") -> None:
        self.folder = folder
        self.context = browser.new_context(
            viewport={"width": 1280, "height": 900}, color_scheme=scheme
        )
        self.context.set_default_timeout(30_000)
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.trouble: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("requestfailed", lambda request: self.trouble.append(request.url))
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("console", lambda m: self.trouble.append(m.text) if m.type != "log" else None)

    def open(self, place: str = "") -> Seen:
        self.page.goto(f"file://{self.folder}/index.html{place}")
        return self


@pytest.fixture
def look(browser: Any) -> Iterator[Callable[..., Seen]]:
    """Opens pages; none may complain, or ask anything but this machine's disk."""
    opened: list[Seen] = []

    def look(folder: Path, scheme: str = "light") -> Seen:
        opened.append(Seen(browser, folder, scheme))
        return opened[-1]

    yield look
    for one in opened:
        one.context.close()
        assert one.trouble == []
        assert all(url.startswith(("file://", "data:", "blob:")) for url in one.asked), one.asked


@pytest.fixture
def seen(look: Callable[..., Seen], page: Path) -> Seen:
    return look(page)
