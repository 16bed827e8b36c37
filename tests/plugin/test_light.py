"""The plugin costs next to nothing where it is not used."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
HEAVY = (
    "torch",
    "numpy",
    "diffusers",
    "transformers",
    "rich",
    "scipy",
    "av",
    "PIL",
    "torchmetrics",
)

SPY = f"""
import sys

def pytest_unconfigure(config):
    print("LOADED", *sorted(set({HEAVY!r}) & set(sys.modules)))
"""

PLAIN = """
import pytest

@pytest.fixture
def one():
    return 1

@pytest.mark.parametrize("n", [1, 2])
def test_plain(one, n):
    assert one + n > 1
"""

TOLERATED = 0.13
"""Of bare pytest, whose time a busy machine stretches too: 30 ms of 230 ms on a quiet one."""


def run(folder: Path, *args: str, plugin: bool = True, cwd: Path | None = None) -> str:
    """Output of a pytest process of its own, with the spy and nobody else's plugins."""
    folder.mkdir(exist_ok=True)
    (folder / "spy.py").write_text(SPY)
    env = {
        **os.environ,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_ADDOPTS": "",
        "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{folder}",
    }
    env.pop("CI", None)
    ours = ["-p", "pytest_vdb.plugin"] if plugin else []
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "spy", *ours, *args],
        cwd=cwd or folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
    return done.stdout


def loaded(output: str) -> list[str]:
    (line,) = (line for line in output.splitlines() if line.startswith("LOADED"))
    return line.split()[1:]


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    output = run(tmp_path, "--help")
    assert "--vdb-model" in output
    assert loaded(output) == []


@pytest.mark.parametrize(
    ("asked", "model"),
    [
        ([], "shapes"),
        (["--vdb-model=tiny-ltx"], "tiny-ltx"),
        (["--vdb-tolerance=sharpness=5%"], "shapes"),
    ],
)
def test_collecting_the_shipped_benchmarks_loads_nothing_heavy(
    tmp_path: Path, asked: list[str], model: str
) -> None:
    output = run(tmp_path, "--co", "-q", "benchmarks", *asked, cwd=REPOSITORY)
    assert f"test_speed[{model}]" in output
    assert loaded(output) == []


def test_a_suite_without_vdb_tests_looks_and_loads_as_without_the_plugin(tmp_path: Path) -> None:
    (tmp_path / "test_plain.py").write_text(PLAIN)
    with_plugin, without = (
        re.sub(r"in \d+\.\d+s", "in N s", run(tmp_path, "-v", "test_plain.py", plugin=plugin))
        for plugin in (True, False)
    )
    assert with_plugin == without
    assert loaded(with_plugin) == []


def test_a_heavy_import_would_be_seen(tmp_path: Path) -> None:
    (tmp_path / "test_heavy.py").write_text("def test_numpy():\n    import numpy\n")
    assert loaded(run(tmp_path, "test_heavy.py")) == ["numpy"]


def test_the_cost_of_the_plugin_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "tools"))
    import import_cost

    cost = import_cost.measure(pairs=11)
    print(cost)
    assert cost.cpu < TOLERATED * cost.bare, cost
