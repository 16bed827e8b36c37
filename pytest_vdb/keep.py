"""``--vdb-keep``: what ``vdb bundle`` needs of a run, kept beside its results (docs/bundle.md).

``run.json`` gets the folder ``run.kept``: ``media/`` with videos and latents by the sha256 of their
content, ``source/`` with the files that a test is made of, as pytest's root folder has them.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_vdb import prompts
from pytest_vdb.baseline.store import named_in, replace_folder
from pytest_vdb.errors import BadSetting, Unidentified, VdbError
from pytest_vdb.flags import OPTIONS
from pytest_vdb.names import file_sha256
from pytest_vdb.places import public
from pytest_vdb.prompts.images import SUFFIXES
from pytest_vdb.records import Json, Kind

if TYPE_CHECKING:
    import pytest

    from pytest_vdb.session import VdbSession
    from pytest_vdb.verdicts import TestRun

MEDIA, SOURCE = "media", "source"
REPLAYED = frozenset(
    {
        *("model", "videos", "weights", "prompts", "device", "dtype", "set", "runner", "timeout"),
        *("pool", "crowded", "cache_budget", "grid", "reference", "sweep", "sweep_mode"),
        *("metric_weights", "metric_device", "metric_dtype", "metric_batch"),
    }
)
"""Flags that decide what is measured, and how. A command of a server is not one: it may hold a key,
and a bundle may come from anybody."""
PLACES = frozenset({"videos", "metric_weights"})
"""Of these, folders of the checkout."""
COLLECTING = frozenset(
    {
        *("python_files", "python_classes", "python_functions", "markers", "usefixtures"),
        *("filterwarnings", "xfail_strict", "asyncio_mode", "empty_parameter_set_mark"),
    }
)
"""Ini options of pytest that decide what a test is. Others name places and files to write."""


def folder(results: Path) -> Path:
    """Where the kept files of a run lie: beside its results."""
    return results.with_name(f"{results.stem}.kept")


def check(results: Path) -> None:
    """Raise BadSetting where the folder beside ``results`` is somebody's own."""
    found = folder(results)
    names = {path.name for path in found.iterdir()} if found.is_dir() else set()
    if found.is_symlink() or found.is_file() or names - {MEDIA, SOURCE}:
        raise BadSetting(
            f"--vdb-keep: {found} exists and no run of pytest-vdb wrote it, so it is left alone; "
            "give --vdb-json another name, or remove it"
        )


def clear(results: Path) -> None:
    """Remove what an earlier run kept, which must not pass for this one's. Raises as `check`."""
    check(results)
    if folder(results).is_dir():
        shutil.rmtree(folder(results))


# ------------------------------------------------------------------------- of one test


def of_test(run: TestRun) -> dict[str, Json]:
    """Hashes of what one test was made of, its media written to this run's folder.

    Nothing is generated for it. ``why`` says what could not be kept, where something could not.
    """
    try:
        return {
            "media": _media(run),
            "reference": _reference(run),
            "weights": _weights(run),
            "source": dict(_sources(run)),
        }
    except (VdbError, OSError) as error:
        return {"why": str(error)}


def _media(run: TestRun) -> dict[str, dict[str, str]]:
    bench = run.vdb._bench
    return bench.media if bench._borrowed or bench._run else {}


def _reference(run: TestRun) -> dict[str, dict[str, str]]:
    """Media of the baseline that distances are to; empty where nothing was compared with it."""
    rows = (row.measurement for row in run.rows if row.measurement.kind is Kind.DISTANCE)
    distance = next((measurement for measurement in rows if measurement.values), None)
    stored = run.vdb.references(distance.name) if distance else None
    media = stored.media if stored else {}
    bench, blobs = run.vdb._bench, run.vdb._bench.session.scratch / "blobs"
    for sha256 in sorted(named_in(media)):
        path = bench.session.medium(sha256)
        if path.parent != blobs:
            blobs.mkdir(parents=True, exist_ok=True)
            draft = blobs / f"draft-{os.getpid()}-{sha256}"
            shutil.copyfile(path, draft)
            draft.replace(blobs / path.name)
    return media


def _weights(run: TestRun) -> dict[str, Json]:
    """``known``: texts that change with the model's weights; ``why`` where nothing tells them."""
    from pytest_vdb.models.identity import weights_identity

    bench = run.vdb._bench
    if bench.spec.source == "recorded":
        return {"known": [], "why": "recorded videos have none"}
    try:
        return {"known": weights_identity(bench.spec), "why": ""}
    except Unidentified as error:
        return {"known": [], "why": str(error)}


def _sources(run: TestRun) -> Iterator[tuple[str, str]]:
    """Paths below pytest's root and their sha256: the test's file and what it needs beside it."""
    root = run.vdb._bench.session.config.rootpath.resolve()
    test = root / run.vdb.nodeid.partition("::")[0]
    asked = run.settings.prompts or run.vdb.model.prompts
    found = [
        *_beside(test, root),
        *_prompt_files(asked, root),
        *(Path(prompt.image) for prompt in run.vdb.workload.prompts if prompt.image),
    ]
    for path in sorted({path.resolve() for path in found}):
        if path.is_relative_to(root) and path.is_file():
            yield path.relative_to(root).as_posix(), file_sha256(path)


def _beside(test: Path, root: Path) -> Iterator[Path]:
    """A test's file, each ``conftest.py`` on the way to it, and modules of its own folder."""
    yield test
    for above in (test.parent, *test.parent.parents):
        if not above.is_relative_to(root):
            break
        yield above / "conftest.py"
    if test.parent == root:
        return  # what lies there is the code under test, which is the checkout's
    yield test.parent / "__init__.py"
    for module in list(sys.modules.values()):
        # Not by an attribute: some modules import others when they are asked for one.
        file = getattr(module, "__dict__", {}).get("__file__")
        if not isinstance(file, str) or not file.endswith(".py"):
            continue
        if Path(file).is_relative_to(test.parent):
            yield Path(file)


def _prompt_files(asked: object, root: Path) -> Iterator[Path]:
    if not isinstance(asked, str):
        return
    if asked.endswith(("/", "\\")):
        stills = root / asked
        yield from (path for path in stills.glob("*") if path.suffix.lower() in (*SUFFIXES, ".txt"))
    elif (name := prompts.NAME.fullmatch(asked)) and name["file"]:
        yield root / name["file"]


# ------------------------------------------------------------------------- of the run


def of_run(session: VdbSession) -> dict[str, Json]:
    """How to run it again: flags and ini options without secrets, packages, Python."""
    config = session.config
    return {
        "python": platform.python_version(),
        "packages": sorted({f"{one.name}=={one.version}" for one in distributions() if one.name}),
        "flags": [*_flags(session)],
        "ini": _ini(config),
        "import_mode": config.getoption("importmode"),
        "pythonpath": _pythonpath(config),
    }


def _flags(session: VdbSession) -> Iterator[str]:
    for option in OPTIONS:
        if option.name not in REPLAYED or option.ini_only:
            continue
        if option.name == "metric_device" and session.settings.scores_on_cluster:
            continue  # where a bundle is run again there is none
        flag = option.typed
        if option.name in PLACES:
            raw: Any = getattr(session.settings, option.target)
        else:
            raw = session.config.getoption(option.dest)
        if option.flag and raw:
            yield flag
        elif raw is not None and not option.flag:
            yield from (f"{flag}={public(str(one))}" for one in (raw if option.many else [raw]))


def _ini(config: pytest.Config) -> dict[str, str]:
    """Pytest's ini options that mean the same elsewhere, as one text each."""
    if config.inipath is None:
        return {}
    from pytest_vdb.trusted import parse_ini

    found = parse_ini(config.inipath.name, config.inipath.read_bytes()) or {}
    return {
        key: public(_text(value))
        for key, value in sorted(found.items())
        if is_replayed(key) and isinstance(value, str | bool | list)
        if (key, value) != ("vdb_metric_device", "cluster")
    }


def is_replayed(key: str) -> bool:
    """Whether an ini option means the same elsewhere."""
    return key in COLLECTING or key.removeprefix("vdb_") in REPLAYED - PLACES - {key}


def _text(value: str | bool | list[Any]) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else "\n".join(map(str, value))


def _pythonpath(config: pytest.Config) -> list[str]:
    """Folders that pytest puts on ``sys.path``, relative to its root."""
    root = config.rootpath
    found = [Path(os.path.relpath(one, root)) for one in config.getini("pythonpath")]
    return [one.as_posix() for one in found if ".." not in one.parts]


def write(tests: Iterable[Mapping[str, Json]], results: Path, session: VdbSession) -> None:
    """Bring media and sources of ``tests`` beside ``results``, whole or not at all.

    Raises BadSetting as `check`, and BaselineWriteError with the operating system's reason.
    """
    check(results)
    blobs, root = session.scratch / "blobs", session.config.rootpath
    kept = [test["kept"] for test in tests if "why" not in test.get("kept", {"why": ""})]
    media = {sha for one in kept for sha in named_in(one["media"]) | named_in(one["reference"])}

    def fill(draft: Path) -> None:
        for name in (MEDIA, SOURCE):
            (draft / name).mkdir()
        for blob in sorted(blobs.glob("*.*")):
            if blob.stem in media:
                shutil.copyfile(blob, draft / MEDIA / blob.name)
        for path in sorted({path for one in kept for path in one["source"]}):
            copy = draft / SOURCE / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / path, copy)

    replace_folder(folder(results), fill)
