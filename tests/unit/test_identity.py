"""What tells one state of code and weights from another, and what nobody can tell."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

import pytest

from pytest_vdb.errors import Unidentified
from pytest_vdb.measure import identity
from pytest_vdb.models.identity import folder_sha256, weights_identity
from pytest_vdb.records import ModelSpec


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *who, *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with an ignored build, which is all that is on ``sys.path``."""
    root = tmp_path / "repo"
    root.mkdir()
    (root / "model.py").write_text("steps = 8\n")
    (root / ".gitignore").write_text("*.so\n*.log\n")
    (root / "kernel.so").write_bytes(b"built")
    git(root, "init", "--quiet")
    git(root, "add", "-A")
    git(root, "commit", "--quiet", "-m", "one")
    sysconfig.get_paths()  # imports what it reads
    monkeypatch.setattr("sys.path", [str(root)])
    return root


CHANGES = {
    "an edit": ("model.py", "steps = 9\n", True),
    "a new file": ("config.txt", "cfg\n", True),
    "an ignored build": ("kernel.so", "built again", True),
    "an ignored log": ("run.log", "hello\n", False),
    "a cache of Python's": ("__pycache__/model.pyc", "x", False),
    "what runs write": ("baselines/m.json", "{}", False),
}


@pytest.mark.parametrize("change", CHANGES)
def test_code_is_known_by_its_content(repo: Path, change: str) -> None:
    name, text, matters = CHANGES[change]
    outputs = [repo / "baselines"]
    before = identity.code_identity(repo, outputs)
    assert before == identity.code_identity(repo, outputs)
    (repo / name).parent.mkdir(exist_ok=True)
    (repo / name).write_text(text)
    assert (identity.code_identity(repo, outputs) != before) is matters


def test_a_commit_of_the_same_files_is_the_same_code(repo: Path) -> None:
    before = identity.code_identity(repo)
    git(repo, "commit", "--quiet", "--allow-empty", "-m", "two")
    assert identity.code_identity(repo) == before


@pytest.mark.parametrize("committed", [True, False], ids=["clone", "without a commit"])
def test_a_repository_in_an_ignored_folder_counts(repo: Path, committed: bool) -> None:
    (repo / ".git" / "info" / "exclude").write_text("third_party\n")
    clone = repo / "third_party" / "lib"
    clone.mkdir(parents=True)
    (clone / "lib.py").write_text("x = 1\n")
    git(clone, "init", "--quiet")
    if committed:
        git(clone, "add", "-A")
        git(clone, "commit", "--quiet", "-m", "lib")
    before = identity.code_identity(repo)
    (clone / "lib.py").write_text("x = 2\n")
    assert identity.code_identity(repo) != before


def test_variables_that_choose_kernels_count(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = identity.code_identity(repo)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.setenv("BUILD_NUMBER", "7")
    assert identity.code_identity(repo) == before
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    assert identity.code_identity(repo) != before


def test_an_editable_install_counts_by_its_source(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site-packages"
    info = site / "lib-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lib\nVersion: 1\n")
    (info / "RECORD").write_text("lib.py,sha256=abc,1\n")
    monkeypatch.setattr("sys.path", [str(site)])
    installed = identity.code_identity(repo)
    (info / "RECORD").write_text("lib.py,sha256=xyz,1\n")  # the same version, built again
    assert identity.code_identity(repo) != installed
    source = tmp_path / "lib source"
    source.mkdir()
    (source / "lib.py").write_text("x = 1\n")
    url = source.as_uri()
    (info / "direct_url.json").write_text(f'{{"url": "{url}", "dir_info": {{"editable": true}}}}')
    with pytest.raises(Unidentified, match="lib source holds is not known"):
        identity.code_identity(repo)
    git(source, "init", "--quiet")
    git(source, "add", "-A")
    git(source, "commit", "--quiet", "-m", "lib")
    before = identity.code_identity(repo)
    (source / "lib.py").write_text("x = 2\n")
    assert identity.code_identity(repo) != before


def test_what_git_does_not_tell_is_not_known(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loose = tmp_path / "loose"
    loose.mkdir()
    monkeypatch.setattr("sys.path", [str(repo), str(loose)])
    with pytest.raises(Unidentified, match="loose holds is not known"):
        identity.code_identity(repo)
    monkeypatch.setattr("sys.path", [str(repo)])
    monkeypatch.setattr(identity, "LOOSE", 10)
    (repo / "data.bin").write_bytes(b"0" * 11)
    with pytest.raises(Unidentified, match=r"not committed \(data\.bin among them\)"):
        identity.code_identity(repo)


def test_a_folder_of_weights_is_known_by_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "vae").mkdir(parents=True)
    (folder / "vae" / "model.safetensors").write_bytes(b"1")
    spec = ModelSpec("m", "diffusers", str(folder))
    before = weights_identity(spec)
    (folder / "vae" / "config.json").write_text("{}")
    folder_sha256.cache_clear()
    assert weights_identity(spec) != before
    part = ModelSpec("m", "diffusers", str(folder), options={"transformer": str(folder / "vae")})
    assert len(weights_identity(part)) == 2
    (folder / "transformer").symlink_to(tmp_path, target_is_directory=True)
    folder_sha256.cache_clear()
    with pytest.raises(Unidentified, match="transformer is a link to a folder"):
        weights_identity(spec)
    folder_sha256.cache_clear()


COMMIT = "8227dddca75a8561bf858d604cc5dae52b954d01"


def test_a_pinned_commit_and_a_declared_revision_are_known() -> None:
    assert weights_identity(ModelSpec("m", "diffusers", "org/m", COMMIT)) == [f"org/m@{COMMIT}"]
    assert weights_identity(ModelSpec("m", "factory", "ours:build", "v2")) == ["v2 "]
    tiny = ModelSpec("tiny-wan", "factory", "pytest_vdb.models.embedded:tiny_wan")
    assert weights_identity(tiny) == [tiny.location]


@pytest.mark.parametrize(
    ("spec", "todo"),
    [
        (ModelSpec("m", "diffusers", "org/m", "main"), "--vdb-model=org/m@COMMIT"),
        (ModelSpec("m", "factory", "ours:build"), "revision="),
        (ModelSpec("m", "endpoint", "http://x"), "behind a server"),
    ],
    ids=["branch", "factory", "server"],
)
def test_weights_that_nobody_knows_say_what_to_do(
    spec: ModelSpec, todo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(Unidentified) as error:
        weights_identity(spec)
    assert todo in str(error.value)
