"""Reports of a run by the name of their flag, and what writes them.

``--vdb-NAME=PATH`` asks for one at the end of a run, ``vdb report RUN.json --NAME=PATH`` for one of
a kept run, and ``vdb merge`` for one of a run in parts. Another report is a line of `WRITERS`, with
an option of its name in `flags` and `Settings`.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vdb.errors import BadSetting, VdbError
from pytest_vdb.records import Json
from pytest_vdb.units import plain

if TYPE_CHECKING:
    from pytest_vdb.options import Settings
    from pytest_vdb.session import VdbSession


@dataclass(frozen=True)
class Context:
    """What a report may need beside the run. Of a kept run there is no ``session``.

    ``root`` is the folder at which the files of node ids start, ``url`` the page where people find
    this run's files, or empty. ``trouble`` and ``notes`` are the lines that end the run's summary:
    what fails it beside its tests, and what does not. ``claimed``: the code under test wrote it.
    """

    root: Path
    url: str = ""
    trouble: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    session: VdbSession | None = None
    claimed: bool = False
    shown: Mapping[str, dict[str, Json]] = field(default_factory=dict)
    """Videos, stages and stored sessions by node id (`pytest_vdb.shown`, `report.kept`)."""
    no_videos: str = ""
    """What a page says in place of those of a test that has none."""


Write = Callable[[dict[str, Json], Path, Context], None]
"""Write the run (docs/json.md) at a path, whole or not at all. Raises VdbError, OSError."""


@dataclass(frozen=True)
class Writer:
    """``module:function`` of a `Write`, imported when it is needed.

    ``begins`` is how every file of it begins: another one at its path is somebody's work, and is
    left alone. A report that is a ``folder`` says so, and its module has functions for that:
    ``check`` of the path and of the flag that named it, and ``clear`` of the path.
    """

    function: str
    help: str
    begins: str = ""
    folder: bool = False


WRITERS: Mapping[str, Writer] = {
    "html": Writer("pytest_vdb.report.html:write", "a page with videos: a folder", folder=True),
    "markdown": Writer(
        "pytest_vdb.report.markdown:write",
        "what a pull request shows, as GitHub-flavoured Markdown",
        begins="<!-- pytest-vdb",
    ),
    "csv": Writer(
        "pytest_vdb.report.csv_table:write",
        "the measurements as CSV",
        begins='"nodeid","outcome","model","workload",',
    ),
    "latex": Writer("pytest_vdb.report.latex:write", "tables for a paper", begins="% pytest-vdb 1"),
    "openmetrics": Writer(
        "pytest_vdb.report.openmetrics:write",
        "the measurements as text for Prometheus",
        begins="# TYPE vdb_",
    ),
    "benchmark_json": Writer(
        "pytest_vdb.report.benchmark_json:write",
        "the times as pytest-benchmark's JSON",
        begins='{\n "vdb": ',
    ),
}


def asked(settings: Settings, folder: Path) -> dict[str, Path]:
    """The reports that ``settings`` ask for, relative paths from ``folder``."""
    paths = {name: getattr(settings, name) for name in WRITERS}
    return {name: folder / path for name, path in paths.items() if path is not None}


def check(targets: Mapping[str, Path], flag: str = "--vdb-") -> None:
    """Raise BadSetting where a report would replace what is none of its kind, or another report."""
    for name, path in targets.items():
        said = flag + name.replace("_", "-")
        if twin := [other for other, at in targets.items() if at == path and other != name]:
            raise BadSetting(f"{said} and {flag}{twin[0]} both name {path}: name two files")
        writer = WRITERS.get(name)
        if writer is None:
            continue
        if writer.folder:
            if inside := [other for other, at in targets.items() if path in at.parents]:
                raise BadSetting(
                    f"{said} fills the folder {path}, in which {flag}{inside[0]} names a file: "
                    "name one outside of it"
                )
            _of_folder(writer, "check")(path, said)
            continue
        check_place(said, path)
        if path.is_file() and not _begins(path, writer.begins):
            raise BadSetting(
                f"{said}: {path} exists and no run of pytest-vdb wrote it, so it is left alone; "
                f"write {said.rpartition(' ')[2]}=PATH with another path, or remove it"
            )


def check_place(said: str, path: Path) -> None:
    """Raise BadSetting where no file can be: at a folder or a device, or below a file."""
    if path.is_dir():
        raise BadSetting(f"{said}: {path} is a folder; name a file in it")
    if path.exists() and not path.is_file():  # root would replace /dev/null by a file
        raise BadSetting(f"{said}: {path} is a device or a pipe; name a file")
    above = next((folder for folder in path.absolute().parents if folder.exists()), path)
    if above.is_file():
        raise BadSetting(f"{said}: {above} is a file, and {path} cannot lie below it")


def clear(targets: Mapping[str, Path]) -> None:
    """Remove the files of an earlier run, which must not pass for this one's."""
    check(targets)
    for name, path in targets.items():
        if path.is_file():
            path.unlink()
        elif name in WRITERS and WRITERS[name].folder:
            _of_folder(WRITERS[name], "clear")(path)


def write(run: dict[str, Json], targets: Mapping[str, Path], context: Context) -> list[str]:
    """Write every report; a line for each that could not be written. None stops another."""
    trouble = []
    for name, path in targets.items():
        try:
            function: Write = pkgutil.resolve_name(WRITERS[name].function)
            function(run, path, context)
            continue
        except VdbError as error:
            trouble.append(str(error))
        except Exception as error:  # whatever a report stumbles over, the others and the run stand
            trouble.append(plain(f"{path} was not written: {error!r}"))
        # Those that come after tell of it.
        context = replace(context, trouble=(*context.trouble, trouble[-1]))
        run["exit"] = run["exit"] or 1
    return trouble


def _of_folder(writer: Writer, name: str) -> Callable[..., None]:
    module = writer.function.partition(":")[0]
    found: Callable[..., None] = pkgutil.resolve_name(f"{module}:{name}")
    return found


def _begins(path: Path, start: str) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            found = file.read(len(start))
    except (OSError, ValueError):
        return False
    return found in ("", start)
