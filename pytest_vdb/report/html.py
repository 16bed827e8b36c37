"""``--vdb-html``: a run as a page that opens from disk, with its videos and plots (docs/html.md).

A folder: ``index.html`` with what is seen first, ``data/`` and ``media/`` that it reads when a test
is opened, ``assets/`` with its style, its scripts and plotly.js. Nothing of it asks a network.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vdb.baseline.store import replace_folder
from pytest_vdb.errors import BadSetting
from pytest_vdb.records import Json, Timeline
from pytest_vdb.report import again, beside, changes, edits, overview, sweeps
from pytest_vdb.units import plain

if TYPE_CHECKING:
    from pytest_vdb.report.writers import Context

MARK = "<!doctype html>\n<!-- pytest-vdb page -->\n"
"""How every page of ours begins; a folder without it is left alone."""
HERE = Path(__file__).with_name("page")
ASSETS = ("page.css", "page.js", "player.js", "plots.js", "sweeps.js")
PARTS = {"index.html", "data", "media", "assets"}
NEEDS = ("jinja2", "plotly")
AT_ONCE = min(8, os.cpu_count() or 1)
"""Videos that are encoded at a time."""
NO_VIDEOS = (
    "this page was made from the results alone. Videos, stages and history are on the page that "
    "--vdb-html wrote at the end of the run: --videos=THAT_PAGE takes them from there, or the "
    "videos alone from a run with --vdb-keep"
)


def check(target: Path, said: str = "--vdb-html") -> None:
    """Raise BadSetting where no page can be written: packages that lack, a folder of another.

    ``said`` is the flag that named it.
    """
    if lacking := [name for name in NEEDS if find_spec(name) is None]:
        raise BadSetting(f"{said} needs {' and '.join(lacking)}: pip install 'pytest-vdb[html]'")
    if target.is_file():
        raise BadSetting(f"{said}: {target} is a file; name a folder, which the page fills")
    if target.is_symlink():
        raise BadSetting(f"{said}: {target} is a link; name the folder itself")
    others = {path.name for path in target.iterdir()} - PARTS if target.is_dir() else set()
    if others or (target.is_dir() and any(target.iterdir()) and not _ours(target)):
        held = f"{', '.join(sorted(others)[:3])}, which" if others else "files and"
        raise BadSetting(
            f"{said}: {target} holds {held} no page of pytest-vdb "
            f"{'has' if others else 'among them'}, so it is left alone; name a new folder"
        )


def clear(target: Path) -> None:
    """Remove an earlier run's page, which must not pass for this one's. Raises as `check`."""
    check(target)
    if _ours(target):
        shutil.rmtree(target)


def write(run: dict[str, Json], target: Path, context: Context) -> None:
    """Write the page of ``run`` (docs/json.md) into the folder ``target``, whole or not at all.

    Raises BadSetting as `check`, and BaselineWriteError with the operating system's reason.
    """
    check(target)
    replace_folder(target, lambda draft: _fill(draft, run, context))


def write_part(run: dict[str, Json], target: Path, context: Context) -> None:
    """Write what the page of a run in shards needs of this one's: `report.kept` reads it.

    Raises BadSetting for a folder of another, and as `write`.
    """
    others = {path.name for path in target.iterdir()} - PARTS if target.is_dir() else set()
    if target.is_symlink() or target.is_file() or others:
        raise BadSetting(f"--vdb-html: {target} is none of ours, so it is left alone; remove it")
    replace_folder(target, lambda draft: _fill_tests(draft, run, context))


def clean(value: Json) -> Json:
    """``value`` with control and direction characters spelled out in every text; lines stay."""
    if isinstance(value, str):
        return "\n".join(plain(line) for line in value.split("\n"))
    if isinstance(value, Mapping):
        return {clean(str(key)): clean(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [clean(one) for one in value]
    return value


def _ours(target: Path) -> bool:
    try:
        with (target / "index.html").open(encoding="utf-8") as file:
            return file.read(len(MARK)) == MARK
    except (OSError, ValueError):
        return False


def _fill(folder: Path, run: dict[str, Json], context: Context) -> None:
    _fill_tests(folder, run, context)
    (folder / "assets").mkdir()
    for name in ASSETS:
        shutil.copyfile(HERE / name, folder / "assets" / name)
    shutil.copyfile(_plotly(), folder / "assets" / "plotly.min.js")
    (folder / "index.html").write_text(_index(run, context), encoding="utf-8")


def _fill_tests(folder: Path, run: dict[str, Json], context: Context) -> None:
    """What is read when a test is opened, and its videos."""
    from pytest_vdb.report.films import Films

    for name in ("data", "media"):
        (folder / name).mkdir()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        films = Films(folder / "media", context.session, pool)
        for index, test in enumerate(run["tests"]):
            shown = context.shown.get(test["nodeid"], {})
            detail = {**_detail(run, test, shown, context.no_videos), "samples": [*films.of(shown)]}
            # A script and no JSON file: a page on disk may load the one, and not the other.
            text = f"vdbTake({index}, {_json(clean(detail))});\n"
            (folder / "data" / f"{index}.js").write_text(text, encoding="utf-8")


def _detail(
    run: Mapping[str, Json], test: Mapping[str, Json], shown: Mapping[str, Json], no_videos: str
) -> dict[str, Json]:
    """Everything of one test that its part of the page shows, but for its samples."""
    history = shown.get("history", {})
    references = shown.get("references", {"label": "", "media": {}})
    return {
        **{name: test.get(name) for name in ("nodeid", "outcome", "model", "workload")},
        "measurements": [
            {**measured, "history": changes.marked(history.get(measured["name"], []))}
            for measured in test["measurements"]
        ],
        "said": "\n".join(filter(None, _said(test))),
        "beside": beside.lines([test]),
        "reference": references["label"] or "no baseline",
        "facts": {"ours": run["environment"]["facts"], "theirs": shown.get("baseline", {})},
        "why": shown.get("why", "") if shown else no_videos or NO_VIDEOS,
        "over_time": _over_time(test),
        "alone": again.of(run, test["nodeid"]),
    }


def _over_time(test: Mapping[str, Json]) -> Json:
    """Memory over time, where it is what a run of ours writes."""
    try:
        found = Timeline.from_json(test["memory_over_time"])
        numbers = [found.seconds, *(begin for begin, _ in found.stages)]
        numbers += [size for sizes in found.bytes.values() for size in sizes]
        fine = all(type(one) in (int, float) for one in numbers) and all(found.bytes.values())
        return clean(found.to_json()) if fine and found.bytes and found.seconds > 0 else None
    except (KeyError, TypeError, AttributeError, ValueError):
        return None


def _said(test: Mapping[str, Json]) -> Iterator[str]:
    yield (test.get("failure") or {}).get("text", "")
    yield (test.get("attribution") or {}).get("text", "")


def _index(run: dict[str, Json], context: Context) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    entries = clean(overview.entries(run["tests"]))
    tests = [
        {
            "nodeid": test["nodeid"],
            "outcome": test["outcome"],
            "model": (test["model"] or {}).get("name", ""),
        }
        for test in run["tests"]
    ]
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    states = Counter(entry["state"] for entry in entries)
    return MARK + environment.get_template("page.html").render(
        run=clean({k: v for k, v in run.items() if k not in ("tests", "sweeps")}),
        verdict=overview.verdict_of(run),
        overview={
            "tests": clean(tests),
            "rows": entries,
            "sweeps": clean(sweeps.shown(run.get("sweeps", []))),
        },
        worst=clean(overview.worst(run["tests"])),
        tests=clean(tests),
        states=[(state, states[state]) for state in overview.ORDER if states[state]],
        kinds=sorted({entry["kind"] for entry in entries} - {""}),
        models=sorted({test["model"] for test in clean(tests)} - {""}),
        loud=clean(
            [*edits.told(run["gate_edits"]), *edits.overruled(run["tests"]), *context.trouble]
        ),
        seconds=sum(run["timing"].values()),
    )


def _json(value: Json) -> str:
    """JSON that neither ends a script nor begins a comment in one."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _plotly() -> Path:
    found = find_spec("plotly")
    assert found is not None  # `check` has looked
    assert found.origin is not None
    return Path(found.origin).parent / "package_data" / "plotly.min.js"
