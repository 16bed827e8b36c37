"""The base side of a comparison: where its code comes from, made ready to be run.

``--vdb-against`` names a git ref, a folder, ``python:PATH`` or a requirement. A git ref is checked
out beside the repository, once a commit; a requirement gets an environment of its own, once.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from filelock import FileLock

from pytest_vdb import gitrepo
from pytest_vdb.errors import NoBase, NotInBase
from pytest_vdb.gitrepo import commit, git, run, tail
from pytest_vdb.places import cache_folder, public
from pytest_vdb.records import ModelSpec

REQUIREMENT = re.compile(r"[A-Za-z0-9][\w.-]*(\[[\w, -]+\])?\s*(==|>=|<=|~=|!=|<|>|@\s).+")

INSTALLED = {"site-packages", "dist-packages"}
PINNED = re.compile(r"==\s*[^*,]+$|[0-9a-f]{40}|\.whl$")


@dataclass(frozen=True)
class Side:
    """How a child process runs one side.

    ``path`` comes first on its ``sys.path`` and ``late`` last; ``python`` is its interpreter,
    ``cwd`` the folder that it runs in (None: this process's). Of a side that is a tree, ``tree``
    stands for the candidate's ``top``.
    """

    label: str
    path: tuple[str, ...]
    late: tuple[str, ...] = ()
    python: str = sys.executable
    commit: str = ""
    cwd: str | None = None
    tree: str | None = None
    top: str | None = None

    def owns(self, path: Path) -> bool:
        """Whether ``path`` is no code of the candidate's own tree, what is installed left out."""
        if self.top is None or self.tree is None or INSTALLED & set(path.parts):
            return True
        return path.is_relative_to(self.tree) or not path.is_relative_to(self.top)

    def model(self, spec: ModelSpec) -> ModelSpec:
        """``spec`` as this side has it: a folder of weights in the repository is the tree's own."""
        if self.tree is None or self.top is None or spec.source != "diffusers":
            return spec
        place = Path(spec.location).resolve()
        if not place.is_dir() or not place.is_relative_to(self.top):
            return spec
        twin = Path(self.tree, place.relative_to(self.top))
        return replace(spec, location=str(twin)) if twin.is_dir() else spec


def candidate(path: Sequence[str] | None = None) -> Side:
    """The code under test: this process's own."""
    return Side("candidate", tuple(sys.path if path is None else path))


def prepare(base: str, root: Path, setup: str | None = None) -> Side:
    """The side that ``base`` names, for the repository at ``root``.

    ``setup`` is a shell command that is run once in a new checkout, for code that compiles. Raises
    NoBase: no such ref, folder or interpreter, or a command that failed; NotInBase: the ref has no
    folder ``root``.
    """
    check(base, root)
    if base.startswith("python:"):
        return _interpreter(base.removeprefix("python:"), root)
    if REQUIREMENT.fullmatch(base):
        return _requirement(base, root)
    folder = root / base
    if folder.is_dir() and commit(root, base) is None:
        return _tree(base, folder.resolve(), root.resolve(), root, "")
    return _checkout(base, root, setup)


def check(base: str, root: Path) -> None:
    """Raise NoBase for what `prepare` could not find, before anything is run."""
    if base.startswith("python:"):
        _python(base.removeprefix("python:"), root)
        return
    folder = root / base
    if folder.is_dir() and folder.samefile(root):
        raise NoBase(f"--vdb-against={base} is the candidate's own folder; name another, or a ref")
    if REQUIREMENT.fullmatch(base) and not PINNED.search(base):
        raise NoBase(
            f"--vdb-against={base} names something that moves, and a base is kept once it is "
            "made: pin it, as diffusers==0.41.0, a commit's full hash, or a wheel"
        )
    if not (REQUIREMENT.fullmatch(base) or folder.is_dir()) and commit(root, base) is None:
        raise NoBase(_no_ref(base, root))


# ------------------------------------------------------------------ a tree


def _checkout(ref: str, root: Path, setup: str | None) -> Side:
    sha = commit(root, ref)
    if sha is None:
        raise NoBase(_no_ref(ref, root))
    top = gitrepo.top(root).resolve()
    name = sha[:16] + (f"-{_digest([setup])[:8]}" if setup else "")
    tree = cache_folder() / "bases" / f"{top.name}-{_digest([str(top)])}" / name
    tree.parent.mkdir(parents=True, exist_ok=True)
    whole = Path(f"{tree}.whole")  # a kill may leave half of a tree, and a setup changes its files
    with FileLock(f"{tree}.lock"):
        if not whole.exists() or not tree.is_dir():
            shutil.rmtree(tree, ignore_errors=True)
            _share(top, tree)
            git(tree, "checkout", "--quiet", "--detach", sha)
            if lost := git(tree, "ls-files", "--deleted").splitlines():  # git's status is 0
                raise NoBase(
                    f"--vdb-against={ref}: the repository at {top} lacks {len(lost)} of its files, "
                    f"such as {lost[0]}; in a partial clone, git fetch --refetch --no-filter first"
                )
            if setup:
                _set_up(tree, setup)
            whole.touch()
    here = root.resolve().relative_to(top)
    if not (tree / here).is_dir():
        raise NotInBase(f"--vdb-against={ref} has no folder {here}/")
    return _tree(f"{ref} ({sha[:8]})", tree, top, root, sha)


def _share(top: Path, tree: Path) -> None:
    """A repository at ``tree`` on the objects of ``top``'s: nothing is written into the user's."""
    if git(top, "rev-parse", "--is-shallow-repository") != "true":
        git(top, "clone", "--quiet", "--shared", "--no-checkout", str(top), str(tree))
        return
    # A shallow one git does not share: it copies branches and tags, and the base may be neither.
    git(top, "init", "--quiet", str(tree))
    objects = top / git(top, "rev-parse", "--git-path", "objects")
    Path(tree, ".git", "objects", "info", "alternates").write_text(f"{objects}\n")
    shutil.copy(top / git(top, "rev-parse", "--git-path", "shallow"), tree / ".git")


def _tree(label: str, tree: Path, top: Path, root: Path, commit: str) -> Side:
    """A side whose code lies in ``tree`` as the candidate's lies in ``top``."""
    here = tree / root.resolve().relative_to(top)
    path = [here]
    for entry in map(Path, _sources()):
        if not entry.is_relative_to(top):
            path.append(entry)
        elif (twin := tree / entry.relative_to(top)).is_dir():
            path.append(twin)
    if (here / "src").is_dir():
        path.insert(1, here / "src")
    unique = tuple(dict.fromkeys(map(str, path)))
    return Side(label, unique, commit=commit, cwd=str(here), tree=str(tree), top=str(top))


def _sources() -> list[str]:
    """What of ``sys.path`` is neither installed nor Python's own."""
    own = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")}
    places = [str(Path(entry).resolve()) for entry in sys.path if entry]
    return [
        place
        for place in dict.fromkeys(places)
        if Path(place).is_dir()
        and not {*INSTALLED, "lib-dynload"} & set(Path(place).parts)
        and place not in own
    ]


def _set_up(tree: Path, command: str) -> None:
    result = subprocess.run(
        command, shell=True, cwd=tree, capture_output=True, text=True, errors="replace"
    )
    if result.returncode:
        raise NoBase(
            f"--vdb-base-setup {command!r} failed in {tree} with status {result.returncode}; "
            f"its last lines:{tail(result.stdout + result.stderr)}"
        )


def _no_ref(ref: str, root: Path) -> str:
    instead = (
        "name a folder, python:PATH of another environment, or a requirement such as "
        "diffusers==0.41.0"
    )
    return gitrepo.no_ref("--vdb-against", ref, root, instead=instead, kind="ref or folder")


# ------------------------------------------------------------------ another environment


def _python(path: str, root: Path) -> Path:
    """``python:PATH``: an interpreter, or the folder of a virtual environment."""
    place = (root / os.path.expanduser(path)).absolute()  # a link to it is what makes a venv
    found = next((p for p in (place, place / "bin" / "python") if p.is_file()), None)
    if found is None:
        raise NoBase(
            f"--vdb-against=python:{path}: no interpreter at {place} or {place}/bin/python"
        )
    return found


def _interpreter(path: str, root: Path) -> Side:
    found = _python(path, root)
    says = "import torch, pytest, numpy, filelock; print(torch.__version__)"
    try:
        run([str(found), "-c", says])
    except NoBase as error:
        raise NoBase(
            f"--vdb-against=python:{path}: install there what the model and pytest-vdb need; "
            f"{error}"
        ) from None
    # What that environment has installed comes before this checkout, which it may need all the same
    return Side(f"python:{path}", (), late=tuple(_sources()), python=str(found))


def _requirement(requirement: str, root: Path) -> Side:
    """An environment on top of this one, in which ``requirement`` and what it asks for differ."""
    here = sorted(f"{d.name} {d.version}" for d in metadata.distributions())
    told = [requirement, sys.prefix, sys.version, *here]
    name = re.sub(r"[^\w.=-]+", "_", requirement)[:40]
    folder = cache_folder() / "environments" / f"{name}-{_digest(told)}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    python, ready = folder / "bin" / "python", folder / "ready"
    with FileLock(f"{folder}.lock"):
        if not ready.exists():
            shutil.rmtree(folder, ignore_errors=True)
            venv.create(folder)
            below = sysconfig.get_path("purelib", vars={"base": str(folder)})
            packages = [entry for entry in sys.path if "site-packages" in Path(entry).parts]
            lines = [f"import site; site.addsitedir({entry!r})" for entry in packages]
            Path(below, "_parent.pth").write_text("\n".join(lines) + "\n")
            run([str(python), "-m", "pip", "install", "--quiet", requirement])
            ready.touch()
    return Side(public(requirement), tuple(_sources()), python=str(python))


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
