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


@pytest.mark.parametrize(
    "name", [name for name, writer in writers.WRITERS.items() if not writer.folder]
)
def test_a_file_that_is_no_report_of_its_kind_is_left_alone(name, tmp_path):
    mine, ours = tmp_path / "mine", tmp_path / "ours"
    mine.write_text("a,b\n1,2\n")
    ours.write_text(writers.WRITERS[name].begins + "...")
    writers.clear({name: ours})
    assert not ours.exists()
    with pytest.raises(BadSetting, match="no run of pytest-vdb wrote it, so it is left alone"):
        writers.clear({name: mine})
    assert mine.exists()


def test_a_command_says_what_to_type_of_its_own_flags(tmp_path):
    (tmp_path / "mine").write_text("a,b\n1,2\n")
    with pytest.raises(
        BadSetting, match=r"^vdb report: --csv: .*; write --csv=PATH with another path"
    ):
        writers.check({"csv": tmp_path / "mine"}, "vdb report: --")
    with pytest.raises(BadSetting, match=r"^vdb report: --html: .* is a file"):
        writers.check({"html": tmp_path / "mine"}, "vdb report: --")
