"""The study of broken pipelines: what its variants do to a video, and how its table reads a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_vdb.models.catalog import SHAPES
from pytest_vdb.models.pipeline import PipelineSource
from pytest_vdb.records import Prompt
from pytest_vdb.scenes import ATTRIBUTES, read, scenes

sys.path.append(str(Path(__file__).parents[2] / "tools"))
import pages
import shapes_study
import shapes_variants

CALL = {**SHAPES.call, "num_frames": 5, "num_inference_steps": 2}
SCENE = Prompt("one", "a red circle moves left on a blue background")
BROKEN = {
    *("bf16", "VAE tiling", "4 steps", "shift 1", "weight noise 1 %", "latents not rescaled"),
    *("512 tokens", "guidance 4", "no text", "other text", "other seed"),
}
"""One of each kind."""


def video(variant: str, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    monkeypatch.setenv("VARIANT", variant)
    return PipelineSource(SHAPES, shapes_variants.build()).generate(SCENE, 0, CALL).frames


def test_every_kind_of_variant_changes_the_video(monkeypatch: pytest.MonkeyPatch) -> None:
    unbroken = video("unbroken", monkeypatch)
    assert np.array_equal(video("unbroken", monkeypatch), unbroken)
    videos = {name: video(name, monkeypatch) for name in BROKEN}
    assert [name for name in videos if np.array_equal(videos[name], unbroken)] == []


def test_another_text_shares_no_attribute() -> None:
    asked: dict[str, Any] = {}
    pipeline = shapes_variants.UnderTest.__new__(shapes_variants.UnderTest)
    shapes_variants.other_text(pipeline)
    for scene in scenes():
        asked["prompt"] = scene.caption()
        pipeline.before(asked)
        other = read(asked["prompt"])
        assert all(getattr(other, name) != getattr(scene, name) for name in ATTRIBUTES)


def measured(name: str, values: list[float], state: str = "PASS", **verdict: Any) -> Any:
    samples = [{"prompt": f"p{i // 2}", "seed": i % 2, "value": v} for i, v in enumerate(values)]
    blank = {"effect": None, "interval": None, "relative": True, "baseline": 0.8}
    return {"name": name, "samples": samples, "verdict": {"state": state, **blank, **verdict}}


def a_run(*measurements: Any, quality: str = "passed") -> Any:
    quiet = [measured(name, [1.0, 1.0]) for name in shapes_study.SCORES]
    tests = [{"nodeid": "test_shapes.py::test_quality[shapes-under-test]", "outcome": quality}]
    return {"tests": [{**tests[0], "measurements": [*measurements, *quiet]}]}


def test_a_row_gives_the_verdicts_own_change_in_points() -> None:
    base = a_run(measured("latency.cpu", [0.2, 0.2]))
    run = a_run(
        measured("latency.cpu", [0.1, 0.1], "IMPROVEMENT"),
        measured("shapes_adherence", [0.5, 0.7], "REGRESSION", effect=-0.25, interval=(-0.3, -0.2)),
        quality="failed",
    )
    cells = [cell.strip() for cell in shapes_study.line("no text", run, base).split("|")[1:-1]]
    row = dict(zip(shapes_study.HEAD, cells, strict=True))
    assert row["adherence"] == "0.600"
    assert row["its change (95 %)"] == "-0.200 (-0.240 to -0.160)"
    assert row["CPU time"] == "× 0.50"
    assert row["verdicts"] == "REGRESSION: adherence; IMPROVEMENT: CPU time"
    assert row["tests that fail"] == "quality"


def test_what_was_not_measured_is_a_dash_and_named() -> None:
    run = a_run(measured("shapes_shape", [], "UNMEASURED"))
    assert "–" in shapes_study.line("no text", run, run)
    assert shapes_study.verdicts(run) == "UNMEASURED: shape, CPU time"
    everything = {"tests": []}
    assert "PASS" not in shapes_study.line("no text", everything, everything)


def test_a_null_is_identical_in_every_score_whatever_the_clock_says() -> None:
    same = [measured(name, [1.0, 1.0], "IDENTICAL") for name in shapes_study.SCORES]
    assert shapes_study.verdicts(a_run(*same, measured("latency.cpu", [1.0]))) == "IDENTICAL"
    assert shapes_study.verdicts(a_run(*same[1:], measured("latency.cpu", [1.0]))) == "PASS"


def test_the_error_counts_prompts_and_guessing_knows_the_most_frequent_value() -> None:
    values = measured("shapes_adherence", [0.4, 0.6, 0.8, 1.0])["samples"]
    assert shapes_study.standard_error(values) == pytest.approx(0.2)  # of the means .5 and .9
    texts = [scene.caption() for scene in scenes()]
    guesses = shapes_study.constant_answers(texts)
    assert guesses["shape"] == pytest.approx(1 / 3)
    assert guesses["background"] == pytest.approx(6 / 23)


def test_only_the_block_of_the_page_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- study -->\nold\n<!-- /study -->\nb\n")
    pages.write(page, "study", pages.table([["a", "b"], ["1", "2"]]))
    table = "| a | b |\n| --- | --- |\n| 1 | 2 |\n"
    assert page.read_text() == f"a\n<!-- study -->\n{table}<!-- /study -->\nb\n"
    with pytest.raises(SystemExit, match=r"page\.md: it needs one line <!-- other --> and one"):
        pages.write(page, "other", "new\n")
