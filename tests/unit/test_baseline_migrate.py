"""A file of the first schema: read without a word being lost, and rewritten by an update."""

import json

from pytest_vdb.baseline import schema, update
from pytest_vdb.baseline.store import Store
from pytest_vdb.records import Kind, Measurement, Provenance, Session, Value, Workload

FIRST = {
    "schema": 1,
    "model": "m",
    "environment": {"device": "cpu", "torch": "torch2.13"},
    "tests": {"test_x[m]": {"4fe3b0d621d212eb": ["sharpness", "ssim"]}},
    "workloads": {
        "4fe3b0d621d212eb": {
            "workload": {
                "prompts": [
                    {"id": "a", "image": None, "image_sha256": None, "tags": [], "text": "a fox"}
                ],
                "seeds": [0, 1],
                "call": {"num_frames": 5},
                "dtype": "float32",
                "options": {"num_threads": 1},
            },
            "sessions": {
                "2026-01-01": {"date": "2026-01-01", "commit": "abc+", "facts": {"python": "3.11"}}
            },
            "measurements": {
                "sharpness": {
                    "unit": "grey levels^2",
                    "direction": "higher",
                    "provenance": {"version": "1", "weights": None},
                    "sessions": {"2026-01-01": {"a/0": 73.85, "a/1": 70.0}},
                }
            },
            "media": {"a/0": {"frames": "ab" * 32, "video": "cd" * 32}},
        }
    },
}
"""As the first release wrote it."""


def test_nothing_is_lost_and_its_sessions_are_the_base_branchs(tmp_path):
    path = tmp_path / "b.json"
    path.write_text(json.dumps(FIRST))
    file = schema.read(path)
    (baseline,) = file.workloads.values()
    assert baseline.sessions["2026-01-01"] == Session(
        "2026-01-01", "abc+", {"python": "3.11"}, "base"
    )
    again = json.loads(file.dumps())
    assert again["schema"] == schema.SCHEMA == 2
    for workload in again["workloads"].values():
        for session in workload["sessions"].values():
            assert session.pop("source") == "base"
    assert {**again, "schema": 1} == FIRST
    assert json.loads(path.read_text()) == FIRST  # reading writes nothing


def test_the_next_update_writes_the_new_form(tmp_path):
    path = tmp_path / "m/e/test_f.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(FIRST))
    workload = Workload.from_json(FIRST["workloads"]["4fe3b0d621d212eb"]["workload"])
    fresh = Measurement(
        *("latency", "s", "lower", Kind.LATENCY, "median"),
        values=(Value("a", 0, 1.0),),
        provenance=Provenance("how"),
    )
    one = update.Update(
        *("m/e/test_f.json", "test_y[m]", "m", FIRST["environment"], workload, (fresh,), {})
    )
    session = Session("2026-02-01", "def")
    store = Store(tmp_path, tmp_path / "media")
    update.apply(store, [one], session, mode="missing", keep=5, blobs=tmp_path)
    data = json.loads(path.read_text())
    assert data["schema"] == 2
    (stored,) = data["workloads"].values()
    assert {k: s["source"] for k, s in stored["sessions"].items()} == {
        "2026-01-01": "base",
        "2026-02-01": "base",
    }
    assert stored["measurements"]["sharpness"]["sessions"]["2026-01-01"]["a/0"] == 73.85
    assert data["tests"]["test_x[m]"] == FIRST["tests"]["test_x[m]"]
