"""``vdb report``: reports of a kept run, made again. Nothing of the repository is imported."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from pytest_vdb.baseline.validate import parse
from pytest_vdb.errors import BadRun, BadSetting
from pytest_vdb.readers import url
from pytest_vdb.records import Json
from pytest_vdb.report import github, writers
from pytest_vdb.report.ranked import ranked
from pytest_vdb.results import OURS
from pytest_vdb.units import plain


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_json", type=Path, metavar="RUN.json", help="a file of --vdb-json")
    for name, writer in writers.WRITERS.items():
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=Path, metavar="PATH", dest=name, help=writer.help)
    parser.add_argument(
        "--videos",
        type=Path,
        metavar="FOLDER",
        help="where --html takes its videos: the run's own page, or what --vdb-keep kept "
        "(default: RUN.kept, if it is there)",
    )
    parser.add_argument("--url", default="", help="as --vdb-report-url")
    parser.add_argument(
        "--claimed", action="store_true", help="say that the code under test wrote the run"
    )
    parser.add_argument(
        "--github", action="store_true", help="add the step's summary and annotations"
    )


def run(options: argparse.Namespace) -> int:
    """0, or 1 where something could not be written. Raises BadRun, BadSetting."""
    found = read(options.run_json)
    given = {name: getattr(options, name) for name in writers.WRITERS}
    targets = {name: path for name, path in given.items() if path is not None}
    if not targets and not options.github:
        flags = ", ".join("--" + name.replace("_", "-") for name in writers.WRITERS)
        raise BadSetting(f"vdb report: which one? Add {flags} or --github")
    writers.check({**targets, "the run": options.run_json}, "vdb report: --")
    context = writers.Context(
        Path.cwd(),
        url(options.url) if options.url else github.run_url(os.environ),
        claimed=options.claimed,
        shown=_videos(options, found) if "html" in targets else {},
    )
    trouble = writers.write(found, targets, context)
    if options.github:
        trouble += github.summarize(found, context, os.environ)
        for line in github.annotated(found["tests"], context, os.environ):
            print(line)
    for line in trouble:
        print(f"vdb report: {plain(line)}")
    return int(bool(trouble))


def _videos(options: argparse.Namespace, run: dict[str, Json]) -> dict[str, Json]:
    """What the page shows of each test beside its results. Raises BadRun."""
    from pytest_vdb.report import kept

    beside = options.run_json.with_name(f"{options.run_json.stem}.kept")
    kept_here = not options.claimed and (beside / "media").is_dir()
    if options.videos is None and not kept_here:
        return {}  # nothing of a claimed run is decoded unasked
    return kept.of(run, options.videos or beside)


def read(path: Path) -> dict[str, Json]:
    """The run at ``path``, which may come from anybody. Raises BadRun."""
    try:
        data: Any = parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadRun(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise BadRun(plain(f"{path} is no file of --vdb-json ({error})")) from None
    if not isinstance(data, dict) or data.get("schema") != OURS["schema"]:
        raise BadRun(f"{path} is no file of --vdb-json: it has no schema {OURS['schema']}")
    if "shard" in data:
        raise BadRun(f"{path} is one shard of a run: vdb merge makes the run and its reports")
    try:
        if type(data["exit"]) is not int or not 0 <= data["exit"] < 256:
            raise ValueError(f"exit {data['exit']!r}")
        ranked(data["tests"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BadRun(plain(f"{path} holds what no run of ours writes ({error!r})")) from None
    return data
