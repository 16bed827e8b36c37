"""`vdb prune` and `vdb diff`, on baselines made by hand."""

import hashlib
import io
import json
import shutil
import subprocess

import pytest

from pytest_vdb import cli
from pytest_vdb.baseline import schema, update
from pytest_vdb.baseline.store import Store
from pytest_vdb.errors import BaselineWriteError
from pytest_vdb.records import Kind, Measurement, Prompt, Provenance, Session, Value, Workload

WORKLOAD = Workload((Prompt("a", "a fox"),), (0,), {"num_frames": 5})


def store(
    root, name="sharpness", value=1.0, *, date="2026-01-01", test="test_x", model="m", env="e"
):
    """One session of one measurement of one test, with a medium of its own."""
    blobs = root.parent / f"blobs-{root.name}"
    blobs.mkdir(exist_ok=True)
    content = f"{test} {date}".encode()
    sha256 = hashlib.sha256(content).hexdigest()
    (blobs / f"{sha256}.webp").write_bytes(content)
    measurement = Measurement(
        name, "1", "higher", Kind.SCORE, "mean", (Value("a", 0, value),), Provenance("how")
    )
    workload = Workload(WORKLOAD.prompts, (0,), {"num_frames": 5, "of": test})
    one = update.Update(
        *(f"{model}/{env}/test_f.json", f"{test}[{model}]", model, {"device": env}, workload),
        *((measurement,), {"a/0": {"frames": "ab" * 32, "video": sha256}}),
    )
    session = Session(date, "abc")
    update.apply(Store(root, root / "media"), [one], session, mode="all", keep=9, blobs=blobs)
    return root / "media" / sha256[:2] / f"{sha256}.webp"


@pytest.fixture
def root(tmp_path):
    return tmp_path / "baselines"


def files(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_media_that_no_file_names_go(root, capsys):
    old = store(root, date="2026-01-01")
    new = store(root, date="2026-01-02")
    (root / "media/notes.txt").write_text("mine")
    draft = root / "m/e/.test_f.json.abc123"
    draft.write_text('{"schema": ')
    before = files(root)
    assert cli.main(["prune", str(root), "--dry-run"]) == 0
    assert files(root) == before
    told = capsys.readouterr().out
    assert f"would go: {old}" in told
    assert str(new) not in told
    assert cli.main(["prune", str(root)]) == 0
    gone = before.keys() - files(root).keys()
    assert gone == {p.relative_to(root).as_posix() for p in (old, draft)}
    assert files(root).items() <= before.items()


def test_sessions_beyond_k_go(root, capsys):
    for day in range(1, 5):
        store(root, date=f"2026-01-0{day}", value=float(day))
    assert cli.main(["prune", str(root), "--sessions", "2"]) == 0
    (baseline,) = schema.read(root / "m/e/test_f.json").workloads.values()
    assert list(baseline.sessions) == ["2026-01-03", "2026-01-04"]
    assert baseline.measurements["sharpness"].sessions["2026-01-04"] == {"a/0": 4.0}
    assert "gone: m/e/test_f.json: session 2026-01-01" in capsys.readouterr().out
    assert cli.main(["prune", str(root), "--sessions", "none"]) == 2
    assert "--sessions: 'none' is no positive whole number" in capsys.readouterr().err


def test_tests_and_models_that_are_gone_go_with_their_media(root, capsys, monkeypatch):
    kept = store(root, test="test_x")
    lost = store(root, "latency", test="test_y")
    model = store(root, test="test_x", model="old", date="2026-01-02")
    collected = "benchmarks/test_f.py::test_x[m]\n\n1 test collected in 0.01s\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(collected))
    assert cli.main(["prune", str(root), "--tests", "-"]) == 0
    file = schema.read(root / "m/e/test_f.json")
    assert list(file.tests) == ["test_x[m]"]
    (baseline,) = file.workloads.values()
    assert list(baseline.measurements) == ["sharpness"]
    assert not (root / "old/e/test_f.json").exists()
    assert [p.exists() for p in (kept, lost, model)] == [True, False, False]
    assert "gone: m/e/test_f.json: test_y[m] is gone" in capsys.readouterr().out


def test_nothing_goes_where_nothing_fits_or_is_readable(root, capsys):
    store(root)
    before = files(root)
    assert cli.main(["prune", str(root), "--tests", "tests/test_typo.py::test_x[m]"]) == 2
    assert "everything would go" in capsys.readouterr().err
    (root / "n/e").mkdir(parents=True)
    (root / "n/e/test_f.json").write_text("{corrupt")
    assert cli.main(["prune", str(root), "--sessions", "1"]) == 2
    assert "is corrupt" in capsys.readouterr().err
    assert before.items() <= files(root).items()
    assert cli.main(["prune", str(root / "typo")]) == 2


def lines(capsys):
    return [line.split() for line in capsys.readouterr().out.splitlines()[1:]]


def test_diff_of_two_folders(root, tmp_path, capsys):
    other = tmp_path / "other"
    store(root, value=1.0)
    store(root, "latency", 2.0, test="test_y")
    store(other, value=0.9)
    store(other, "memory", 3.0, test="test_z")
    assert cli.main(["diff", str(root), str(other)]) == 0
    rows = {line[3]: line[5:] for line in lines(capsys)}
    assert rows == {
        "sharpness": ["mean", "1.0000", "0.9000", "-10.00%"],
        "latency": ["mean", "2.0000", "–", "–"],
        "memory": ["mean", "–", "3.0000", "–"],
    }


def test_diff_of_two_stacks_pairs_what_differs_in_the_environment_alone(root, tmp_path, capsys):
    other = tmp_path / "other"
    store(root, value=1.0, env="torch1")
    store(other, value=1.0, env="torch2")
    one = root / "m/torch1/test_f.json"
    assert cli.main(["diff", str(one), str(other / "m/torch2/test_f.json")]) == 0
    (row,) = lines(capsys)
    assert row[4:] == ["(torch1", "→", "torch2)", "mean", "1.0000", "1.0000", "none"]


def test_diff_of_what_is_neither(root, tmp_path, capsys):
    store(root)
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"schema": 1}))
    for wrong in (path, tmp_path / "none", tmp_path / "blobs-baselines"):
        assert cli.main(["diff", str(root), str(wrong)]) == 2
        assert "vdb: " in capsys.readouterr().err


def test_a_folder_without_baselines_empties_no_store(root, tmp_path, capsys):
    medium = store(root)
    (tmp_path / "wrong").mkdir()
    assert cli.main(["prune", str(tmp_path / "wrong"), "--store", str(root / "media")]) == 2
    assert "holds no baseline files" in capsys.readouterr().err
    assert medium.exists()


def test_a_collection_with_errors_is_no_list_of_tests(root, capsys, monkeypatch):
    store(root, test="test_x")
    store(root, test="test_y")
    before = files(root)
    collected = "test_f.py::test_x[m]\n\nERROR test_g.py - ImportError\n1 test, 1 error\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(collected))
    assert cli.main(["prune", str(root), "--tests", "-"]) == 2
    assert "could not collect everything (ERROR test_g.py - Imp" in capsys.readouterr().err
    assert files(root) == before


def test_one_lock_for_everybody_and_none_in_git(root, capsys, monkeypatch):
    store(root)
    monkeypatch.setenv("TMPDIR", str(root.parent / "elsewhere"))
    monkeypatch.setattr(update, "LOCK_SECONDS", 0.1)
    with update.lock(root):
        assert cli.main(["prune", str(root), "--dry-run"]) == 0  # it writes nothing
        assert cli.main(["prune", str(root)]) == 2
        assert "another process has held" in capsys.readouterr().err
        with pytest.raises(BaselineWriteError, match="has held"):
            store(root, date="2026-01-02")
    assert cli.main(["prune", str(root)]) == 0
    command = ["git", "-C", str(root.parent), "status", "--porcelain", "--untracked-files=all"]
    subprocess.run(["git", "init", "-q", str(root.parent)], check=True)
    assert ".pytest-vdb" not in subprocess.check_output(command, text=True)


def test_a_place_that_cannot_be_locked_or_pruned_is_said(root, capsys):
    store(root)
    lost = root / f"media/ab/{'ab' * 32}.webp"
    lost.mkdir(parents=True)  # no file, whatever its name says
    assert cli.main(["prune", str(root)]) == 2
    assert f"{lost} was not removed: " in capsys.readouterr().err
    shutil.rmtree(root / update.LOCK)
    (root / update.LOCK).write_text("")
    assert cli.main(["prune", str(root)]) == 2
    assert "cannot be locked: " in capsys.readouterr().err


def test_a_file_nested_deeper_than_anybody_reads(root, capsys):
    store(root)
    path = root / "m/e/test_f.json"
    deep = "[" * 900 + "]" * 900
    path.write_text(path.read_text().replace('"num_frames": 5', f'"num_frames": {deep}'))
    assert cli.main(["prune", str(root)]) == 2
    assert "is corrupt (" in capsys.readouterr().err
