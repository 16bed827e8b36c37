"""``--vdb-markdown``, the summary and the annotations of a GitHub job, and JUnit beside them."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytestmark = pytest.mark.usefixtures("engine")

BODY = """
def test_quality(vdb):
    assert vdb.score('sharpness').mean > 0

def test_own(vdb):
    flicker = vdb.score('temporal_flickering')
    assert flicker.mean > 2, "too much"
"""


def check_junit(root: ElementTree.Element) -> None:
    """Raise where strict readers of JUnit's XML, such as Jenkins' xUnit plugin, would."""
    from lxml import etree

    schema = etree.XMLSchema(file=str(Path(__file__).with_name("junit.xsd")))
    schema.assertValid(etree.fromstring(ElementTree.tostring(root)))


@pytest.fixture
def job(suite, monkeypatch):
    """Variables of a GitHub job; its summary's file."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(suite.root))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(suite.root / "summary.md"))
    path: Path = suite.root / "summary.md"
    path.write_text("what an earlier step said\n")
    return path


def test_a_regression_in_a_github_job(suite, job):
    suite.write(BODY.partition("def test_own")[0])
    suite.store()
    suite.scale("sharpness", 1.5)
    job.write_text("what an earlier step said\n")
    suite.write(BODY)
    result = suite.run("--vdb-markdown=out.md", "--vdb-json=run.json", "--junitxml=junit.xml")
    text = (suite.root / "out.md").read_text()
    told = job.read_text()
    assert result.ret == 1
    assert "❌ The video gate fails: 1 measurement got worse" in text.splitlines()[1]
    assert "1 test failed its own assertion" in text.splitlines()[1]
    assert "| **❌ worse** | `sharpness` |" in text
    assert "benchmarks/test_bench.py:10: AssertionError: too much" in text
    assert told.startswith("what an earlier step said\n")
    assert told.count("pytest-vdb 1") == 1
    assert text.strip() in told

    commands = [line for line in result.outlines if line.startswith("::")]
    assert [line.partition(",title")[0] for line in commands] == [
        "::error file=benchmarks/test_bench.py,line=6",
        "::error file=benchmarks/test_bench.py,line=10",
        "::warning file=benchmarks/test_bench.py,line=9",
    ]

    run = json.loads((suite.root / "run.json").read_text())
    tests = {test["nodeid"].partition("::")[2].partition("[")[0]: test for test in run["tests"]}
    assert tests["test_quality"]["failure"] is None  # its verdicts say it
    assert tests["test_quality"]["measurements"][0]["line"] == 6
    assert tests["test_own"]["line"] == 8
    assert tests["test_own"]["failure"]["line"] == 10

    root = ElementTree.parse(suite.root / "junit.xml").getroot()
    check_junit(root)
    failures = {case.get("name"): case.find("failure") for case in root.iter("testcase")}
    message = next(f.get("message") for name, f in failures.items() if "quality" in name)
    assert "REGRESSION sharpness: mean " in message


def test_off(suite, job):
    suite.write(BODY)
    result = suite.run("--vdb-github=off")
    assert job.read_text() == "what an earlier step said\n"
    assert not [line for line in result.outlines if line.startswith("::")]


def test_one_summary_under_xdist(suite, job):
    suite.write(BODY)
    result = suite.run("-n2", "--vdb-markdown=out.md", subprocess=True)
    assert job.read_text().count("pytest-vdb 1") == 1
    assert "2 tests" in (suite.root / "out.md").read_text()
    assert sum(line.startswith("::error") for line in result.outlines) == 1


def test_what_cannot_be_written_fails_a_green_run(suite, job):
    suite.write(BODY.partition("def test_own")[0])
    job.unlink()
    job.mkdir()
    suite.block("folder")
    result = suite.run("--vdb-markdown=folder/out.md", "--vdb-json=run.json")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*folder/out.md was not written*", "*summary.md was not written*"])
    assert json.loads((suite.root / "run.json").read_text())["exit"] == 1


def test_only_its_own_file_is_replaced(suite):
    suite.write("def test_quality():\n    assert False")
    (suite.root / "notes.md").write_text("# mine\n")
    result = suite.run("--vdb-markdown=notes.md")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*notes.md exists and no run of pytest-vdb wrote it*"])
    (suite.root / "old.md").write_text("<!-- pytest-vdb 1 -->\n### ✅ an earlier run\n")
    suite.run("--vdb-markdown=old.md")
    assert "earlier" not in (suite.root / "old.md").read_text()


def test_the_schema_knows_no_properties_of_a_test():
    from lxml.etree import DocumentInvalid

    case = '<testcase classname="a" name="b" time="0.1">{}</testcase>'
    text = f'<testsuites><testsuite name="pytest" tests="1">{case}</testsuite></testsuites>'
    check_junit(ElementTree.fromstring(text.format("<failure message='m'>why</failure>")))
    with pytest.raises(DocumentInvalid, match="properties"):
        check_junit(ElementTree.fromstring(text.format("<properties/>")))


def test_the_machine_s_failure_is_an_error_of_junit(suite):
    (suite.root / "benchmarks").mkdir(exist_ok=True)
    suite.write("def test_quality(vdb):\n    assert vdb.score('sharpness').mean > 0")
    (suite.root / "pytest.ini").write_text(
        "[pytest]\naddopts = --junitxml=junit.xml --vdb-markdown=out.md\n"
    )
    assert suite.run_wide().ret == 10
    root = ElementTree.parse(suite.root / "junit.xml").getroot()
    check_junit(root)
    (case,) = root.iter("testcase")
    assert [child.tag for child in case if child.tag in ("error", "failure")] == ["error"]
    assert "INFRA_ERROR" in str(case.find("error").text)
    assert "No verdict: the machine failed" in (suite.root / "out.md").read_text()
