"""``vdb bundle`` and ``vdb verify``: a run as an archive, and whether it can be had again."""

from __future__ import annotations

import argparse
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from pytest_vdb import keep, replay
from pytest_vdb.baseline import run as runs
from pytest_vdb.bundle import archive
from pytest_vdb.bundle.compare import Finding, Outcome, Side, compare, differing
from pytest_vdb.bundle.contents import Contents, opened
from pytest_vdb.errors import BadBundle, BadRun, BadSetting
from pytest_vdb.gitrepo import described
from pytest_vdb.names import file_sha256
from pytest_vdb.units import plain, show

# ------------------------------------------------------------------------- bundle


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run_json", type=Path, metavar="RUN.json", help="a file of --vdb-json with --vdb-keep"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="ZIP", help="what to write (default: RUN.zip)"
    )


def bundle(options: argparse.Namespace) -> int:
    """Write the archive. Raises BadRun, BadSetting, BaselineWriteError."""
    results: Path = options.run_json
    if results.is_dir() and results.suffix == ".kept":
        results = results.with_suffix(".json")
    target: Path = options.output or results.with_suffix(".zip")
    _check_target(target)
    members = Contents(results, keep.folder(results)).members()
    archive.pack(target, members)
    size = target.stat().st_size
    print(
        plain(f"{target}: {len(members)} files, {show(size, 'B')}; check it: vdb verify {target}")
    )
    return 0


def _check_target(target: Path) -> None:
    """Raise BadSetting for a path with something else than an earlier bundle."""
    if target.is_dir():
        raise BadSetting(f"vdb bundle: {target} is a folder; name a file in it with -o")
    if not target.exists():
        return
    try:
        with zipfile.ZipFile(target) as found:
            ours = archive.MANIFEST in found.namelist()
    except (OSError, zipfile.BadZipFile, ValueError):
        ours = False
    if not ours:
        raise BadSetting(
            f"vdb bundle: {target} exists and is no bundle, so it is left alone; name another file "
            "with -o"
        )


# ------------------------------------------------------------------------- verify

GOOD = (Outcome.SAME, Outcome.HOLDS)
WIDTH = 22


def verify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="ZIP", help="an archive of vdb bundle")
    parser.add_argument(
        "--no-rerun", action="store_true", help="check the files alone; nothing of it is run"
    )
    parser.add_argument(
        "--by-rule",
        action="store_true",
        help="hold scores to the gate's rules, also where they could be equal bit for bit",
    )
    parser.epilog = "Everything else goes to pytest: --vdb-serve, --vdb-metric-weights, -n"


def verify(options: argparse.Namespace) -> int:
    """0 where all of it holds, else 1. Raises BadSetting where there is no such file."""
    if not options.bundle.is_file():
        raise BadSetting(f"vdb verify: there is no file {options.bundle}")
    with tempfile.TemporaryDirectory(prefix="vdb-verify-") as scratch:
        folder = Path(scratch, "bundle")
        folder.mkdir()
        try:
            names = archive.unpack(options.bundle, folder)
            found = opened(folder)
        except BadBundle as error:
            print(plain(f"NOT VERIFIED: {error}"))
            return 1
        _tell(f"{options.bundle}: all {len(names)} files are what the manifest says", found)
        if options.no_rerun:
            print("nothing was run: whether the numbers can be had again is not known")
            return 0
        return _rerun(found, Path(scratch), options)


def _tell(line: str, found: Contents) -> None:
    kept = found.run["kept"]
    print(plain(line))
    commit = found.run["commit"] or "no git commit"
    print(plain(f"made {found.run['started']} of {commit}, Python {kept['python']}"))


def _rerun(found: Contents, scratch: Path, options: argparse.Namespace) -> int:
    tests = [test["nodeid"] for test in found.tests]
    here = Path.cwd()
    print(plain(f"running {len(tests)} of its tests at {described(here) or here}"))
    if strange := [*_strange(found, here)]:
        print(plain(f"their files are the bundle's; not as in this folder: {', '.join(strange)}"))
    try:
        again = runs.read(replay.run(found, scratch, here, options.pytest))
    except BadRun as error:
        print(plain(f"NOT VERIFIED: {error}"))
        return 1
    old, new = Side(found.run, found.rows), Side(again.run, again.rows)
    if changed := differing(old, new):
        print(plain(f"another environment, so the gate's rules decide: {'; '.join(changed)}"))
    findings = [*compare(old, new, by_rule=options.by_rule)]
    for line in lines(findings):
        print(plain(line))
    return conclude(findings)


def _strange(found: Contents, here: Path) -> Iterator[str]:
    """Sources of the bundle that the checkout has not, or has otherwise."""
    for name, sha256 in sorted(found.sources.items()):
        path = here / name
        if not path.is_file() or file_sha256(path) != sha256:
            yield name


def lines(findings: Sequence[Finding]) -> Iterator[str]:
    """A block a test: what became of each measurement."""
    nodeid = ""
    for one in findings:
        if one.nodeid != nodeid:
            nodeid = one.nodeid
            yield nodeid
        why = f": {one.why}" if one.why else ""
        yield f"  {one.what:{WIDTH}} {one.outcome.value}{why}"


def conclude(findings: Sequence[Finding]) -> int:
    """The last line, and the exit code: nothing that was compared is no proof of anything."""
    counts = Counter(one.outcome for one in findings)
    told = ", ".join(f"{counts[one]} {one.value}" for one in Outcome if counts[one])
    measured = any(one.outcome in GOOD and one.what != "weights" for one in findings)
    if counts[Outcome.DIFFERS]:
        print(f"NOT VERIFIED: {told}")
        return 1
    if not measured:
        print(f"NOT VERIFIED: nothing could be compared ({told})")
        return 1
    print(f"verified: {told}")
    return 0
