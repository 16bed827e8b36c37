"""The command ``vdb models``, run as people run it: in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_vdb.models.catalog import CATALOG, SHAPES


def vdb(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``vdb``; packages in the folder ``path`` are installed."""
    # no GPU, so that every machine gives the same answers
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(path or "")}
    command = [sys.executable, "-m", "pytest_vdb.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)


def package(root: Path, code: str, requires: str = "pytest-vdb>=0.1") -> Path:
    """Install a pytest plugin called ``their-videos`` into ``root``, as pip lays it out."""
    (root / "their_videos.py").write_text(code)
    info = root / "their_videos-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: their-videos\nVersion: 1.0\nRequires-Dist: {requires}\n"
    )
    (info / "entry_points.txt").write_text("[pytest11]\ntheirs = their_videos\n")
    return root


HOOK = """
def pytest_vdb_models():
    from pytest_vdb import ModelSpec

    return [ModelSpec("their-wan", "factory", "their_videos:build", licence="mit")]
"""


def test_models_lists_every_model_and_what_a_cpu_can_run() -> None:
    done = vdb("models")
    assert (done.returncode, done.stderr) == (0, "")
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line}
    assert {spec.name for spec in CATALOG} <= set(lines)
    assert lines["tiny-wan"].endswith("yes")
    assert " ".join(lines["shapes"].split()) == "shapes t2v WanPipeline apache-2.0 yes"
    assert " ".join(lines["cogvideox"].split()) == (
        "cogvideox t2v CogVideoXPipeline 33 GiB apache-2.0 tiny-cogvideox no"
    )
    assert lines["here:"].startswith("here: no NVIDIA GPU")


def test_models_shows_one_in_full() -> None:
    done = vdb("models", "THUDM/CogVideoX-2b@main")
    shown = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert shown["name"] == "cogvideox"
    assert shown["revision"] == "main"
    assert shown["call"].startswith("num_frames=49  height=480  width=720")
    assert shown["here"] == "no: it needs a GPU with 33 GiB, this machine has none"


def test_models_writes_json() -> None:
    data = json.loads(vdb("models", "--json").stdout)
    assert data["devices"] == []
    assert [model["name"] for model in data["models"]] == [spec.name for spec in CATALOG]
    assert data["models"][0]["sha256"] == SHAPES.sha256
    assert {model["here"] for model in data["models"]} == {True, False}


def test_models_refuses_an_unknown_name_in_one_line() -> None:
    done = vdb("models", "cogvideo")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("vdb: there is no model 'cogvideo': did you mean 'cogvideox'")
    assert done.stderr.count("\n") == 1


def test_models_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom pytest_vdb.cli import main\nassert main(['models']) == 0\n"
        "heavy = {'torch', 'numpy', 'diffusers', 'transformers', 'rich', 'huggingface_hub'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_models_of_an_installed_package_are_listed(tmp_path: Path) -> None:
    done = vdb("models", path=package(tmp_path, HOOK))
    line = next(line for line in done.stdout.splitlines() if line.startswith("their-wan"))
    assert line.split() == ["their-wan", "t2v", "mit", "?"]
    assert "their_videos:build" in vdb("models", "their-wan", path=tmp_path).stdout


@pytest.mark.parametrize("requires", ["pytest", "pytest-vdb-extras", "pytest_vdb.more"])
def test_a_plugin_that_does_not_depend_on_this_one_is_not_imported(
    requires: str, tmp_path: Path
) -> None:
    done = vdb("models", path=package(tmp_path, "raise SystemExit('imported')", requires))
    assert done.returncode == 0, done.stderr


def test_a_package_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    done = vdb("models", path=package(tmp_path, "import no_such_thing"))
    assert done.returncode == 2
    assert done.stderr == (
        "vdb: pytest plugin their_videos cannot be loaded: No module named 'no_such_thing'\n"
    )
