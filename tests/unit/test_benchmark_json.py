"""--vdb-benchmark-json, as pytest-benchmark's own loader reads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_benchmark.logger import Logger
from pytest_benchmark.storage.file import FileStorage

from pytest_vdb.report.benchmark_json import write
from pytest_vdb.report.writers import WRITERS, Context
from pytest_vdb.units import plain

HERE = Context(Path("/repo"))
texts = st.one_of(
    st.sampled_from(["\x1b[31m", "a::b", "[", "]", "a[b][c]", "\ud800"]), st.text(max_size=20)
)


@pytest.fixture(scope="session")
def latency(measured):
    def make(name="latency", values=(1.0, 2.0, 3.0)):
        samples = [{"prompt": f"p{i}", "seed": 0, "value": v} for i, v in enumerate(values)]
        entry = measured(name, "PASS") | {"kind": "latency", "unit": "s", "samples": samples}
        return entry | {"headline": "median", "statistics": {"median": 2.0}}

    return make


def load(path):
    return list(FileStorage(path.parent, Logger(Logger.QUIET)).load_benchmarks(str(path)))


def test_times_are_its_rounds_and_all_else_stands_beside(ran, tested, measured, latency, tmp_path):
    test = tested("b.py::test_a[wan]", "passed", latency(), measured("clip", "NEW"))
    only = tested("b.py::test_b[wan]", "passed", measured("clip", "NEW"))
    write(ran(0, test, only, commit="1a2b3c4+"), tmp_path / "a.json", HERE)
    (found,) = load(tmp_path / "a.json")
    assert found["fullname"] == "b.py::test_a.latency[wan]"
    assert (found["name"], found["group"]) == ("test_a.latency[wan]", "latency")
    assert (found["param"], found["params"]) == ("wan", {"vdb_model": "tiny"})
    assert (found["rounds"], found["median"], found["stddev"]) == (3, 2.0, 1.0)
    assert (found["min"], found["max"], found["data"]) == (1.0, 3.0, [1.0, 2.0, 3.0])
    clip = {"unit": "1", "direction": "higher", "mean": 0.5, "n": 1, "state": "NEW"}
    assert found["extra_info"]["measurements"]["clip"] == clip
    written = (tmp_path / "a.json").read_text()
    assert written.startswith(WRITERS["benchmark_json"].begins)
    assert json.loads(written)["commit_info"] == {"id": "1a2b3c4", "dirty": True}
    assert json.loads(written)["machine_info"] == {"device": "cpu"}


@settings(max_examples=15, deadline=None)
@given(nodeid=texts, name=texts)
def test_no_text_moves_a_cursor_or_joins_two_entries(
    ran, tested, latency, tmp_path_factory, nodeid, name
):
    path = tmp_path_factory.getbasetemp() / "hostile.json"
    run = ran(0, tested(nodeid, "passed", latency(name), latency(name + "2")))
    write(run, path, HERE)
    first, second = load(path)
    assert first["fullname"] != second["fullname"]
    assert first["fullname"].isprintable()
    assert first["group"] == plain(name)
