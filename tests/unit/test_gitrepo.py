"""Reading a commit that is not checked out, and what changed since, in real repositories"""

import subprocess

import pytest

from pytest_vdb import edits
from pytest_vdb.baseline.ref import inside
from pytest_vdb.errors import BadSetting, NoBase
from pytest_vdb.gitrepo import Ref, described
from pytest_vdb.report.edits import told as lines_of


def git(where, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    command = ["git", "-C", str(where), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def write(root, **files):
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def repo(tmp_path):
    root = tmp_path / "repo"
    root.mkdir()
    git(root, "init", "-q")
    write(root, baselines__m__e__x_DOT_json="{}", test_a_DOT_py="def test(vdb):\n    assert 1\n")
    write(root, pyproject_DOT_toml="[tool.pytest.ini_options]\nvdb_gate = 'fail'\n")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "one")
    return root


def test_a_commit_is_read_without_a_checkout(repo):
    write(repo, baselines__m__e__x_DOT_json="changed", baselines__m__e__y_DOT_json="new")
    ref = Ref.of("--flag", "main", repo / "baselines")
    assert ref.read("baselines/m/e/x.json") == b"{}"
    assert ref.read("baselines/m/e/y.json") is None
    assert ref.read("baselines/m") is None, "a folder is no file"
    assert ref.names("baselines") == ["baselines/m/e/x.json"]
    assert ref.names("nowhere") == []
    assert ref.below(repo / "baselines") == "baselines"
    assert ref.below(repo.parent) is None
    assert str(ref) == f"main ({git(repo, 'rev-parse', 'main')[:8]})"


@pytest.mark.parametrize("name", ["nowhere", "--output=x", "main:test_a.py"])
def test_what_is_no_commit_is_refused(repo, name):
    with pytest.raises(NoBase, match=r"--flag=.*has no such ref; git fetch origin"):
        Ref.of("--flag", name, repo)


def test_no_repository_at_all(tmp_path):
    (tmp_path / "plain").mkdir()
    with pytest.raises(NoBase, match="is in no git repository"):
        Ref.of("--flag", "main", tmp_path / "plain")


def test_a_shallow_clone_without_the_common_ancestor_says_fetch_depth(repo, tmp_path):
    git(repo, "switch", "-qc", "change")
    git(repo, "commit", "-q", "--allow-empty", "-m", "two")
    git(repo, "switch", "-q", "main")
    git(repo, "commit", "-q", "--allow-empty", "-m", "three")
    clone = tmp_path / "clone"
    git(
        repo,
        "clone",
        "-q",
        "--depth=1",
        "--no-single-branch",
        "-b",
        "change",
        f"file://{repo}",
        clone,
    )
    with pytest.raises(NoBase, match=r"no common ancestor: .*fetch-depth: 0"):
        Ref.of("--flag", "origin/main", clone).fork()
    assert Ref.of("--flag", "main", repo).fork() == git(repo, "rev-parse", "main")


def found(repo):
    ref = Ref.of("--flag", "main", repo)
    folders = {"baseline": repo / "baselines", "accepted": repo / "accepted"}
    told = edits.find(ref, folders, ["test_*.py"])
    return {edit.path: (edit.what, edit.how, *edit.lines) for edit in told.edits}


def test_only_what_belongs_to_the_gate_is_an_edit_of_it(repo):
    git(repo, "switch", "-qc", "change")
    write(repo, test_plain_DOT_py="def test(): assert 1\n", model_DOT_py="x = 1\n")
    ini = (repo / "pyproject.toml").read_text()
    write(repo, pyproject_DOT_toml=ini + "[project]\nname = 'x'\n")
    assert found(repo) == {}
    write(repo, pyproject_DOT_toml=ini.replace("fail", "warn"), accepted__run_DOT_json="{}")
    write(repo, _DOT_github__workflows__gate_DOT_yml="run: pytest", conftest_DOT_py="x = 1\n")
    (repo / "baselines/m/e/x.json").unlink()
    (repo / "test_a.py").unlink()
    assert found(repo) == {
        ".github/workflows/gate.yml": ("workflow", "added"),
        "accepted/run.json": ("accepted", "added"),
        "baselines/m/e/x.json": ("baseline", "deleted"),
        "conftest.py": ("configuration", "added"),
        "pyproject.toml": (
            *("configuration", "changed"),
            "line 2: 'fail' → 'warn', in vdb_gate = 'warn'",
        ),
        "test_a.py": ("benchmark", "deleted"),
    }


def test_where_the_ref_is_read_is_not_the_working_trees_to_say(repo):
    git(repo, "mv", "baselines", "other")
    (repo / "baselines").symlink_to("other")
    ref = Ref.of("--flag", "main", repo)
    assert ref.below(repo / "baselines/m") == "baselines/m"
    assert inside(ref, repo / "baselines", "--flag") == "baselines"
    (repo.parent / "way").symlink_to(repo)  # how one comes to the repository is another matter
    assert ref.below(repo.parent / "way/baselines") == "baselines"
    told = edits.find(ref, {"baseline": repo / "baselines"}, []).to_json()
    assert lines_of(told)[1:] == [
        "  baseline baselines/m/e/x.json deleted",
        "  baselines: baselines added",
    ]
    git(repo, "commit", "-qam", "linked", "--allow-empty")
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "linked")
    with pytest.raises(BadSetting, match=r"--flag=.*baselines is a symbolic link at main"):
        inside(Ref.of("--flag", "main", repo), repo / "baselines/m", "--flag")


def test_every_changed_line_of_a_marker_is_shown_and_no_attribute_hides_it(repo):
    bench = """import pytest

@pytest.mark.vdb(
    num_seeds=4,
    missing="fail",
)
def test(vdb):
    x = [1, "\x0c"]
"""
    write(repo, test_a_DOT_py=bench + "y = 0\n" * 30)
    git(repo, "commit", "-qam", "two")
    git(repo, "switch", "-qc", "change")
    write(repo, _DOT_gitattributes="*.py -diff\n")
    text = bench.replace("4,", "1,").replace("fail", "warn").replace("[1,", "[2,")
    write(repo, test_a_DOT_py=text.replace("import pytest", "import pytest as p") + "y = 1\n" * 30)
    what, how, *lines = found(repo)["test_a.py"]
    assert (what, how) == ("benchmark", "changed")
    assert lines[1:3] == [
        "line 4: num_seeds=4, → num_seeds=1,, in num_seeds=1,",
        """line 5: missing="fail", → missing="warn",, in missing="warn",""",
    ]
    assert lines[3].startswith("line 8: [1, → [2,")
    assert len(lines) == 2 + 20 + 1
    assert lines[-1] == "12 more changed lines"


def test_what_main_gained_since_is_no_edit_of_the_change(repo):
    git(repo, "branch", "change")
    write(repo, test_a_DOT_py="def test(vdb):\n    assert 2\n")
    git(repo, "commit", "-qam", "main moves on")
    git(repo, "switch", "-q", "change")
    assert found(repo) == {}


def test_the_commit_of_a_run_says_whether_the_tree_has_changes(repo, tmp_path):
    assert described(repo) == git(repo, "rev-parse", "HEAD")[:12]
    write(repo, test_a_DOT_py="")
    assert described(repo).endswith("+")
    assert described(tmp_path) == ""
