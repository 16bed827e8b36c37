"""What a change does to its own gate: baselines, benchmarks, pytest's configuration, workflows.

Nothing here forbids anything. It is said loudly, so that whoever approves the change has seen it.
"""

from __future__ import annotations

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
"""Lines that are shown: what a test demands, and what decides whether it is asked."""

HUNK = re.compile(r"@@ -\d+(?:,\d+)? \+(\d+)(?:,\d+)? @@")
WIDTH = 80


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
        new = head.read(path) if restored else _content(ref.top / path)
        what = _what(path, old, new, places, patterns)
        if what is None:
            continue
        if what == "configuration" and _options(path, old) == _options(path, new):
            continue  # pyproject.toml holds more than pytest's options
        how = "added" if old is None else "deleted" if new is None else "changed"
        against = [head.commit] if restored else []
        told = tuple(_lines(fork, path, against)) if how == "changed" and what != "baseline" else ()
        found.append(Edit(path, what, how, restored, told))
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


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _what(
    path: str, old: bytes | None, new: bytes | None, places: dict[str, str], patterns: Sequence[str]
) -> str | None:
    for what, folder in places.items():
        if path.startswith(f"{folder}/"):
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


def _lines(fork: Ref, path: str, against: Sequence[str]) -> Iterator[str]:
    """``line 12: 0.93 → 0.80`` of every changed line that may loosen something."""
    plain = ["diff", "-U0", "--no-color", "--no-ext-diff", "--no-renames"]
    text = git(fork.top, *plain, fork.commit, *against, "--", path)
    for start, removed, added in _hunks(text):
        for i in range(max(len(removed), len(added))):
            was = removed[i] if i < len(removed) else ""
            now = added[i] if i < len(added) else ""
            if LOOSENS.search(was) or LOOSENS.search(now):
                yield f"line {start + min(i, max(len(added) - 1, 0))}: {_between(was, now)}"


def _hunks(text: str) -> Iterator[tuple[int, list[str], list[str]]]:
    """(first new line, removed, added) of every hunk of a diff without context."""
    hunk: tuple[int, list[str], list[str]] | None = None
    for line in text.splitlines():
        if match := HUNK.match(line):
            if hunk:
                yield hunk
            hunk = (int(match[1]), [], [])
        elif hunk and line[:1] in ("-", "+"):
            (hunk[1] if line[0] == "-" else hunk[2]).append(line[1:].strip())
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
