"""The tests of a bundle, run again with the code of the present folder."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from configparser import RawConfigParser
from pathlib import Path

import pytest

from pytest_vdb.baseline.identity import benchmark_name
from pytest_vdb.baseline.schema import BaselineFile
from pytest_vdb.baseline.store import media_of
from pytest_vdb.bundle.contents import SOURCE, Contents
from pytest_vdb.errors import BadRun
from pytest_vdb.flags import OPTIONS
from pytest_vdb.keep import PLACES, REPLAYED, is_replayed
from pytest_vdb.names import slug
from pytest_vdb.records import Baseline, Workload

INI = "vdb-verify.ini"
FLAGS = {one.typed: one for one in OPTIONS if one.name in REPLAYED}


def run(found: Contents, scratch: Path, here: Path, more: Sequence[str]) -> Path:
    """Run the tests of ``found``; the JSON of that run, in ``scratch``.

    Its sources lie in a folder of their own, so that nothing of ``here`` is written. The code under
    test is imported from ``here``. ``more`` goes to pytest. Raises BadRun where it did not end by
    itself.
    """
    again, root = scratch / "again.json", found.folder / SOURCE
    _write_ini(found.run["kept"]["ini"], root / INI)
    baselines = scratch / "baselines"
    _write_references(found, baselines)
    places = [here, *(here / one for one in found.run["kept"]["pythonpath"]), root]
    sys.path[:0] = map(str, places)  # the code under test is the checkout's: it comes first
    arguments = [
        *(f"{root}/{test['nodeid']}" for test in found.tests),
        *(f"--rootdir={root}", "-c", str(root / INI), f"--import-mode={_import_mode(found)}"),
        *("-q", "--no-header", "--disable-warnings", "-p", "no:cacheprovider"),
        *flags(found.run["kept"]["flags"], here),
        *("--vdb-gate=off", f"--vdb-baselines={baselines}"),
        *("--vdb-github=off", f"--vdb-json={again}", "--vdb-keep"),
        *more,
    ]
    os.environ.pop("PYTEST_ADDOPTS", None)  # nobody's habits: what is asked for is in ``more``
    status = int(pytest.main(arguments))
    if not again.is_file() or status not in (0, 1, 5, 10):
        raise BadRun(f"the tests did not run here (pytest ended with exit code {status})")
    return again


def flags(kept: Sequence[str], here: Path) -> Iterator[str]:
    """Of ``kept`` those that decide what is measured: whoever made a bundle says no others."""
    for one in kept:
        flag, sign, value = one.partition("=")
        option = FLAGS.get(flag)
        if option is None or bool(sign) == option.flag:
            continue
        yield f"{flag}={here / value}" if option.name in PLACES else one


def _import_mode(found: Contents) -> str:
    mode = found.run["kept"]["import_mode"]
    return mode if mode in ("prepend", "append") else "importlib"


def _write_ini(kept: dict[str, str], path: Path) -> None:
    """Pytest's configuration, but for what is about another place."""
    ini = RawConfigParser(delimiters=("=",), comment_prefixes=(), interpolation=None)
    ini.optionxform = str  # type: ignore[assignment,method-assign]
    ini["pytest"] = {
        key: "\n" + "\n".join(f"  {line}" for line in value.splitlines())
        for key, value in kept.items()
        if is_replayed(key)
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        ini.write(file)


def _write_references(found: Contents, baselines: Path) -> None:
    """The videos that distances are to, as a baseline of the environment that made the bundle."""
    identity = found.run["environment"].get("quality", {})
    files: dict[str, BaselineFile] = {}
    for test in found.tests:
        media, name = test["kept"]["reference"], test["model"]["name"]
        if not media:
            continue
        folder = f"{slug(name)}/{test['environments']['quality']}"
        path = f"{folder}/{benchmark_name(test['nodeid'])}.json"
        workload = Workload.from_json(test["workload"])
        file = files.setdefault(path, BaselineFile(name, identity))
        file.workloads[workload.hash] = Baseline(workload, media=media)
    for path, file in files.items():
        (baselines / path).parent.mkdir(parents=True, exist_ok=True)
        (baselines / path).write_text(file.dumps(), encoding="utf-8")
    for sha256 in media_of(files.values()):
        source = found.media[sha256]
        target = baselines / "media" / sha256[:2] / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
