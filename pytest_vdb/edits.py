"""What a change does to its own gate: baselines, benchmarks, pytest's configuration, workflows.

Nothing here forbids anything. It is said loudly, so that whoever approves the change has seen it.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from pytest_vdb.errors import BadSetting
from pytest_vdb.gitrepo import Ref, git, output
from pytest_vdb.records import Record
from pytest_vdb.trusted import NAMES, parse_ini

WORKFLOWS = (
    *(".github/workflows/*", ".github/actions/*", ".gitlab-ci.yml", ".gitlab/*", ".circleci/*"),
    *(
        ".buildkite/*",
        "azure-pipelines*.yml",
        "Jenkinsfile",
        ".travis.yml",
        "bitbucket-pipelines.yml",
    ),
)
LOOSENS = re.compile(r"\b(assert|tolerance|skip|skipif|xfail|vdb_\w+|addopts)\b|--vdb-")
"""Lines that are always shown: what a test demands, and what decides whether it is asked."""

HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@")
WIDTH = 80
MOST = 20
"""Other changed lines of a benchmark that are shown."""


@dataclass(frozen=True)
class Edit(Record):
    """One file that a change adds, alters or deletes. ``lines`` say what of it, where that tells.

    ``what`` is ``"baseline"``, ``"accepted"``, ``"benchmark"``, ``"configuration"`` or
    ``"workflow"``; ``how`` is ``"added"``, ``"changed"`` or ``"deleted"``; ``restored`` says that
    this run has the base's file in its place.
    """

    path: str
    what: str
    how: str
    restored: bool = False
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Edits(Record):
    """What the working tree changes of its gate since it left ``ref``, at the commit ``fork``."""

    ref: str
    commit: str
    fork: str
    edits: tuple[Edit, ...] = ()


def find(ref: Ref, folders: dict[str, Path], patterns: Sequence[str]) -> Edits:
    """Compare the change with the commit at which it left ``ref``.

    The change is the working tree, and the commit that is checked out: a workflow may have restored
    files of the base for this run, and the change edits them all the same. ``folders`` are those
    whose every file counts, by what they hold; ``patterns`` are pytest's for test files. Raises
    NoBase: no common ancestor, as in a shallow clone.
    """
    fork = replace(ref, commit=ref.fork())
    head = replace(ref, commit=git(ref.top, "rev-parse", "HEAD"))
    places = {what: below for what, path in folders.items() if (below := ref.below(path))}
    here = _changed(fork)
    found = []
    for path in sorted(here | _changed(fork, head.commit)):
        restored = path not in here
        old = fork.read(path)
        new = head.read(path) if restored else _content(ref.top, path)
        what = _what(path, old, new, places, patterns)
        if what is None:
            continue
        if what == "configuration" and _options(path, old) == _options(path, new):
            continue  # pyproject.toml holds more than pytest's options
        how = "added" if old is None else "deleted" if new is None else "changed"
        told: list[str] = []
        if old is not None and new is not None and what != "baseline":
            changes = list(_changes(fork, path, [head.commit] if restored else []))
            told = _benchmark(changes, old, new) if what == "benchmark" else _loosening(changes)
        found.append(Edit(path, what, how, restored, tuple(told)))
    return Edits(ref.name, ref.commit, fork.commit, tuple(found))


def _changed(fork: Ref, other: str = "") -> set[str]:
    """Paths that differ between ``fork`` and another commit, or the working tree: then untracked
    files are among them."""
    here = ["git", "-C", str(fork.top)]
    ends = [fork.commit, other] if other else [fork.commit]
    names = output([*here, "diff", "--name-only", "-z", "--no-renames", *ends, "--"])
    if not other:
        names += output([*here, "ls-files", "-z", "--others", "--exclude-standard"])
    return {os.fsdecode(name) for name in names.split(b"\0") if name}


def _content(top: Path, path: str) -> bytes | None:
    """What git sees at ``path``: of a link its target's name, and behind one nothing."""
    whole = top / path
    if any((top / folder).is_symlink() for folder in PurePosixPath(path).parents):
        return None
    try:
        return os.fsencode(os.readlink(whole)) if whole.is_symlink() else whole.read_bytes()
    except OSError:
        return None


def _what(
    path: str, old: bytes | None, new: bytes | None, places: dict[str, str], patterns: Sequence[str]
) -> str | None:
    for what, folder in places.items():
        if path == folder or path.startswith(f"{folder}/"):
            return what
    name = PurePosixPath(path).name
    if any(fnmatch(path, pattern) for pattern in WORKFLOWS):
        return "workflow"
    if name == "conftest.py" or name in NAMES:
        return "configuration"
    # A test file says which of its fixtures it uses; a module that it imports is not followed.
    if any(fnmatch(name, pattern) for pattern in patterns):
        return "benchmark" if b"vdb" in (old or b"") + (new or b"") else None
    return None


def _options(path: str, content: bytes | None) -> object:
    """Pytest's options in an ini file, None where it has none; any other file's content."""
    name = PurePosixPath(path).name
    if name not in NAMES or content is None:
        return content
    try:
        return parse_ini(name, content)
    except BadSetting:  # pytest's own trouble, if it is a file that pytest reads
        return content


@dataclass(frozen=True)
class Change:
    """One changed line: its number and text in the old file and in the new one; empty text where
    that has none."""

    number: int
    at: int
    was: str
    now: str

    @property
    def loosens(self) -> bool:
        return bool(LOOSENS.search(self.was) or LOOSENS.search(self.now))

    def __str__(self) -> str:
        """``line 12: 0.93 → 0.80, in …``."""
        return f"line {self.at}: {_between(self.was, self.now)}"


def _loosening(changes: Sequence[Change]) -> list[str]:
    return [str(change) for change in changes if change.loosens]


def _benchmark(changes: Sequence[Change], old: bytes, new: bytes) -> list[str]:
    """Whatever loosens, or lies in a marker of ours; of all other lines at most `MOST`."""
    was, now = _marked(old), _marked(new)
    lines, left = [], MOST
    for change in changes:
        if change.loosens or change.number in was or change.at in now:
            lines.append(str(change))
        elif left:
            lines.append(str(change))
            left -= 1
    more = len(changes) - len(lines)
    return [*lines, f"{more} more changed line{'s' * (more > 1)}"] if more else lines


def _marked(content: bytes) -> set[int]:
    """Lines inside ``mark.vdb(...)``; none where it is no Python."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return set()
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("vdb", "vdb_sweep"))
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def _changes(fork: Ref, path: str, against: Sequence[str]) -> Iterator[Change]:
    """Every changed line that is not blank, whatever an attribute says of the file."""
    plain = ["--no-color", "--no-ext-diff", "--no-textconv", "--no-renames"]
    text = git(fork.top, "diff", "-U0", "--text", *plain, fork.commit, *against, "--", path)
    for old, new, removed, added in _hunks(text):
        for i in range(max(len(removed), len(added))):
            was = removed[i] if i < len(removed) else ""
            now = added[i] if i < len(added) else ""
            number = old + min(i, max(len(removed) - 1, 0))
            if was or now:
                yield Change(number, new + min(i, max(len(added) - 1, 0)), was, now)


def _hunks(text: str) -> Iterator[tuple[int, int, list[str], list[str]]]:
    """(first old line, first new one, removed, added) of every hunk of a diff without context."""
    hunk: tuple[int, int, list[str], list[str]] | None = None
    # Only git's own line ends: a form feed or the like is part of a line.
    for line in text.split("\n"):
        if match := HUNK.match(line):
            if hunk:
                yield hunk
            hunk = (int(match[1]), int(match[2]), [], [])
        elif hunk and line[:1] in ("-", "+"):
            (hunk[2] if line[0] == "-" else hunk[3]).append(line[1:].strip())
    if hunk:
        yield hunk


def _between(was: str, now: str) -> str:
    """``0.93 → 0.80`` where a single word differs, else both lines."""
    old, new = was.split(), now.split()
    differ = [(a, b) for a, b in zip(old, new, strict=False) if a != b]
    if len(old) == len(new) and len(differ) == 1:
        return f"{differ[0][0]} → {differ[0][1]}, in {_cut(now)}"
    return f"{_cut(was) or 'nothing'} → {_cut(now) or 'nothing'}"


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[:WIDTH]}…"
