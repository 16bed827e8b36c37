"""Folders of recorded videos: the manifest's mistakes, and what a clip must be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_vdb.errors import BadManifest, SourceError, UnreadableClip
from pytest_vdb.models.clips import write_webp
from pytest_vdb.models.open import open_source
from pytest_vdb.models.recorded import read_manifest, specs, workload
from pytest_vdb.records import Prompt


def frames(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (5, 12, 16, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "my model"
    path.mkdir()
    for number in range(4):
        write_webp(path / f"{number}.webp", frames(number), 16, lossless=True)
    return path


def write(folder: Path, *lines: Any) -> None:
    text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / "prompts.jsonl").write_text("\n".join(text))


def test_a_folder_becomes_models_and_workloads(folder: Path) -> None:
    write(
        folder,
        {"file": "0.webp", "prompt": "a fox", "seed": 7},
        "",
        {"file": "1.webp", "prompt": "a fox", "seed": 2},
        {"file": "2.webp", "prompt": "the sea", "seed": 7, "num_frames": 5},
        {"file": "3.webp", "prompt": "the sea", "seed": 2},
        {"file": "0.webp", "prompt": "a fox", "model": "other"},
    )
    one, other = specs(folder)
    assert (one.name, one.source, one.slug) == ("my model", "recorded", "my-model-76eeb0")
    assert other.name == "other"
    work = workload(one)
    assert [p.text for p in work.prompts] == ["a fox", "the sea"]
    assert work.seeds == (2, 7)
    sea = work.prompts[1].id
    assert work.call == {"expected": {f"{sea}/7": {"num_frames": 5}}}
    assert workload(other).jobs == ((work.prompts[0], 0),)


def test_a_prompts_id_is_its_text(folder: Path) -> None:
    write(folder, {"file": "0.webp", "prompt": "a fox"}, {"file": "1.webp", "prompt": "the sea"})
    ids = {p.text: p.id for p in workload(specs(folder)[0]).prompts}
    write(folder, {"file": "1.webp", "prompt": "the sea"})
    assert workload(specs(folder)[0]).prompts[0].id == ids["the sea"]


def test_a_clip_is_decoded_with_its_own_file_as_original(folder: Path) -> None:
    write(
        folder,
        {
            "file": "2.webp",
            "prompt": "a fox",
            "num_frames": 5,
            "height": 12,
            "width": 16,
            "fps": 16,
        },
    )
    spec = specs(folder)[0]
    work = workload(spec)
    output = open_source(spec).generate(*work.jobs[0], work.call)
    assert np.array_equal(output.frames, frames(2))
    assert output.original == str(folder / "2.webp")
    assert output.fps == 16
    assert output.latent is None


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"num_frames": 6}, "num_frames is 5, and the manifest says 6"),
        ({"height": 16}, "height is 12, and the manifest says 16"),
        ({"width": 12}, "width is 16, and the manifest says 12"),
        ({"fps": 24}, "fps is 16, and the manifest says 24"),
    ],
)
def test_a_clip_of_another_size_is_refused(
    folder: Path, said: dict[str, Any], message: str
) -> None:
    write(folder, {"file": "0.webp", "prompt": "a fox", **said})
    spec = specs(folder)[0]
    with pytest.raises(UnreadableClip, match=rf"0\.webp.*{message}"):
        open_source(spec).generate(*workload(spec).jobs[0], {})


def test_a_clip_that_is_not_there_is_never_replaced(folder: Path) -> None:
    write(folder, {"file": "0.webp", "prompt": "a fox"})
    source = open_source(specs(folder)[0])
    with pytest.raises(SourceError, match=r"no clip of model 'my model'.*'a dog' with seed 0"):
        source.generate(Prompt("dog", "a dog"), 0, {})
    with pytest.raises(SourceError, match="with seed 1"):
        source.generate(Prompt("fox", "a fox"), 1, {})


def test_a_missing_manifest_shows_a_line_of_one(tmp_path: Path) -> None:
    with pytest.raises(BadManifest, match=r"prompts\.jsonl cannot be read.*\"file\""):
        read_manifest(tmp_path)


GOOD = {"file": "0.webp", "prompt": "a fox"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "not an object"),
        ({"file": "0.webp"}, "no 'prompt'"),
        ({"prompt": "a fox"}, "no 'file'"),
        ({**GOOD, "num_frame": 3}, "unknown key 'num_frame'.*'num_frames'"),
        ({**GOOD, "seed": "1"}, "seed is '1'; give a whole number"),
        ({**GOOD, "seed": True}, "seed is True"),
        ({**GOOD, "seed": -1}, "seed is -1"),
        ({**GOOD, "width": 0}, "width is 0; give at least 1"),
        ({**GOOD, "fps": 0}, "fps is 0"),
        ({**GOOD, "prompt": " "}, "prompt is ' '; give a text"),
        ({**GOOD, "model": ""}, "model is ''; give a text"),
        ({**GOOD, "file": "9.webp"}, r"no file .*9\.webp"),
        ({**GOOD, "file": "0.avi"}, r"'0\.avi' is none of \.gif, "),
        ({**GOOD, "file": "../0.webp"}, "outside"),
        ({**GOOD, "file": "/etc/clip.webp"}, "outside"),
        ({**GOOD, "file": "a\0.webp"}, "file is .*without control characters"),
        ({**GOOD, "file": "x" * 300 + ".webp"}, "there is no file"),
        ({**GOOD, "file": "\ud800.webp"}, "file is .*without control characters"),
        ({**GOOD, "prompt": "a \ud800"}, "prompt is .*give Unicode text"),
        ({**GOOD, "model": "a\x1b[31m"}, "model is .*without control characters"),
        ({**GOOD, "model": "a\nb"}, "model is .*without control characters"),
        ({**GOOD, "model": "a\x9bb"}, "model is .*without control characters"),
        ({**GOOD, "model": "a\x7fb"}, "model is .*without control characters"),
        ("[" * 100_000, "not JSON"),
        (GOOD, "already in line 1"),
    ],
)
def test_a_wrong_line_is_named(folder: Path, line: Any, message: str) -> None:
    write(folder, GOOD, line)
    with pytest.raises(BadManifest, match=rf"prompts\.jsonl:2: .*{message}"):
        read_manifest(folder)


@pytest.mark.parametrize("text", ["one\u2028two", "one\x85two", "one\n\ttwo\x1b[0m", "лиса"])
def test_a_prompt_may_hold_anything(folder: Path, text: str) -> None:
    line = json.dumps({"file": "0.webp", "prompt": text}, ensure_ascii=False)
    (folder / "prompts.jsonl").write_text(f"{line}\n", encoding="utf-8")
    assert [e.prompt for e in read_manifest(folder)] == [text]


def test_a_folders_name_is_checked_where_it_names_the_model(tmp_path: Path) -> None:
    folder = tmp_path / "a\x1b[31m"
    folder.mkdir()
    write_webp(folder / "0.webp", frames(0), 16, lossless=True)
    write(folder, GOOD)
    with pytest.raises(BadManifest, match=r"model is .*without control characters"):
        specs(folder)
    write(folder, {**GOOD, "model": "m"})
    assert specs(folder)[0].name == "m"


def test_a_link_may_not_lead_out_of_the_folder(folder: Path) -> None:
    outside = folder.parent / "secret.webp"
    outside.write_bytes(b"x")
    (folder / "link.webp").symlink_to(outside)
    write(folder, {"file": "link.webp", "prompt": "a fox"})
    with pytest.raises(BadManifest, match="outside"):
        read_manifest(folder)


def test_every_prompt_needs_the_same_seeds(folder: Path) -> None:
    write(
        folder,
        {"file": "0.webp", "prompt": "a fox", "seed": 0},
        {"file": "1.webp", "prompt": "a fox", "seed": 1},
        {"file": "2.webp", "prompt": "the sea", "seed": 0},
    )
    with pytest.raises(BadManifest, match="no clip for prompt 'the sea' with seed 1"):
        read_manifest(folder)


def test_an_empty_manifest_is_refused(folder: Path) -> None:
    write(folder, "")
    with pytest.raises(BadManifest, match="names no clip"):
        read_manifest(folder)
