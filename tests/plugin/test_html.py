"""--vdb-html: a page at the end of a run, with the videos of both sides"""

import json

import numpy as np
import pytest

from pytest_vdb.models.clips import write_webp
from tests.conftest import LEAN

QUALITY = """
def test_quality(vdb):
    assert vdb.score("sharpness").mean > 0

def test_more(vdb):
    assert vdb.score("motion_energy").mean > 0
"""
pytestmark = pytest.mark.usefixtures("engine")


def detail(suite, index=0):
    """What the page shows of one test."""
    text = (suite.root / "page" / "data" / f"{index}.js").read_text()
    return json.loads(text.partition(", ")[2].removesuffix(");\n"))


def test_a_change_is_shown_beside_the_baseline(suite):
    suite.write(QUALITY)
    suite.store()
    model = suite.root / "model_under_test.py"
    model.write_text(model.read_text().replace("0.9 * frames", "0.5 * frames"))
    run = suite.json("--vdb-html=page")
    assert not any("shown" in test for test in run["tests"])
    found = detail(suite)
    films = [sample["film"] for sample in found["samples"]]
    assert [film["kept"] for film in films] == ["video", "video"]
    assert all(film["panels"] == 3 and max(film["distances"]) > 1 for film in films)
    assert {film["src"] for film in films} == {"media/0.webm", "media/1.webm"}
    # one film a video, however many tests judge it
    assert len([*(suite.root / "page" / "media").iterdir()]) == 2
    assert [sample["film"] for sample in detail(suite, 1)["samples"]] == films
    history = found["measurements"][0]["history"]
    assert len(history) == 1
    assert history[0]["values"].keys() == {sample["key"] for sample in found["samples"]}
    assert found["facts"]["theirs"]["python"] == found["facts"]["ours"]["python"]


def test_what_equals_the_baseline_is_said_to(suite):
    suite.write(QUALITY)
    suite.store()
    suite.run("--vdb-html=page").assert_outcomes(passed=2)
    assert {one["film"]["kept"] for one in detail(suite)["samples"]} == {"identical"}


def test_a_lost_reference_is_told_and_the_page_written(suite):
    suite.write(QUALITY)
    suite.store()
    for path in suite.root.glob("baselines/media/*/*.webp"):
        path.unlink()
    model = suite.root / "model_under_test.py"
    model.write_text(model.read_text().replace("0.9 * frames", "0.5 * frames"))
    suite.run("--vdb-html=page")
    films = [one["film"] for one in detail(suite)["samples"]]
    assert all(film["panels"] == 1 and "fetch the store" in film["why"] for film in films)


def test_without_a_baseline_there_is_one_side(suite):
    suite.write(QUALITY)
    suite.run("--vdb-html=page").assert_outcomes(passed=2)
    films = [one["film"] for one in detail(suite)["samples"]]
    assert all(film["why"] == "the baseline has no video of this sample" for film in films)


def test_workers_hand_their_videos_to_the_one_page(suite):
    suite.write(QUALITY)
    (suite.root / "clips").mkdir()
    frames = np.zeros((3, 32, 32, 3), np.uint8)
    write_webp(suite.root / "clips" / "a.webp", frames + 9, 8, lossless=True)
    (suite.root / "clips" / "prompts.jsonl").write_text('{"file": "a.webp", "prompt": "grey"}')
    command = [*LEAN, "benchmarks", "--vdb-videos=clips", "--vdb-html=page", "-n2"]
    suite.pytester.runpytest_subprocess(*command, timeout=120)
    films = [one["film"] for index in (0, 1) for one in detail(suite, index)["samples"]]
    assert len(films) == 2
    assert all(film["src"] for film in films)


def test_a_folder_with_other_files_ends_the_run_before_it_begins(suite):
    suite.write(QUALITY)
    result = suite.run("--vdb-html=benchmarks")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*--vdb-html*holds test_bench.py, which no page of pytest-vdb has*"]
    )
    assert (suite.root / "benchmarks" / "test_bench.py").is_file()
