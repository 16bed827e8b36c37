"""Reports by the name of their flag: what may be asked for together."""

import pytest

from pytest_vdb.errors import BadSetting
from pytest_vdb.report import writers


def test_no_report_lies_in_the_folder_of_another(tmp_path):
    targets = {"html": tmp_path / "out", "json": tmp_path / "out" / "run.json"}
    with pytest.raises(
        BadSetting, match=r"fills the folder .*out, in which --vdb-json names a file"
    ):
        writers.check(targets)
    writers.check({"html": tmp_path / "out", "json": tmp_path / "run.json"})
