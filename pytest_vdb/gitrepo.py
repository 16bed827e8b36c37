"""Git, asked by its plumbing: what a ref names, which files it holds, what changed since."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pytest_vdb.errors import NoBase

DESCRIBE_SECONDS = 20.0
"""What a look at a very large tree may take, for a fact that is only shown."""

TAIL = 15
"""Lines of a failed command that a message shows."""


def run(command: Sequence[str]) -> str:
    """What ``command`` prints. Raises NoBase with its last lines where it fails."""
    return output(command).decode(errors="replace").strip()


def output(command: Sequence[str], timeout: float | None = None) -> bytes:
    """The bytes that ``command`` prints. Raises NoBase with its last lines where it fails."""
    # A hook that calls us sets GIT_DIR and others, which are about another repository.
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        result = subprocess.run(command, capture_output=True, env=env, timeout=timeout)
    except OSError as error:
        raise NoBase(f"{command[0]} cannot be run: {error.strerror or error}") from None
    except subprocess.TimeoutExpired:
        raise NoBase(f"{' '.join(command)} took longer than {timeout:g} s") from None
    if result.returncode:
        told = (result.stderr or result.stdout).decode(errors="replace")
        raise NoBase(f"{' '.join(command)} failed:{tail(told)}")
    return result.stdout


def tail(text: str) -> str:
    return "".join(f"\n  | {line}" for line in text.strip().splitlines()[-TAIL:])


def git(where: Path, *arguments: str) -> str:
    return run(["git", "-C", str(where), *arguments])


def top(where: Path) -> Path:
    """The root of the working tree that holds ``where``. Raises NoBase."""
    return Path(git(where, "rev-parse", "--show-toplevel"))


def commit(where: Path, ref: str) -> str | None:
    """The full hash of what ``ref`` names in the repository at ``where``, or None."""
    if ref.startswith("-"):
        return None
    try:
        return git(where, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
    except NoBase:
        return None


def described(where: Path) -> str:
    """The checked-out commit, with ``+`` where the tree has changes; empty outside git."""
    try:
        how = ("--always", "--abbrev=12", "--dirty=+", "--exclude=*")
        command = ["git", "-C", str(where), "describe", *how]
        return output(command, timeout=DESCRIBE_SECONDS).decode(errors="replace").strip()
    except NoBase:
        return ""


def no_ref(flag: str, ref: str, where: Path, *, instead: str, kind: str = "ref") -> str:
    """Why ``flag`` cannot have ``ref``, and what to do; ``instead`` serves outside git."""
    try:
        shallow = git(where, "rev-parse", "--is-shallow-repository") == "true"
    except NoBase:
        return f"{flag}={ref}: {where} is in no git repository; {instead}"
    known = f"git fetch origin {ref}, or name a ref that git rev-parse knows"
    todo = UNSHALLOW if shallow else known
    return f"{flag}={ref}: the repository at {where} has no such {kind}; {todo}"


UNSHALLOW = (
    "this clone is shallow: fetch all of it (actions/checkout with fetch-depth: 0, or "
    "git fetch --unshallow)"
)


LINK = b"120000"
"""Git's mode of a symbolic link."""


@dataclass(frozen=True)
class Ref:
    """A commit that is read without being checked out. Paths are below ``top``, its root."""

    name: str
    commit: str
    top: Path

    @classmethod
    def of(cls, flag: str, name: str, where: Path) -> Self:
        """What ``name``, the value of ``flag``, names for ``where``. Raises NoBase."""
        found = commit(where, name)
        if found is None:
            instead = "leave it out, or run where the repository is"
            raise NoBase(no_ref(flag, name, where, instead=instead))
        return cls(name, found, top(where).resolve())

    def __str__(self) -> str:
        return f"{self.name} ({self.commit[:8]})"

    def below(self, path: Path) -> str | None:
        """``path`` as this commit calls it, or None for what lies outside the repository.

        No link below the root is followed: it would be the working tree's, and not this commit's.
        """
        whole = Path(os.path.abspath(path))
        for folder in reversed((whole, *whole.parents)):
            if folder.resolve() == self.top:
                return whole.relative_to(folder).as_posix()
        return None

    def read(self, path: str) -> bytes | None:
        """The file at ``path``, or None where the commit has none. Raises NoBase."""
        fields = self._entry(path)
        if len(fields) != 3 or fields[1] != b"blob":
            return None
        return self._git("cat-file", "blob", fields[2].decode())

    def is_link(self, path: str) -> bool:
        """Whether ``path`` is a symbolic link. Raises NoBase."""
        return self._entry(path)[:1] == [LINK]

    def _entry(self, path: str) -> list[bytes]:
        """(mode, type, hash) of ``path``; empty where the commit has none."""
        entry = self._git("ls-tree", "-z", "--full-tree", self.commit, "--", path)
        return entry.split(b"\t")[0].split()

    def names(self, folder: str) -> list[str]:
        """Paths of all files below ``folder``."""
        listed = self._git(
            "ls-tree", "-r", "-z", "--name-only", "--full-tree", self.commit, "--", f"{folder}/"
        )
        return [os.fsdecode(name) for name in listed.split(b"\0") if name]

    def fork(self) -> str:
        """The commit at which the checked-out history left this one's. Raises NoBase."""
        try:
            return git(self.top, "merge-base", self.commit, "HEAD")
        except NoBase:
            shallow = git(self.top, "rev-parse", "--is-shallow-repository") == "true"
            todo = UNSHALLOW if shallow else "name the branch that the change is for"
            raise NoBase(
                f"{self} and the checked-out commit have no common ancestor: {todo}"
            ) from None

    def _git(self, *arguments: str) -> bytes:
        return output(["git", "-C", str(self.top), *arguments])
