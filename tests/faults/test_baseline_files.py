"""Corrupt, old and unwritable baselines: a clear message, nothing lost."""

import json
import os
import resource
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_vdb import cli
from pytest_vdb.baseline import schema, update
from pytest_vdb.baseline.store import Store, write_atomically
from pytest_vdb.errors import BaselineError, BaselineWriteError
from pytest_vdb.records import (
    Kind,
    Measurement,
    Prompt,
    Provenance,
    Session,
    Stored,
    Value,
    Workload,
)

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
        ('{"schema": true}', "schema True, of an older"),
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


HASH = WORKLOAD.hash
DAY = "2026-01-01"
BASELINE = ("workloads", HASH)
STORED = (*BASELINE, "measurements", "sharpness")
VALUES = (*STORED, "sessions", DAY)
MEDIA = (*BASELINE, "media", "a/0")
GOOD = Stored("1", "higher", {"version": "1", "weights": None}, {DAY: {"a/0": 1.0}}).to_json()


def tampered(root, where, value):
    """A good file with media in which ``value`` stands at ``where``."""
    media = {"a/0": {"frames": "ab" * 32, "video": "cd" * 32}}
    apply(root, replace(contribution(), media=media))
    path = root / "m/e/test_f.json"
    assert schema.read(path).workloads[HASH].media == media
    data = json.loads(path.read_text())
    target = data
    for key in where[:-1]:
        target = target[key]
    target[where[-1]] = value
    path.write_text(json.dumps(data).replace('"1e999"', "1e999"))
    return path


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ((*VALUES, "a/0"), "1e999", "1e999 is no measurement"),
        ((*VALUES, "a/0"), 10**400, f"not a finite number, in {HASH}: sharpness: {DAY}: a/0"),
        ((*VALUES, "a/0"), "fast", "'fast' is not a finite number"),
        ((*VALUES, "a/0"), True, "True is not a finite number"),
        ((*VALUES, "a/0"), None, "None is not a finite number"),
        (VALUES, {}, f"{{}} is not at least one value, in {HASH}: sharpness: {DAY}"),
        (VALUES, [1.0], "is not an object"),
        ((*STORED, "sessions"), {}, "at least one session"),
        ((*STORED, "sessions"), {"2025": {"a/0": 1.0}}, "'2025' is not one of its workload's"),
        ((*STORED, "unit"), 5, "5 is not a text, in .*unit"),
        ((*STORED, "direction"), "up", "'up' is not higher or lower"),
        ((*STORED, "provenance"), None, "None is not an object"),
        ((*STORED, "provenance", "version"), None, "None is not a text"),
        ((*BASELINE, "measurements", "a\x1b[31m"), GOOD, "without control characters"),
        ((*BASELINE, "sessions"), {}, "one of its workload's sessions"),
        ((*BASELINE, "sessions", DAY, "commit"), 5, "5 is not a text"),
        ((*BASELINE, "sessions", DAY, "facts"), [], "is not an object"),
        ((*BASELINE, "sessions", DAY, "source"), "mine", "'mine' is not base or change"),
        ((*BASELINE, "media"), None, "None is not an object, in .*media"),
        (MEDIA, None, "None is not an object"),
        (MEDIA, {"video": "cd" * 32}, "is not media with 'frames'"),
        ((*MEDIA, "video"), "/etc/passwd", "'/etc/passwd' is not a sha256"),
        ((*MEDIA, "video"), "", "'' is not a sha256"),
        ((*MEDIA, "video"), "**", r"is not a sha256"),
        ((*MEDIA, "video"), 5, "5 is not a sha256"),
        ((*MEDIA, "video"), "../../x", "is not a sha256"),
        ((*MEDIA, "video"), "ab" * 32 + "\n", "is not a sha256"),
        (("tests",), [], r"\[\] is not an object, in tests"),
        (("tests", "test_x"), [], "is not an object, in tests: test_x"),
        (("tests", "test_x", HASH), "sharpness", "is not a list of measurements"),
        (("tests", "test_x", HASH), ["a\nb"], "without control characters"),
        (("tests", "a\nb"), {}, "without control characters, in tests"),
        (("model",), 5, "5 is not a name"),
        (("model",), "a\x1b[31m", "without control characters, in model"),
        (("model",), "\ud800", "without control characters, in model"),
        (("environment",), [], "is not an object, in environment"),
        (("environment", "device"), 5, "5 is not a text, in environment: device"),
    ],
)
def test_content_that_nobody_may_use(tmp_path, where, value, message):
    path = tampered(tmp_path, where, value)
    with pytest.raises(BaselineError, match=f"is corrupt .*{message}.*restore it") as caught:
        schema.read(path)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_file_nested_without_end_is_corrupt(tmp_path):
    path = tmp_path / "b.json"
    path.write_text("[" * 100_000)
    with pytest.raises(BaselineError, match="is corrupt"):
        schema.read(path)


def test_weights_may_be_unnamed(tmp_path):
    path = tampered(tmp_path, (*STORED, "provenance", "weights"), None)
    assert schema.read(path).workloads[HASH].measurements["sharpness"].provenance["weights"] is None


def test_a_corrupt_file_is_never_overwritten(tmp_path):
    path = tmp_path / "m/e/test_f.json"
    path.parent.mkdir(parents=True)
    path.write_text("{corrupt")
    with pytest.raises(BaselineError):
        apply(tmp_path, contribution())
    assert path.read_text() == "{corrupt"


def test_a_pipe_or_a_device_is_replaced_by_nothing(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BaselineWriteError, match="pipe was not written: it is no file"):
        write_atomically(tmp_path / "pipe", "new")
    assert (tmp_path / "pipe").is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


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


UPDATER = """
import os, sys, time
sys.path.insert(0, {folder!r})
from pathlib import Path
from test_baseline_files import apply, contribution
root, name, sessions, hang = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
if hang:
    fsync = os.fsync
    def stuck(handle):  # half of the file is on disk, and the disk is busy
        size = os.fstat(handle).st_size
        os.ftruncate(handle, size // 2)
        print("writing", flush=True)
        time.sleep(600)
    os.fsync = stuck
print("ready", flush=True)
sys.stdin.readline()
for day in range(sessions):
    one = contribution(name, float(day), test=f"test_{{name}}")
    apply(root, one, date=f"2026-01-{{day + 1:02}} {{name}}", mode="all")
"""


def updater(root, name, sessions=1, *, hang=False):
    """A process of its own that updates the baseline below ``root`` when it gets a line."""
    code = UPDATER.format(folder=str(Path(__file__).parent))
    command = [sys.executable, "-c", code, str(root), name, str(sessions), "hang" if hang else ""]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout.readline() == "ready\n"
    return process


def go(*processes):
    for process in processes:
        process.stdin.write("\n")


def test_two_processes_at_once_lose_no_session_of_each_other(tmp_path):
    both = [updater(tmp_path, name, sessions=5) for name in ("sharpness", "flicker")]
    go(*both)
    assert [process.wait(60) for process in both] == [0, 0]
    file = schema.read(tmp_path / "m/e/test_f.json")
    (baseline,) = file.workloads.values()
    assert sorted(file.tests) == ["test_flicker", "test_sharpness"]
    for name, stored in baseline.measurements.items():
        assert list(stored.sessions) == [f"2026-01-{day:02} {name}" for day in range(1, 6)]


def test_a_kill_in_the_middle_of_an_update_loses_nothing(tmp_path):
    apply(tmp_path, contribution())
    path = tmp_path / "m/e/test_f.json"
    before = path.read_bytes()
    victim = updater(tmp_path, "flicker", hang=True)
    go(victim)
    assert victim.stdout.readline() == "writing\n"
    waiting = updater(tmp_path, "latency")  # for the lock that the victim holds
    go(waiting)
    victim.kill()
    victim.wait(10)
    assert waiting.wait(60) == 0
    (baseline,) = schema.read(path).workloads.values()
    assert sorted(baseline.measurements) == ["latency", "sharpness"]
    assert json.loads(before)["workloads"].keys() == schema.read(path).workloads.keys()
    (draft,) = path.parent.glob(".test_f.json.*")
    with pytest.raises(ValueError, match=r"."):
        json.loads(draft.read_text())
    assert cli.main(["prune", str(tmp_path)]) == 0
    assert [p.name for p in path.parent.iterdir()] == ["test_f.json"]
