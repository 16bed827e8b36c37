"""What ``--vdb-json`` may take the place of."""

import json

import pytest

from pytest_vdb import cli
from pytest_vdb.errors import BadSetting
from pytest_vdb.results import check_target

RUN = json.dumps({"schema": 1, "exit": 0, "tests": []})
LINE = json.dumps({"nodeid": "a", "outcome": "passed", "measurements": []}) + "\n"


@pytest.mark.parametrize(
    ("run", "partial"), [(RUN, LINE), ("", ""), (RUN, '{"nodeid": "a", "outc'), (None, None)]
)
def test_what_an_earlier_run_left(tmp_path, run, partial):
    if run is not None:
        (tmp_path / "run.json").write_text(run)
        (tmp_path / "run.json.partial").write_text(partial)
    check_target(tmp_path / "run.json")


@pytest.mark.parametrize("name", ["run.json", "run.json.partial"])
@pytest.mark.parametrize("content", [b"import os\n", b"{}", b"[]", b'{"tests": 1}', b"\xff\xfe"])
def test_what_is_somebody_elses(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadSetting, match="no run of pytest-vdb wrote it"):
        check_target(tmp_path / "run.json")
    assert (tmp_path / name).read_bytes() == content
    with pytest.raises(BadSetting, match="is a folder"):
        check_target(tmp_path)


def test_a_command_under_pytest_is_no_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --vdb-json=run.json\n")
    (tmp_path / "run.json").write_text(RUN)
    assert cli.main(["doctor"]) == 2
    assert "holds no baselines" in capsys.readouterr().err
    assert (tmp_path / "run.json").read_text() == RUN
