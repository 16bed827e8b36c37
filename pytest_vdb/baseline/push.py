"""``vdb push``: media, and baseline files where asked, from folders to a URL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pytest_vdb.baseline import calibration, schema
from pytest_vdb.baseline.calibration import NAME
from pytest_vdb.baseline.remote import READ_ONLY, Http, Remote, connect, joined
from pytest_vdb.baseline.store import MediaFolder, Text, media_of
from pytest_vdb.errors import BadSetting, BaselineError, Unreachable
from pytest_vdb.places import shown


@dataclass(frozen=True)
class Pushed:
    """What a push did: media sent and found there, baseline files sent, media that are nowhere."""

    sent: int
    there: int
    files: int
    lost: tuple[str, ...]


def push(
    root: Path, media: Path, cache: Path, url: str, *, files: bool, replace: bool = False
) -> Pushed:
    """Bring to ``url`` what the baseline files below ``root`` name and it has not.

    Media go to ``url`` itself, the value of ``--vdb-store``. With ``files`` the baseline files go
    there, after their media, which go to ``url/media``: the value of ``--vdb-baselines``. Raises
    BaselineError, Unreachable, BaselineWriteError; before anything is sent BadSetting where the
    files there hold sessions that those here have never seen, unless ``replace``.
    """
    paths = [path for path in sorted(root.glob("*/*/**/*.json")) if path.is_file()]
    read = [file for path in paths if path.name != NAME and (file := schema.read(path))]
    if not read:
        raise BaselineError(
            f"{root} has no baseline files; name the folder that --vdb-update wrote"
        )
    remote = connect(joined(url, "media") if files else url)
    if isinstance(remote, Http):
        raise Unreachable(READ_ONLY.format(shown(url)))
    if files and not replace:
        _refuse_loss(root, paths, connect(url))
    sent, there, lost = 0, 0, []
    for sha256 in sorted(media_of(read)):
        names = remote.names(sha256[:2]) or []
        if any(PurePosixPath(name).stem == sha256 for name in names):
            there += 1
        elif path := MediaFolder(media).held(sha256) or MediaFolder(cache).held(sha256):
            remote.put(f"{sha256[:2]}/{path.name}", path)
            sent += 1
        else:
            lost.append(sha256)
    written = 0
    if files and not lost:
        place = connect(url)
        for path in paths:
            relative = path.relative_to(root).as_posix()
            if place.get(relative) != path.read_bytes():
                place.put(relative, path)
                written += 1
    return Pushed(sent, there, written, tuple(lost))


def _refuse_loss(root: Path, paths: Sequence[Path], place: Remote) -> None:
    """Raise BadSetting where ``place`` holds sessions that the files here have never seen."""
    for path in paths:
        relative = path.relative_to(root).as_posix()
        there = place.get(relative)
        if there is None or there == path.read_bytes():
            continue
        where = f"{shown(place.url)}/{relative}"
        text = Text(there.decode(errors="replace"), where, "or push over it with --replace")
        known = _sessions(Text(path.read_text(encoding="utf-8"), str(path), ""))
        unseen = {
            date
            for key, dates in _sessions(text).items()
            for date in _unseen(dates, known.get(key, set()))
        }
        if unseen:
            raise BadSetting(
                f"{where} holds sessions that {path} lacks ({', '.join(sorted(unseen)[:3])}): "
                "somebody else pushed them. Start from the files that are there and update those, "
                "or push over them with --replace"
            )


def _unseen(there: set[str], here: set[str]) -> set[str]:
    """What is lacking here, but for the sessions that are older than all that both have.

    Those went as an update drops the oldest.
    """
    shared = there & here
    return {date for date in there - here if not shared or date > min(shared)}


def _sessions(text: Text) -> dict[tuple[str, str], set[str]]:
    """Dates of sessions by workload and measurement; of a calibration under one key."""
    if text.where.endswith(f"/{NAME}"):
        return {("", ""): set(calibration.loads(*text).sessions)}
    return {
        (workload, name): set(stored.sessions)
        for workload, baseline in schema.loads(*text).workloads.items()
        for name, stored in baseline.measurements.items()
    }
