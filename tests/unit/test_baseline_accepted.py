"""Files of accepted entries: written, merged, read back, and never trusted."""

import json
from dataclasses import replace

import pytest

from pytest_vdb.baseline.accepted import Accepted, add, read
from pytest_vdb.errors import BaselineError
from pytest_vdb.records import Acceptance, State

ENTRY = Acceptance(
    *("test_x", "m", "hash", "env", "sharpness", "1", "higher"),
    provenance={"version": "1", "weights": None},
    state=State.REGRESSION,
    reason="softer on purpose",
    date="2026-01-01",
    old=1.0,
    new=0.8,
    effect=-0.2,
    interval=(-0.3, -0.1),
    tolerance="2%",
    values={"a/0": 0.8},
)


def test_there_and_back(tmp_path):
    path = tmp_path / "accepted/run.json"
    add(path, [ENTRY])
    assert read(path) == (ENTRY,)
    assert '"reason": "softer on purpose"' in path.read_text()
    found = Accepted(path.parent).find(*ENTRY.key)
    assert (found.entry, found.file) == (ENTRY, "accepted/run.json")
    assert Accepted(path.parent).find(*ENTRY.key[:-1], "other") is None
    assert Accepted(tmp_path / "nowhere").find(*ENTRY.key) is None


def test_a_second_acceptance_of_a_run_keeps_the_first(tmp_path):
    path = tmp_path / "run.json"
    other = replace(ENTRY, measurement="latency")
    add(path, [ENTRY])
    add(path, [other, replace(other, measurement="memory")])
    add(path, [replace(ENTRY, reason="on second thought")])
    assert {e.measurement: e.reason for e in read(path)} == {
        "sharpness": "on second thought",
        "latency": "softer on purpose",
        "memory": "softer on purpose",
    }


def test_the_newest_review_counts(tmp_path):
    add(tmp_path / "z.json", [replace(ENTRY, date="2026-01-01", reason="loose")])
    add(tmp_path / "a.json", [replace(ENTRY, date="2026-02-01", reason="strict")])
    assert Accepted(tmp_path).find(*ENTRY.key).entry.reason == "strict"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": "PASS"}, "is not REGRESSION or NO_BASELINE or INCONCLUSIVE, in entry 1"),
        ({"state": "FINE"}, "'FINE' is not a valid State"),
        ({"effect": None}, "None is not a finite number, in entry 1: effect"),
        ({"effect": True}, "True is not a finite number"),
        ({"interval": [0.1]}, "is not two numbers"),
        ({"interval": "wide"}, "is not two numbers"),
        ({"effect": -0.4}, "-0.4 is not within its interval"),
        ({"interval": [-0.1, -0.3]}, "-0.2 is not within its interval"),
        ({"on_trust": 5}, "5 is not a text"),
        ({"values": {"a/0": "much"}}, "'much' is not a finite number, in entry 1: values: a/0"),
        ({"values": []}, "is not an object"),
        ({"reason": "a\x1b[31m"}, "without control characters, in entry 1: reason"),
        ({"relative": 1}, "is not true or false"),
        ({"tolerance": 5}, "5 is not a text"),
        ({"direction": "up"}, "'up' is not higher or lower"),
        ({"provenance": None}, "is not an object"),
        ({"schema": 2}, ""),
    ],
)
def test_an_entry_that_nobody_may_honour(tmp_path, change, message):
    path = tmp_path / "run.json"
    add(path, [ENTRY])
    data = json.loads(path.read_text())
    data["entries"][0].update(change)
    data["schema"] = change.get("schema", 1)
    path.write_text(json.dumps(data))
    with pytest.raises(BaselineError, match=f"run.json is corrupt .*{message}.*accept anew"):
        Accepted(tmp_path)


def test_a_corrupt_file_is_never_written_over(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("{corrupt")
    with pytest.raises(BaselineError):
        add(path, [ENTRY])
    assert path.read_text() == "{corrupt"
