"""The base side: refs, folders, interpreters and requirements, on real repositories."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy
import pytest

from pytest_vdb.errors import NoBase, NotInBase
from pytest_vdb.records import ModelSpec
from pytest_vdb.trial.base import Side, prepare


def git(where, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    command = ["git", "-C", str(where), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pytest-vdb"


@pytest.fixture
def repo(tmp_path, monkeypatch):
    """A repository whose package says 1 at ``main`` and 2 in the working tree."""
    root = tmp_path / "repo"
    (root / "ours").mkdir(parents=True)
    (root / "ours" / "__init__.py").write_text("VALUE = 1\n")
    git(root, "init", "--quiet")
    git(root, "add", "-A")
    git(root, "commit", "--quiet", "-m", "one")
    (root / "ours" / "__init__.py").write_text("VALUE = 2\n")
    monkeypatch.setattr(sys, "path", [str(root), *sys.path])
    return root


def value(side: Side, name: str = "ours.VALUE") -> str:
    """What a process of ``side`` imports."""
    module = name.rpartition(".")[0]
    script = (
        f"import sys; sys.path[:] = [*{side.path!r}, *sys.path, *{side.late!r}]; "
        f"import {module}; print({name})"
    )
    env = {**os.environ, "PYTHONSAFEPATH": "1"}
    command = [side.python, "-c", script]
    found = subprocess.run(command, cwd=side.cwd, env=env, capture_output=True, text=True)
    assert not found.returncode, found.stderr
    return found.stdout.strip()


def test_a_ref_is_checked_out_beside_the_repository(repo, cache):
    side = prepare("main", repo)
    assert side.commit == git(repo, "rev-parse", "main")
    assert side.label == f"main ({side.commit[:8]})"
    assert value(side) == "1"
    assert Path(side.path[0]).is_relative_to(cache)
    assert git(repo, "worktree", "list").count("\n") == 0  # the user's repository is untouched
    assert prepare("HEAD", repo).path == side.path  # once a commit


def test_a_module_that_the_base_lacks_is_not_taken_from_the_candidate(repo):
    (repo / "fresh.py").write_text("VALUE = 3\n")
    with pytest.raises(AssertionError, match="No module named 'fresh'"):
        value(prepare("main", repo), "fresh.VALUE")


def test_a_sub_folder_and_a_src_layout_are_found_in_the_base(repo, monkeypatch):
    (repo / "inner" / "src" / "laid").mkdir(parents=True)
    (repo / "inner" / "src" / "laid" / "__init__.py").write_text("VALUE = 4\n")
    git(repo, "add", "-A")
    git(repo, "commit", "--quiet", "-m", "two")
    (repo / "inner" / "src" / "laid" / "__init__.py").write_text("VALUE = 5\n")
    monkeypatch.setattr(sys, "path", [str(repo / "inner" / "src"), *sys.path])
    assert value(prepare("HEAD", repo / "inner"), "laid.VALUE") == "4"


def test_a_checkout_that_a_kill_left_half_done_is_made_anew(repo):
    side = prepare("main", repo)
    Path(f"{side.tree}.whole").unlink()
    Path(side.path[0], "ours", "__init__.py").unlink()
    assert value(prepare("main", repo)) == "1"


def test_setup_runs_once_a_commit_and_in_the_base_whatever_it_changes(repo):
    command = "echo built >> built.txt; echo VALUE = 9 > ours/__init__.py"
    for _ in range(2):
        side = prepare("main", repo, command)
    assert Path(side.path[0], "built.txt").read_text() == "built\n"
    assert value(side) == "9"
    assert not (repo / "built.txt").exists()
    assert value(prepare("main", repo)) == "1"  # without it, another tree


def test_code_beside_the_tests_root_is_the_bases_own(repo, monkeypatch):
    """pytest's root may be a folder of the repository whose code lies above it."""
    (repo / "benchmarks").mkdir()
    (repo / "benchmarks" / "pytest.ini").write_text("[pytest]\n")
    git(repo, "add", "-A")
    git(repo, "commit", "--quiet", "-m", "two")
    (repo / "ours" / "__init__.py").write_text("VALUE = 3\n")
    assert value(prepare("HEAD", repo / "benchmarks")) == "2"


def test_a_folder_that_the_base_lacks_is_named(repo):
    (repo / "new" / "model").mkdir(parents=True)
    with pytest.raises(NotInBase, match=r"--vdb-against=main has no folder new/model/$"):
        prepare("main", repo / "new" / "model")


def test_a_setup_that_fails_shows_its_last_lines(repo):
    with pytest.raises(NoBase, match=r"(?s)'echo no compiler; false' failed.*no compiler"):
        prepare("main", repo, "echo no compiler; false")


def test_a_folder(repo, tmp_path):
    (tmp_path / "other" / "ours").mkdir(parents=True)
    (tmp_path / "other" / "ours" / "__init__.py").write_text("VALUE = 7\n")
    assert value(prepare("../other", repo)) == "7"


@pytest.mark.parametrize("ref", ["no-such-branch", "--upload-pack=x", "main:ours"])
def test_no_such_ref(repo, ref):
    with pytest.raises(NoBase, match="no such ref or folder; git fetch origin"):
        prepare(ref, repo)


def test_a_shallow_clone_says_how_to_fetch_the_rest(repo, tmp_path):
    git(repo, "commit", "--quiet", "--allow-empty", "-m", "two")
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{repo}", "shallow")
    with pytest.raises(NoBase, match="fetch-depth: 0"):
        prepare("HEAD~1", tmp_path / "shallow")


def test_a_shallow_clone_that_has_the_ref_is_enough(repo, tmp_path):
    git(repo, "commit", "--quiet", "-am", "two")
    git(repo, "branch", "old", "HEAD~1")
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{repo}", "shallow")
    shallow, linked = tmp_path / "shallow", tmp_path / "linked"
    git(shallow, "fetch", "--quiet", "--depth=1", "origin", "old:refs/remotes/origin/old")
    git(shallow, "worktree", "add", "--quiet", str(linked))
    before = git(shallow, "rev-list", "--all", "--objects")
    for root in (shallow, linked):
        assert value(prepare("origin/old", root)) == "1"
        side = prepare("HEAD", root)
        assert value(side) == "2"
        assert git(side.tree, "log", "--format=%s") == "two"  # a setup may ask for a version
    assert git(shallow, "rev-list", "--all", "--objects") == before


def test_a_partial_clone_without_the_bases_files_says_so(repo, tmp_path):
    git(repo, "commit", "--quiet", "-am", "two")
    git(repo, "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "--quiet", "--filter=blob:none", f"file://{repo}", "partial")
    with pytest.raises(
        NoBase,
        match=r"lacks 1 of its files, such as ours/__init__.py; in a partial clone, git fetch",
    ):
        prepare("HEAD~1", tmp_path / "partial")
    git(tmp_path / "partial", "fetch", "--quiet", "--refetch", "--no-filter")
    assert value(prepare("HEAD~1", tmp_path / "partial")) == "1"


def test_outside_a_repository(tmp_path):
    with pytest.raises(NoBase, match="is in no git repository"):
        prepare("main", tmp_path)


def test_another_interpreter_imports_its_own_first_and_this_checkout_last(repo, tmp_path):
    side = prepare(f"python:{sys.executable}", repo)
    assert side.path == ()
    assert str(repo) in side.late
    assert value(side) == "2"
    with pytest.raises(NoBase, match="no interpreter at"):
        prepare("python:nowhere", repo)


def test_an_interpreter_without_what_is_needed(repo, tmp_path):
    import venv

    venv.create(tmp_path / "bare")
    with pytest.raises(NoBase, match=r"(?s)install there what.*No module named 'torch'"):
        prepare(f"python:{tmp_path / 'bare'}", repo)


def test_a_requirement_gets_an_environment_on_top_of_this_one(repo, tmp_path):
    wheel = tmp_path / "vdb_tiny-2.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("vdb_tiny.py", "VALUE = 8\n")
        about = "Metadata-Version: 2.1\nName: vdb-tiny\nVersion: 2.0\n"
        archive.writestr("vdb_tiny-2.0.dist-info/METADATA", about)
        archive.writestr("vdb_tiny-2.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("vdb_tiny-2.0.dist-info/RECORD", "")
    side = prepare(f"vdb_tiny @ file://{wheel}", repo)
    assert value(side, "vdb_tiny.VALUE") == "8"
    assert value(side) == "2"  # the checkout is the candidate's
    assert value(side, "numpy.__version__") == numpy.__version__  # all else is shared
    wheel.unlink()
    assert prepare(f"vdb_tiny @ file://{wheel}", repo) == side  # built once


def test_a_requirement_that_nobody_has(repo, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(NoBase, match=r"(?s)pip install.*no-such-package"):
        prepare("no-such-package==1.2.3", repo)


def test_weights_in_the_repository_are_the_base_trees_own(repo):
    weights = repo / "weights"
    weights.mkdir()
    (weights / "model_index.json").write_text("{}")
    git(repo, "add", "-A")
    git(repo, "commit", "--quiet", "-m", "weights")
    side = prepare("HEAD", repo)
    ours = ModelSpec("ours", "diffusers", str(weights))
    assert side.model(ours).location == str(Path(side.path[0], "weights"))
    elsewhere = ModelSpec("hub", "diffusers", "org/model")
    assert side.model(elsewhere) is elsewhere


@pytest.mark.parametrize(
    "moving", ["diffusers>=0.30", "ours @ git+https://example.org/ours@main", "diffusers==0.*"]
)
def test_a_requirement_that_moves_is_refused(repo, moving):
    with pytest.raises(NoBase, match="names something that moves"):
        prepare(moving, repo)
