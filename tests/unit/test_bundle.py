"""Bundles: what is packed, and what a hostile one is refused for."""

from __future__ import annotations

import json
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_vdb import cli, keep
from pytest_vdb.bundle import archive
from pytest_vdb.bundle.contents import Contents, opened
from pytest_vdb.errors import BadBundle, BadRun
from pytest_vdb.replay import flags
from tests.unit.a_run import MEDIUM, NODEID, SOURCE, a_run, sha


def kept(folder: Path, run: dict[str, Any]) -> Path:
    """The results of ``run`` with what was kept beside them."""
    results = folder / "run.json"
    results.write_text(json.dumps(run))
    for path, content in {
        keep.folder(results) / "media" / f"{sha(MEDIUM)}.webp": MEDIUM,
        keep.folder(results) / "source/benchmarks/test_it.py": SOURCE,
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return results


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    assert cli.main(["bundle", str(kept(tmp_path, a_run()))]) == 0
    return tmp_path / "run.zip"


def unpacked(bundle: Path, folder: Path) -> Contents:
    folder.mkdir()
    archive.unpack(bundle, folder)
    return opened(folder)


def rewrite(bundle: Path, changed: dict[str, bytes | None]) -> None:
    """Other members in ``bundle``, as somebody leaves it who does not think of the hashes."""
    with zipfile.ZipFile(bundle) as old:
        members = {name: old.read(name) for name in old.namelist()} | changed
    with zipfile.ZipFile(bundle, "w") as new:
        for name, content in members.items():
            if content is not None:
                new.writestr(name, content)


# ------------------------------------------------------------------------- what is packed


def test_a_bundle_holds_what_the_run_was_made_of(bundle: Path, tmp_path: Path) -> None:
    found = unpacked(bundle, tmp_path / "x")
    members = {p.relative_to(tmp_path / "x").as_posix() for p in (tmp_path / "x").rglob("*.*")}
    assert members == {
        *("run.json", "lock.txt", "prompts.jsonl", "environment.json"),
        *(f"media/{sha(MEDIUM)}.webp", "source/benchmarks/test_it.py"),
    }
    assert found.run["tests"][0]["nodeid"] == NODEID
    assert (tmp_path / "x/lock.txt").read_text() == "pillow==12.0\ntorch==2.13.0+cpu\n"
    first, _ = (tmp_path / "x/prompts.jsonl").read_text().splitlines()
    assert json.loads(first)["text_sha256"] == sha(b"a fox")
    assert json.loads((tmp_path / "x/environment.json").read_text())["weights"] == {"m": ["abc"]}


def test_the_same_run_gives_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    first = bundle.read_bytes()
    assert cli.main(["bundle", str(tmp_path / "run.kept"), "-o", str(bundle)]) == 0
    assert bundle.read_bytes() == first


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("no keep", "was written without --vdb-keep"),
        ("no medium", "media/ lacks a video of the run"),
        ("other source", "source/benchmarks/test_it.py is not the file"),
        ("why", "was not kept: the disk is full"),
        ("statistics", "sharpness of .*: the statistics are not its samples'"),
        ("outside", "what no run keeps, in .*/etc/passwd"),
        ("environment", "what no run keeps, in .*: environments"),
        ("no numbers", "what no run keeps, in sharpness: statistics"),
        ("no commit", "holds what no run of ours writes .*commit"),
        ("no workload", "no test got to its workload"),
    ],
)
def test_half_a_run_is_no_bundle(
    tmp_path: Path, change: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = a_run()
    test = run["tests"][0]
    if change == "no keep":
        del run["kept"]
    elif change == "why":
        test["kept"] = {"why": "the disk is full"}
    elif change == "statistics":
        test["measurements"][0]["statistics"]["mean"] = 0.9
    elif change == "outside":
        test["kept"]["source"]["../../etc/passwd"] = sha(b"")
    elif change == "environment":
        test["environments"]["performance"] = "../../out"
    elif change == "no numbers":
        test["measurements"][0]["statistics"]["mean"] = "0.6"
    elif change == "no commit":
        del run["commit"]
    elif change == "no workload":
        test["workload"] = None
    results = kept(tmp_path, run)
    if change == "no medium":
        (tmp_path / f"run.kept/media/{sha(MEDIUM)}.webp").unlink()
    elif change == "other source":
        (tmp_path / "run.kept/source/benchmarks/test_it.py").write_text("def test(): ...")
    with pytest.raises(BadRun, match=words):
        Contents(results, keep.folder(results)).members()
    assert cli.main(["bundle", str(results)]) == 2
    assert capsys.readouterr().err.startswith("vdb: ")
    assert not (tmp_path / "run.zip").exists()


def test_somebody_elses_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run.zip").write_text("my thesis")
    assert cli.main(["bundle", str(kept(tmp_path, a_run()))]) == 2
    assert (tmp_path / "run.zip").read_text() == "my thesis"


# ------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("lock.txt", b"torch==1.0"),
        ("prompts.jsonl", b""),
        ("source/benchmarks/test_it.py", b"import os"),
        ("source/conftest.py", b"import os"),
        ("environment.json", None),
        ("manifest.json", None),
        ("manifest.json", b'{"schema": 1, "files": {}}'),
        ("manifest.json", b"[" * 100_000),
    ],
    ids=["lock", "prompts", "source", "more", "less", "no manifest", "empty", "deep"],
)
def test_whatever_is_altered_is_red(
    bundle: Path, name: str, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["verify", "--no-rerun", str(bundle)]) == 0
    rewrite(bundle, {name: content})
    assert cli.main(["verify", "--no-rerun", str(bundle)]) == 1
    assert "NOT VERIFIED: " in capsys.readouterr().out


@pytest.mark.parametrize(
    "name",
    [
        "../out.txt",
        "/out.txt",
        "a/../../out.txt",
        "C:/out.txt",
        "a\\..\\out.txt",
        "a//b",
        "./a",
        "a.",
    ],
)
def test_no_member_leaves_the_folder(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(name, "x")
    (tmp_path / "in").mkdir()
    with pytest.raises(BadBundle, match="whose path is none inside of it"):
        archive.unpack(path, tmp_path / "in")
    assert [*(tmp_path / "in").iterdir()] == []
    assert not (tmp_path / "out.txt").exists()


def member(name: str = "a", **how: Any) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    for key, value in how.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([member(external_attr=(stat.S_IFLNK | 0o777) << 16)], "which is no plain file"),
        ([member(external_attr=(stat.S_IFIFO | 0o777) << 16)], "which is no plain file"),
        ([member("a/")], "whose path is none"),
        ([member("a"), member("A")], "'A'.* twice"),
        ([member(compress_type=zipfile.ZIP_LZMA)], "compressed as nothing of ours"),
        ([member()], r"has no manifest\.json"),
    ],
    ids=["link", "pipe", "folder", "twice", "lzma", "manifest"],
)
def test_no_member_is_anything_but_a_file(tmp_path: Path, members: Any, words: str) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as file:
        for info in members:
            file.writestr(info, "" if info.is_dir() else "/etc/passwd")
    with pytest.raises(BadBundle, match=words):
        archive.unpack(path, tmp_path / "in")


def test_a_bomb_fills_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "ROOM", 2**16)
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.txt", b"\0" * 2**22)
    with pytest.raises(BadBundle, match="no honest archive does"):
        archive.unpack(path, tmp_path / "in")


def test_a_member_longer_than_it_says_is_cut(bundle: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(bundle) as file:
        manifest = json.loads(file.read("manifest.json"))
    manifest["files"]["lock.txt"]["bytes"] -= 1
    rewrite(bundle, {"manifest.json": json.dumps(manifest).encode()})
    with pytest.raises(BadBundle, match=r"lock\.txt was altered"):
        unpacked(bundle, tmp_path / "x")


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(data=st.data())
def test_a_flipped_byte_is_told_or_changes_nothing(
    bundle: Path, tmp_path_factory: Any, data: Any
) -> None:
    content = bytearray(bundle.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    folder = tmp_path_factory.mktemp("flipped")
    (folder / "x.zip").write_bytes(content)
    try:
        found = unpacked(folder / "x.zip", folder / "x")
    except BadBundle:
        return
    assert json.dumps(found.run) == json.dumps(a_run())  # it was a date of the archive, say


def test_a_bundle_chooses_no_command_and_no_file() -> None:
    said = ["--vdb-model=m", "--vdb-serve=rm -rf ~", "--vdb-json=/etc/x", "--vdb-update", "-p evil"]
    here = Path("/here")
    assert [*flags([*said, "--vdb-videos=clips"], here)] == [
        "--vdb-model=m",
        "--vdb-videos=/here/clips",
    ]


def test_a_bundle_decides_what_a_test_is_and_no_more() -> None:
    assert keep.is_replayed("python_files")
    assert keep.is_replayed("vdb_pool")
    for key in ("addopts", "log_file", "vdb_json", "vdb_videos", "pool", "model", "vdb_serve"):
        assert not keep.is_replayed(key)
