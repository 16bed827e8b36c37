"""--vdb-openmetrics, as the parsers of prometheus_client read it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_vdb.report.openmetrics import text, write
from pytest_vdb.report.writers import WRITERS, Context
from pytest_vdb.units import plain

pytest.importorskip("prometheus_client", reason="pip install prometheus-client: its parsers")

HOSTILE = [
    '"} 1\n# EOF',
    "\\",
    '\\"',
    "\n",
    "{",
    '"',
    "\x1b[31m",
    "\u2028",
    "\ud800",
    "a\\nb",
    "# EOF",
]
texts = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=20))


def families(written):
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    return {family.name: family for family in text_string_to_metric_families(written)}


def values(written, name, *labels):
    return {
        tuple(sample.labels[label] for label in labels): sample.value
        for sample in families(written)[name].samples
    }


def test_every_measurement_is_a_value_in_its_unit(ran, tested, measured):
    latency = measured("latency", "REGRESSION", consequence="fail", effect=0.2, interval=(0.1, 0.3))
    latency |= {"unit": "s", "headline": "median", "statistics": {"median": 2.5}}
    latency["verdict"]["baseline"] = 2.0
    memory = measured("memory.peak", "PASS") | {"unit": "B", "statistics": {"mean": 2.0**31}}
    lost = measured("fvd", "UNMEASURED", consequence="fail") | {"samples": [], "statistics": {}}
    run = ran(
        1, tested("b.py::test_a[wan]", "failed", latency, memory, measured("clip", "PASS"), lost)
    )
    written = text(run)
    assert values(written, "vdb_run_exit_code") == {(): 1}
    assert values(written, "vdb_run", "commit") == {("1a2b3c4",): 1}
    assert values(written, "vdb_run_phase_seconds", "phase")["generate",] == 1.0
    assert values(written, "vdb_test", "test", "outcome") == {("b.py::test_a[wan]", "failed"): 1}
    what = "measurement", "statistic"
    assert values(written, "vdb_measurement_seconds", *what) == {("latency", "median"): 2.5}
    assert values(written, "vdb_baseline_seconds", *what) == {("latency", "median"): 2.0}
    assert values(written, "vdb_measurement_bytes", *what) == {("memory.peak", "mean"): 2.0**31}
    assert values(written, "vdb_measurement_value", "measurement", "unit") == {("clip", "1"): 0.5}
    failed = values(written, "vdb_measurement_failed", "measurement")
    assert {name for (name,), value in failed.items() if value} == {"latency", "fvd"}
    states = values(written, "vdb_measurement_verdict", "measurement", "state")
    assert ("fvd", "UNMEASURED") in states
    changes = [
        values(written, f"vdb_measurement_change{end}_ratio") for end in ("", "_low", "_high")
    ]
    assert [[*change.values()] for change in changes] == [[0.2], [0.1], [0.3]]
    assert families(written)["vdb_measurement_seconds"].unit == "seconds"


def test_it_is_text_of_prometheus_older_format_too(ran, tested, measured):
    from prometheus_client.parser import text_string_to_metric_families

    run = ran(0, tested('b.py::t["]', "passed", measured("clip", "PASS", effect=0.1)))
    written = text(run)
    old = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(written)
        for sample in family.samples
    }
    new = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families(written).values()
        for sample in family.samples
    }
    assert old == new
    assert {family.type for family in families(written).values()} == {"gauge"}


@settings(max_examples=25, deadline=None)
@given(nodeid=texts, name=texts, unit=texts, commit=texts)
def test_no_text_leaves_its_label(ran, tested, measured, nodeid, name, unit, commit):
    entry = measured(name, "PASS") | {"unit": unit}
    # twice the same: a second value of the same labels would make the text invalid
    run = ran(0, tested(nodeid, "passed", entry, entry), commit=commit)
    written = text(run)
    (found,) = values(written, "vdb_measurement_samples", "test", "measurement")
    assert found == (plain(nodeid), plain(name))
    (about,) = values(written, "vdb_run", "commit")
    assert about == (plain(commit),)


def test_a_file_of_it_is_known_again(ran, tmp_path):
    write(ran(0), tmp_path / "a.prom", Context(Path("/repo")))
    written = (tmp_path / "a.prom").read_text()
    assert written.startswith(WRITERS["openmetrics"].begins)
    assert written.endswith("\n# EOF\n")
