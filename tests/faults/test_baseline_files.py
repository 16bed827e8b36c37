"""Corrupt, old and unwritable baselines: a clear message, nothing lost."""

import json
import resource
import threading

import pytest

from pytest_vdb.baseline import schema, update
from pytest_vdb.baseline.store import Store, write_atomically
from pytest_vdb.errors import BaselineError, BaselineWriteError
from pytest_vdb.records import Kind, Measurement, Prompt, Provenance, Session, Value, Workload

WORKLOAD = Workload((Prompt("a", "a fox"),), (0,), {"num_frames": 5})


def contribution(name="sharpness", value=1.0, test="test_x"):
    measurement = Measurement(
        name, "1", "higher", Kind.SCORE, "mean", (Value("a", 0, value),), Provenance("how")
    )
    return update.Update(
        "m/e/test_f.json", test, "m", {"device": "cpu"}, WORKLOAD, (measurement,), {}
    )


def apply(root, *updates, date="2026-01-01", mode="missing"):
    store = Store(root, root / "media")
    session = Session(date, "abc")
    return update.apply(store, updates, session, mode=mode, keep=5, blobs=root / "blobs")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"schema": 1, "mod', "is corrupt .* git checkout"),
        ("", "is corrupt"),
        ("[]", "schema None, of an older"),
        ('{"schema": 0}', "schema 0, of an older pytest-vdb.*--vdb-update"),
        ('{"schema": 99}', "schema 99, of a newer pytest-vdb.*upgrade"),
        ('{"schema": 1, "model": "m"}', "is corrupt"),
        ('{"schema": 1, "x": NaN}', "NaN is no measurement"),
    ],
)
def test_a_file_that_cannot_be_trusted(tmp_path, text, message):
    path = tmp_path / "b.json"
    path.write_text(text)
    with pytest.raises(BaselineError, match=message):
        schema.read(path)


def test_an_edited_workload_is_noticed(tmp_path):
    apply(tmp_path, contribution())
    path = tmp_path / "m/e/test_f.json"
    data = json.loads(path.read_text())
    next(iter(data["workloads"].values()))["workload"]["call"]["num_frames"] = 6
    path.write_text(json.dumps(data))
    with pytest.raises(BaselineError, match="edited by hand"):
        schema.read(path)


def test_a_corrupt_file_is_never_overwritten(tmp_path):
    path = tmp_path / "m/e/test_f.json"
    path.parent.mkdir(parents=True)
    path.write_text("{corrupt")
    with pytest.raises(BaselineError):
        apply(tmp_path, contribution())
    assert path.read_text() == "{corrupt"


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "b.json"
    write_atomically(path, "old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(BaselineWriteError, match=r"b\.json was not written: File too large"):
            write_atomically(path, "x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["b.json"]


def test_two_writers_lose_nothing(tmp_path):
    names = [f"metric_{i}" for i in range(8)]
    threads = [
        threading.Thread(target=apply, args=(tmp_path, contribution(n, test=f"test_{n}")))
        for n in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    file = schema.read(tmp_path / "m/e/test_f.json")
    (baseline,) = file.workloads.values()
    assert sorted(baseline.measurements) == names


def test_a_missing_or_altered_medium_is_named(tmp_path):
    store = Store(tmp_path, tmp_path / "media")
    with pytest.raises(BaselineError, match=r"is not in .*media"):
        store.blob("ab" * 32)
    path = tmp_path / "media/ab" / ("ab" * 32 + ".npy")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"other")
    with pytest.raises(BaselineError, match="does not match its name"):
        store.blob("ab" * 32)
