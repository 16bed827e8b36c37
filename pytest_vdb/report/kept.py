"""What the page of a kept run shows beside its results, from what was kept beside them.

Either a page (or a shard's part of one) that was made at the end of the run, or the media of
``--vdb-keep``. Both may come from anybody: of a page only what belongs to the same measurements
is taken, each part of it checked, and every text is shown as text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_vdb.baseline.validate import SHA256, parse
from pytest_vdb.errors import BadRun
from pytest_vdb.names import file_sha256
from pytest_vdb.records import Json
from pytest_vdb.report.films import KEPT

DETAIL = re.compile(r"vdbTake\((\d+), (.*)\);\n", re.DOTALL)
FILM = re.compile(r"media/\d+\.webm")
LARGEST = 2**28
"""Bytes of one test's part of a page: more is none of ours."""
HISTORY = {"date": str, "commit": str, "source": str, "value": float, "low": float, "high": float}


def part(record: Path) -> Path:
    """Where a shard leaves its part of the page: beside its record."""
    return record.with_name(f"{record.stem}.films")


def of(run: Mapping[str, Json], folder: Path) -> dict[str, Json]:
    """`of_pages` of a page, or `of_media` of the folder of ``--vdb-keep``. Raises BadRun."""
    if (folder / "data").is_dir():
        return of_pages(run["tests"], [folder])
    if (folder / "media").is_dir():
        return of_media(run, folder)
    raise BadRun(f"{folder} is neither a page of --vdb-html nor a folder of --vdb-keep")


def of_pages(tests: Sequence[Mapping[str, Json]], folders: Sequence[Path]) -> dict[str, Json]:
    """What `shown.of` gave, by node id, of each of ``tests`` that one of the pages has.

    A test whose workload or measurements are others there is of another run, and left out. Raises
    BadRun for a folder that is no page of ours.
    """
    wanted = {test["nodeid"]: test for test in tests}
    found = {}
    for folder in folders:
        for detail in _details(folder):
            test = wanted.get(detail.get("nodeid", ""))
            if test is not None and _is_of(test, detail):
                found[test["nodeid"]] = _checked(folder, _shown, detail, folder)
    return found


def of_media(run: Mapping[str, Json], folder: Path) -> dict[str, Json]:
    """The same of a run with ``--vdb-keep``: its videos as they were kept, in ``folder/media``.

    Stages and history are not kept there.
    """
    files = filter(Path.is_file, sorted((folder / "media").glob("*")))
    media = {path.stem: path for path in files}
    found = {}
    for test in run["tests"]:
        kept = test.get("kept") or {}
        if test.get("workload") and "media" in kept:
            found[test["nodeid"]] = _checked(folder, _of_kept, test, kept, media)
    return found


# ------------------------------------------------------------------------- a page


def _details(folder: Path) -> Iterator[dict[str, Json]]:
    """Each test's part of a page, whatever it holds. Raises BadRun."""
    for path in sorted((folder / "data").glob("*.js")):
        try:
            # A pipe would be waited for, and a device read without end.
            if not path.is_file() or path.is_symlink() or path.parent.is_symlink():
                raise ValueError("it is no file")
            if path.stat().st_size > LARGEST:
                raise ValueError("it is too large")
            match = DETAIL.fullmatch(path.read_text(encoding="utf-8"))
            detail = parse(match[2]) if match else None
        except (OSError, ValueError) as error:
            raise BadRun(f"{path} cannot be read: {error}") from None
        if not isinstance(detail, dict) or not isinstance(detail.get("nodeid", ""), str):
            raise BadRun(f"{path} is no part of a page of pytest-vdb")
        yield detail


def _is_of(test: Mapping[str, Json], detail: Mapping[str, Json]) -> bool:
    """Whether ``detail`` was made of the same videos and numbers as ``test``."""
    from pytest_vdb.report.html import clean

    theirs = detail.get("measurements")
    if not isinstance(theirs, list) or not all(isinstance(one, dict) for one in theirs):
        return False
    bare = [{k: v for k, v in one.items() if k != "history"} for one in theirs]
    ours = json.loads(json.dumps([test["workload"], test["measurements"]]))
    return bool(clean(ours) == [detail.get("workload"), bare])


def _shown(detail: Mapping[str, Json], folder: Path) -> dict[str, Json]:
    history = {one["name"]: [*map(_session, one["history"])] for one in detail["measurements"]}
    facts = detail["facts"]["theirs"]
    _require(all(isinstance(text, str) for text in facts.values()), "facts")
    _require(isinstance(detail["why"], str) and isinstance(detail["reference"], str), "why")
    return {
        "samples": [_sample(one, folder) for one in detail["samples"]],
        "references": {"label": detail["reference"], "media": {}},
        "history": history,
        "baseline": facts,
        "why": detail["why"],
    }


def _session(one: Mapping[str, Json]) -> dict[str, Json]:
    for name, kind in HISTORY.items():
        _require(_number(one[name]) if kind is float else isinstance(one[name], kind), name)
    values = one.get("values", {})
    _require(all(map(_number, values.values())), "values")
    return {name: one[name] for name in HISTORY} | ({"values": values} if values else {})


def _sample(one: Mapping[str, Json], folder: Path) -> dict[str, Json]:
    """Its facts, and where its film lies."""
    _require(all(isinstance(one[name], str) for name in ("key", "prompt")), "key")
    _require(_whole(one["seed"]), "seed")
    for name in ("stages", "memory"):
        _require(all(map(_number, one[name].values())), name)
    _require(all(map(_number, one["steps"])), "steps")
    film = _film(one["film"])
    facts = {name: one[name] for name in ("key", "prompt", "seed", "stages", "steps", "memory")}
    if film["src"] is None:
        return {**facts, "film": film}
    path = folder / film["src"]
    if not path.is_file() or path.is_symlink() or path.parent.is_symlink():
        return {**facts, "film": {"src": None, "why": "its film is not in the page's folder"}}
    return {**facts, "film": film, "file": str(path)}


def _film(film: Mapping[str, Json]) -> dict[str, Json]:
    _require(isinstance(film["why"], str), "film: why")
    if film["src"] is None:
        return {"src": None, "why": film["why"]}
    _require(FILM.fullmatch(film["src"]), "film: src")
    _require(film["kept"] in (*KEPT, "none") and film["panels"] in (1, 3), "film: kept")
    _require(_number(film["fps"]) and film["fps"] > 0, "film: fps")
    for name in ("size", "frames"):
        _require(len(film[name]) == 2 and all(map(_whole, film[name])), f"film: {name}")
    _require(min(film["size"]) > 0 and max(film["frames"]) > 0, "film: size")
    _require(all(map(_number, film["distances"])), "film: distances")
    names = ("src", "kept", "why", "panels", "size", "fps", "frames", "distances")
    return {name: film[name] for name in names}


# ------------------------------------------------------------------------- kept media


def _of_kept(
    test: Mapping[str, Json], kept: Mapping[str, Json], media: Mapping[str, Path]
) -> dict[str, Json]:
    workload = test["workload"]
    samples = []
    for prompt in workload["prompts"]:
        for seed in workload["seeds"]:
            key = f"{prompt['id']}/{seed}"
            if key in kept["media"]:
                facts = {"key": key, "prompt": prompt["id"], "seed": seed}
                samples.append({**facts, **_clip(kept["media"][key], media)})
    reference = {
        key: {role: sha for role, sha in roles.items() if role in ("frames", "video", "preview")}
        for key, roles in kept.get("reference", {}).items()
    }
    label = "baseline" if reference else ""
    return {
        "samples": samples,
        "references": {"label": label, "media": reference, "files": _files(reference, media)},
        "why": "",
    }


def _clip(roles: Mapping[str, str], media: Mapping[str, Path]) -> dict[str, Json]:
    """Where the video lies, and what of it the player and the plots need."""
    role = "video" if "video" in roles else "preview"
    path = media.get(roles.get(role, ""))
    bare: dict[str, Json] = {"stages": {}, "steps": [], "memory": {}}
    if path is None or not SHA256.fullmatch(path.stem) or file_sha256(path) != path.stem:
        return {**bare, "film": {"src": None, "why": "its video is not among the kept media"}}
    return {**bare, "clip": str(path), "lossy": role == "preview", "frames_sha256": roles["frames"]}


def _files(reference: Mapping[str, Mapping[str, str]], media: Mapping[str, Path]) -> dict[str, str]:
    named = {sha for roles in reference.values() for sha in roles.values()}
    return {
        sha: str(media[sha]) for sha in named if sha in media and file_sha256(media[sha]) == sha
    }


# ------------------------------------------------------------------------- checks


def _checked(folder: Path, read: Callable[..., dict[str, Json]], *given: Any) -> dict[str, Json]:
    """``read`` of what may be of any form. Raises BadRun."""
    try:
        return read(*given)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BadRun(f"{folder} holds what no run of pytest-vdb writes ({error!r})") from None


def _require(fine: object, where: str) -> None:
    if not fine:
        raise ValueError(where)


def _number(value: Any) -> bool:
    return type(value) in (int, float)


def _whole(value: Any) -> bool:
    return type(value) is int
