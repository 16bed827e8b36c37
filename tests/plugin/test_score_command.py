"""``vdb score`` and ``vdb metrics``: scores of videos on disk, and what can be computed here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pytest_vdb.cli import main
from pytest_vdb.metrics import evaluate, vbench
from pytest_vdb.metrics.registry import Metrics
from pytest_vdb.metrics.scoring import Score, Scores
from pytest_vdb.models.clips import write_webp
from pytest_vdb.score_command import table

VIDEOS = np.random.Generator(np.random.PCG64(2)).integers(0, 256, (2, 5, 24, 32, 3), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "clips").mkdir()
    for name, video in zip(("boat", "fox"), VIDEOS, strict=True):
        write_webp(tmp_path / "clips" / f"{name}.webp", video, fps=8, lossless=True)
    return tmp_path / "clips"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_folder_is_scored_and_the_numbers_are_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scores.json"
    names = "sharpness,motion_energy"
    status, out, err = run(capsys, "score", folder, "--metrics", names, "--json", path)
    assert (status, err) == (0, "")
    expected = evaluate(VIDEOS, names.split(","))
    lines = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line}
    assert lines["sharpness"] == [
        *(f"{number:.4g}" for number in (expected.mean("sharpness"),)),
        *(f"{pick(expected.values('sharpness')):.4g}" for pick in (min, max)),
        "2",
    ]
    written = json.loads(path.read_text())
    assert [Path(name).name for name in written["videos"]] == ["boat.webp", "fox.webp"]
    energy = written["metrics"]["motion_energy"]
    assert energy["values"] == list(expected.values("motion_energy"))
    assert energy["provenance"]["version"] == "1"


def test_references_are_the_files_of_the_same_name(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run(capsys, "score", folder, "--references", folder, "--metrics", "mad")
    assert status == 0
    assert out.splitlines()[1].split() == ["mad", "0", "0", "0", "2"]
    (tmp_path / "other").mkdir()
    status, _, err = run(capsys, "score", folder, "--references", tmp_path / "other")
    assert status == 2
    assert "has no boat.webp, fox.webp" in err


def test_a_manifest_brings_the_prompts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [{"file": f"{name}.webp", "prompt": f"a {name}"} for name in ("boat", "fox")]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    status, out, _ = run(capsys, "score", folder, "--metrics", "shapes_color")
    assert status == 1  # these prompts name no scene
    assert "0 of 2" in out
    assert "shapes_color: unmeasured: " in out


def test_what_is_unmeasured_says_why_and_is_the_exit_status(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run(capsys, "score", folder, "--metrics", "sharpness,lpips,fid")
    assert status == 1
    assert "lpips: unmeasured: " in out
    assert "fid: unmeasured: fid: 2 videos, and fewer than 64" in out
    assert "sharpness" in out.splitlines()[1]


def test_vbenchs_dimensions_have_a_total_or_miss_some(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, empty = tmp_path / "scores.json", tmp_path / "empty"
    empty.mkdir()
    status, out, _ = run(capsys, "score", folder, "--vbench", "--weights", empty, "--json", path)
    assert status == 1
    assert "\nVBench quality: missing 6 of 7 dimensions (subject_consistency, " in out
    written = json.loads(path.read_text())
    assert list(written["metrics"]) == list(vbench.QUALITY)
    assert written["vbench_quality"]["value"] is None
    whole = Scores(("a",), {name: (Score(0.75),) for name in vbench.QUALITY}, {})
    total = vbench.quality_total(dict.fromkeys(vbench.QUALITY, 0.75))
    assert table(whole).endswith(f"\n\nVBench quality: {total:.4g}")
    _, out, _ = run(capsys, "score", folder, "--metrics", "temporal_flickering,sharpness")
    assert "VBench" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no nowhere"),
        (["."], "has no video"),
        (["clips", "--metrics", "sharpnes"], "no metric 'sharpnes'"),
        (["clips", "--metrics", "sharpness", "--batch", "0"], "batch=0"),
        (["clips", "--metrics", "sharpness", "--device", "tpu"], "--device: 'tpu' is no device"),
        (["clips", "--metrics", "sharpness", "--weights", "none"], "there is no folder none"),
        (["clips", "--metrics", "sharpness", "--json", "no/x.json"], "there is no folder no"),
        (["clips", "--metrics", "sharpness", "--dtype", "fp8"], "dtype='fp8'"),
    ],
)
def test_mistakes_are_one_line(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(folder.parent)
    status, out, err = run(capsys, "score", *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_metrics_lists_every_one_and_says_what_it_needs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, out, _ = run(capsys, "metrics")
    assert status == 0
    for spec in Metrics():
        assert any(line.startswith(f"{spec.name} ") for line in out.splitlines())
    lines = {line.split()[0]: line for line in out.splitlines() if line}
    assert "available" in lines["sharpness"]
    assert "needs weights" in lines["lpips"]


def test_one_metric_in_full_says_where_its_weights_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, out, _ = run(capsys, "metrics", "lpips")
    assert "alexnet-owt-7be5be79.pth" in out
    assert "into DIR/alexnet/" in out
    _, out, _ = run(capsys, "metrics", "--json")
    assert [entry["name"] for entry in json.loads(out)] == [spec.name for spec in Metrics()]
