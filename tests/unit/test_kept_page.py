"""The page of a kept run: videos, stages and history from where the run left them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pytest_vdb.errors import BadRun, BadSetting
from pytest_vdb.models.clips import write_webp
from pytest_vdb.names import file_sha256
from pytest_vdb.report import html, kept
from pytest_vdb.report.writers import Context

Run = dict[str, Any]


@pytest.fixture
def run(measured, tested, ran) -> Run:
    return ran(1, tested("test_a.py::test[m]", "failed", measured("clip", "REGRESSION")))


def clip(level: int) -> np.ndarray:
    return np.full((3, 32, 48, 3), level, np.uint8)


def sample(folder: Path, level: int = 90) -> Run:
    """What a worker hands on of one video."""
    folder.mkdir(exist_ok=True)
    np.save(folder / "frames.npy", clip(level))
    facts = {"key": "p1/0", "prompt": "p1", "seed": 0, "fps": 8.0, "memory": {"stage.denoise": 5}}
    costs = {"stages": {"denoise": 1.5}, "steps": [0.5, 1.0], "wall": 1.5, "shape": [3, 32, 48, 3]}
    return facts | costs | {"frames": str(folder / "frames.npy"), "frames_sha256": "f" * 64}


def shown(folder: Path) -> dict[str, Run]:
    stored = {"date": "2026-01-01", "commit": "c0ffee", "source": "base"}
    numbers = {"value": 1.0, "low": 0.5, "high": 1.5, "values": {"p1/0": 1.0}}
    one = {"samples": [sample(folder)], "history": {"clip": [{**stored, **numbers}]}}
    return {"test_a.py::test[m]": {**one, "baseline": {"torch": "2.9"}, "why": ""}}


def details(page: Path) -> list[Run]:
    found = sorted((page / "data").glob("*.js"))
    return [
        json.loads(path.read_text().removeprefix(f"vdbTake({path.stem}, ").removesuffix(");\n"))
        for path in found
    ]


@pytest.fixture
def page(tmp_path: Path, run: Run) -> Path:
    """The page that the run itself wrote."""
    html.write(run, tmp_path / "page", Context(tmp_path, shown=shown(tmp_path / "scratch")))
    shutil.rmtree(tmp_path / "scratch")
    return tmp_path / "page"


def again(run: Run, folder: Path, source: Path) -> list[Run]:
    """A page made again of the run as ``--vdb-json`` has it."""
    run = json.loads(json.dumps(run))
    html.write(run, folder, Context(folder.parent, shown=kept.of(run, source)))
    return details(folder)


def test_videos_stages_and_history_come_from_the_runs_own_page(tmp_path, page, run):
    (old,), (new,) = details(page), again(run, tmp_path / "new", page)
    for name in ("measurements", "workload", "reference", "facts", "why"):
        assert new[name] == old[name]
    (theirs,), (ours,) = old["samples"], new["samples"]
    assert ours["film"] == {k: v for k, v in theirs["film"].items() if k != "compared"}
    assert ours["stages"] == {"denoise": 1.5}
    assert ours["steps"] == [0.5, 1.0]
    film = tmp_path / "new" / "media" / "0.webm"
    assert film.read_bytes() == (page / "media" / "0.webm").read_bytes()
    # and again from that one
    shutil.rmtree(page)
    (third,) = again(run, tmp_path / "third", tmp_path / "new")
    assert third == new


def test_a_page_of_another_run_gives_nothing(tmp_path, page, run):
    run["tests"][0]["measurements"][0]["samples"][0]["value"] = 0.25
    assert kept.of(run, page) == {}
    (detail,) = again(run, tmp_path / "new", page)
    assert detail["samples"] == []
    assert "--videos=" in detail["why"]


def test_a_folder_of_somebody_is_no_page(tmp_path, run):
    with pytest.raises(BadRun, match="neither a page of --vdb-html nor a folder of --vdb-keep"):
        kept.of(run, tmp_path)


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d["samples"][0]["film"].update(src="../../../etc/passwd"),
        lambda d: d["samples"][0]["film"].update(src="media/0.webm/../../x"),
        lambda d: d["samples"][0]["film"].update(size=["48", 32]),
        lambda d: d["samples"][0]["film"].update(fps=0),
        lambda d: d["samples"][0].update(steps="x"),
        lambda d: d["samples"][0].update(stages={"denoise": "<b>"}),
        lambda d: d["measurements"][0].update(history=[{"date": 5}]),
        lambda d: d.update(samples=None),
        lambda d: d.pop("facts"),
    ],
    ids=["path", "inside", "size", "rate", "steps", "stages", "history", "none", "lacking"],
)
def test_a_page_that_was_tampered_with_is_refused(page, run, edit):
    path = page / "data" / "0.js"
    (detail,) = details(page)
    edit(detail)
    path.write_text(f"vdbTake(0, {json.dumps(detail)});\n")
    with pytest.raises(BadRun, match="what no run of pytest-vdb writes"):
        kept.of(run, page)


@pytest.mark.parametrize("text", ["alert(1)", "vdbTake(0, {);\n", 'vdbTake(0, {"a": NaN});\n', ""])
def test_what_is_no_part_of_a_page_is_refused(page, run, text):
    (page / "data" / "0.js").write_text(text)
    with pytest.raises(BadRun, match=r"0\.js"):
        kept.of(run, page)


def test_a_pipe_is_no_part_of_a_page(page, run):
    (page / "data" / "0.js").unlink()
    os.mkfifo(page / "data" / "0.js")
    with pytest.raises(BadRun, match="it is no file"):
        kept.of(run, page)


def test_a_film_that_is_gone_or_a_link_is_said(tmp_path, page, run):
    film = page / "media" / "0.webm"
    film.unlink()
    film.symlink_to("/etc/passwd")
    (detail,) = again(run, tmp_path / "new", page)
    assert detail["samples"][0]["film"]["src"] is None
    assert "not in the page's folder" in detail["samples"][0]["film"]["why"]
    assert [*(tmp_path / "new" / "media").iterdir()] == []


# --------------------------------------------------------------------------- what --vdb-keep kept


def medium(folder: Path, level: int) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    write_webp(folder / "draft", clip(level), 8, lossless=True)
    sha256 = file_sha256(folder / "draft")
    (folder / "draft").rename(folder / f"{sha256}.webp")
    return sha256


def test_videos_come_from_what_a_run_kept(tmp_path, run):
    folder = tmp_path / "run.kept"
    ours, theirs = (medium(folder / "media", level) for level in (90, 94))
    run["tests"][0]["kept"] = {
        "media": {"p1/0": {"frames": "a" * 64, "video": ours}},
        "reference": {"p1/0": {"frames": "b" * 64, "video": theirs}},
    }
    (detail,) = again(run, tmp_path / "page", folder)
    film = detail["samples"][0]["film"]
    assert film["panels"] == 3
    assert film["distances"] == [4.0] * 3
    with av.open(str(tmp_path / "page" / film["src"])) as container:
        assert len([*container.decode(video=0)]) == 3
    (folder / "media" / f"{theirs}.webp").write_bytes(
        (folder / "media" / f"{ours}.webp").read_bytes()
    )
    (detail,) = again(run, tmp_path / "page", folder)
    assert detail["samples"][0]["film"]["kept"] == "none"
    assert "kept no video of its baseline" in detail["samples"][0]["film"]["why"]
    (folder / "media" / f"{ours}.webp").write_bytes(b"something else")
    (detail,) = again(run, tmp_path / "page", folder)
    assert detail["samples"][0]["film"]["src"] is None


def test_a_part_of_a_page_replaces_its_own_alone(tmp_path, run):
    part = kept.part(tmp_path / "vdb-shard-1-of-2.json")
    assert part.name == "vdb-shard-1-of-2.films"
    for _ in range(2):
        html.write_part(run, part, Context(tmp_path, shown=shown(tmp_path / "scratch")))
    assert sorted(path.name for path in part.iterdir()) == ["data", "media"]
    assert kept.of_pages(run["tests"], [part]).keys() == {"test_a.py::test[m]"}
    (part / "thesis.txt").write_text("mine")
    with pytest.raises(BadSetting, match="left alone"):
        html.write_part(run, part, Context(tmp_path))
