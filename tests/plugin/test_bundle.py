"""``--vdb-keep``, ``vdb bundle`` and ``vdb verify``: runs of an engine, run again elsewhere."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_vdb import cli
from pytest_vdb.bundle import archive
from pytest_vdb.bundle.contents import Contents
from pytest_vdb.records import Workload
from pytest_vdb.report.rows import parsed
from pytest_vdb.statistic import summarize

BODY = """
from limits import LEAST

def test_quality(vdb):
    assert vdb.score("sharpness").mean > LEAST
    assert vdb.score("ssim").mean > 0.1
"""
MARKER = "prompts='prompts.txt', num_inference_steps=2"


@pytest.fixture
def bundle(suite: Any, engine: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a run that was compared with a stored baseline; its checkout is gone."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    suite.write(BODY, MARKER)
    (suite.root / "benchmarks/limits.py").write_text("LEAST = 0\n")
    (suite.root / "prompts.txt").write_text("a red fox\na blue boat\n")
    (suite.root / "pytest.ini").write_text("[pytest]\naddopts = --vdb-html=page\nvdb_pool = lab\n")
    suite.store("--vdb-json=first.json")
    run = suite.json("--vdb-keep")
    assert run["tests"][0]["kept"].keys() == {"media", "reference", "weights", "source"}
    assert run["kept"]["ini"] == {"vdb_pool": "lab"}
    assert cli.main(["bundle", "run.json", "-o", "bundle.zip"]) == 0
    for name in ("benchmarks", "baselines", "page", "run.kept"):
        shutil.rmtree(suite.root / name)
    return Path(suite.root / "bundle.zip")


def verify(bundle: Path, *more: str) -> int:
    """Check ``bundle`` in the folder that holds it, with what a process of its own has loaded."""
    code = cli.main(["verify", str(bundle), *more])
    for name in ("model_under_test", "test_bench", "limits", "benchmarks.test_bench"):
        sys.modules.pop(name, None)
    return code


def forge(bundle: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Alter the run in ``bundle`` and make every hash and statistic fit."""
    folder = bundle.parent / "forged"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    archive.unpack(bundle, folder)
    run = json.loads((folder / "run.json").read_text())
    edit(run)
    for test in run["tests"]:
        for entry in test["measurements"]:
            entry["statistics"] = summarize(parsed(entry)[0])
    (folder / "run.json").write_text(json.dumps(run))
    archive.pack(bundle, Contents(folder / "run.json", folder).members())


def test_another_checkout_gives_the_same(bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert verify(bundle) == 0
    lines = pytest.LineMatcher(capfd.readouterr().out.splitlines())
    lines.fnmatch_lines(
        [
            "*bundle.zip: all * files are what the manifest says",
            "running 1 of its tests at *",
            "their files are the bundle's; not as in this folder: benchmarks/limits.py, *",
            "benchmarks/test_bench.py::test_quality[[]model_under_test-build[]]",
            "  weights * not compared: model_under_test:build may read weights from anywhere*",
            "  videos * the same: 2 of 2, bit for bit",
            "  sharpness * the same: 2 values, bit for bit; *",
            "  ssim * the same: 2 values, bit for bit; 1.0000",
            "verified: 3 the same, 1 not compared",
        ]
    )
    # Another model here, as other weights make it.
    model = bundle.parent / "model_under_test.py"
    model.write_text(model.read_text().replace("0.9 * frames", "0.91 * frames"))
    assert verify(bundle) == 1
    assert "  sharpness              DIFFERS: 2 of 2 values are others" in capfd.readouterr().out


def test_no_forged_value_is_had_again(bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def better(run: dict[str, Any]) -> None:
        run["tests"][0]["measurements"][0]["samples"][0]["value"] *= 1.0001

    forge(bundle, better)
    assert verify(bundle) == 1
    told = capfd.readouterr().out
    assert "  sharpness              DIFFERS: 1 of 2 values are others here" in told
    assert "NOT VERIFIED: " in told


def test_no_forged_prompt_is_asked_again(bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def prettier(run: dict[str, Any]) -> None:
        workload = run["tests"][0]["workload"]
        workload["prompts"][0]["text"] = "a red fox at dawn"
        workload["hash"] = Workload.from_json(workload).hash

    forge(bundle, prettier)
    assert verify(bundle) == 1
    assert "  workload               DIFFERS: another one here: prompts" in capfd.readouterr().out


def test_what_cannot_be_kept_fails_the_run(suite: Any, engine: None) -> None:
    suite.write("import pathlib\ndef test_it(vdb):\n    pathlib.Path('run.kept').touch()")
    result = suite.run("--vdb-keep", "--vdb-json=run.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["*what vdb bundle needs was not kept: --vdb-keep: *run.kept exists*"]
    )
    assert json.loads((suite.root / "run.json").read_text())["exit"] == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--vdb-keep"], "add --vdb-json=PATH"),
        (["--vdb-keep", "--vdb-shard=1/2"], "leave out --vdb-shard"),
        (["--vdb-keep", "--vdb-json=mine.json"], "mine.kept exists and no run of pytest-vdb"),
    ],
    ids=["nothing", "shard", "folder"],
)
def test_a_flag_that_means_nothing(suite: Any, flags: list[str], words: str) -> None:
    suite.write("def test_it(vdb): ...")
    (suite.root / "mine.kept").mkdir()
    (suite.root / "mine.kept" / "letter.txt").touch()
    result = suite.run(*flags)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{words}*"])


def test_kept_tests_are_not_collected(pytester: pytest.Pytester) -> None:
    kept = pytester.mkdir("run.kept") / "source/benchmarks/test_kept.py"
    kept.parent.mkdir(parents=True)
    kept.write_text("import no_such_module")
    pytester.makepyfile("def test_own(): pass")
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
