"""A zip file with a manifest of what is in it. Who reads one trusts nothing of it.

The same content gives the same bytes, whenever and wherever it is packed.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path, PurePosixPath
from typing import IO

from pytest_vdb.baseline.store import fill_atomically
from pytest_vdb.baseline.validate import SHA256, parse
from pytest_vdb.errors import BadBundle
from pytest_vdb.names import CONTROL
from pytest_vdb.records import Json

MANIFEST, SCHEMA = "manifest.json", 1
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip file can hold."""
CHUNK = 2**20
INFLATED = 100
"""Bytes that a byte of the archive may become at most: ours reach 20, a bomb goes to 1000."""
ROOM = 64 * 2**20
"""What a small archive may hold all the same; and the most that a manifest may be."""
MEMBERS = 200_000
PLAIN = frozenset({".json", ".jsonl", ".txt", ".py", ".csv", ".npy"})
"""Suffixes of what gets smaller by deflating."""
DRIVE = re.compile(r"^[A-Za-z]:")

Members = Mapping[str, bytes | Path]


def pack(target: Path, members: Members) -> None:
    """Write an archive of ``members`` (content or file by name), whole or not at all.

    Raises BaselineWriteError with the operating system's reason.
    """

    def fill(file: IO[bytes]) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            files = {name: _add(archive, name, members[name]) for name in sorted(members)}
            manifest = {"schema": SCHEMA, "files": files}
            _add(archive, MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())

    fill_atomically(target, fill)


def _add(archive: zipfile.ZipFile, name: str, content: bytes | Path) -> dict[str, Json]:
    """Add one member; its entry in the manifest."""
    info = zipfile.ZipInfo(name, EPOCH)
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    deflate = PurePosixPath(name).suffix in PLAIN
    info.compress_type = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
    size, sha256 = 0, hashlib.sha256()
    with archive.open(info, "w", force_zip64=True) as member:
        for chunk in _chunks(content):
            member.write(chunk)
            sha256.update(chunk)
            size += len(chunk)
    return {"sha256": sha256.hexdigest(), "bytes": size}


def _chunks(content: bytes | Path) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        yield from iter(lambda: file.read(CHUNK), b"")


# ------------------------------------------------------------------------- reading


def unpack(bundle: Path, folder: Path) -> list[str]:
    """Write every member below ``folder``, which is empty; their names.

    Raises BadBundle for what is no archive of ours, for a member that is not what the manifest
    says, that the manifest lacks, or that an honest one never has: a path out of the folder, a
    link, two of one name, or so much of little that it fills a disk.
    """
    try:
        with zipfile.ZipFile(bundle) as archive:
            members = _members(archive, bundle)
            expected = _manifest(archive, members.pop(MANIFEST, None), bundle)
            _same_names(members.keys(), expected.keys(), bundle)
            for name, info in members.items():
                _extract(archive, info, folder / name, expected[name], bundle)
            return sorted(members)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError) as error:
        raise BadBundle(f"{bundle} is damaged, or no archive of vdb bundle ({error})") from None
    except OSError as error:
        raise BadBundle(f"{bundle} cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # of zlib, of a name, of the manifest
        if isinstance(error, BadBundle):
            raise
        raise BadBundle(f"{bundle} is no archive of vdb bundle ({error})") from None


def _members(archive: zipfile.ZipFile, bundle: Path) -> dict[str, zipfile.ZipInfo]:
    infos = archive.infolist()
    if len(infos) > MEMBERS:
        raise BadBundle(f"{bundle} has {len(infos)} members; {MEMBERS} are the most")
    size, room = bundle.stat().st_size, shutil.disk_usage(tempfile.gettempdir()).free // 2
    total = sum(info.file_size for info in infos)
    if total > INFLATED * size + ROOM:
        raise BadBundle(
            f"{bundle} of {size} bytes says that it holds {total}: no honest archive does"
        )
    if total > room:
        raise BadBundle(
            f"{bundle} holds {total} bytes, which is more than half of what is free in "
            f"{tempfile.gettempdir()}: set TMPDIR to a larger place"
        )
    found: dict[str, zipfile.ZipInfo] = {}
    folded: set[str] = set()
    for info in infos:
        if why := _wrong(info):
            raise BadBundle(f"{bundle} has the member {info.filename!r}, {why}")
        if info.filename.casefold() in folded:
            raise BadBundle(f"{bundle} has the member {info.filename!r} twice")
        folded.add(info.filename.casefold())
        found[info.filename] = info
    return found


def _wrong(info: zipfile.ZipInfo) -> str:
    """Why no archive of ours has such a member, or an empty string."""
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0: whoever wrote it knows no kinds
    if info.orig_filename != info.filename or not is_inside(info.filename):
        return "whose path is none inside of it"
    if info.is_dir() or kind not in (0, stat.S_IFREG):
        return "which is no plain file"
    if info.flag_bits & 1:
        return "which is encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "which is compressed as nothing of ours is"
    return ""


def is_inside(name: str) -> bool:
    """Whether ``name`` is a plain relative path that stays where it starts, on any platform."""
    parts = name.split("/")
    return not (
        CONTROL.search(name)
        or "\\" in name
        or DRIVE.search(name)
        or any(part in ("", ".", "..") or part != part.rstrip(". ") for part in parts)
    )


def _manifest(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo | None, bundle: Path
) -> dict[str, dict[str, Json]]:
    """``sha256`` and ``bytes`` of every member, by its name."""
    if info is None:
        raise BadBundle(f"{bundle} has no {MANIFEST}: vdb bundle writes one")
    if info.file_size > ROOM:
        raise BadBundle(f"{bundle} has a {MANIFEST} of {info.file_size} bytes")
    with archive.open(info) as member:
        data = parse(member.read(ROOM).decode())
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise BadBundle(
            f"{bundle} has no manifest of schema {SCHEMA}: another pytest-vdb wrote it, or none"
        )
    files = data.get("files")
    if not isinstance(files, dict):
        raise BadBundle(f"{bundle} has a manifest without files")
    for name, entry in files.items():
        known = isinstance(entry, dict) and type(entry.get("bytes")) is int
        if not known or not SHA256.fullmatch(str(entry.get("sha256"))):
            raise BadBundle(f"{bundle} has a manifest that says nothing of {name!r}")
    return files


def _same_names(there: AbstractSet[str], listed: AbstractSet[str], bundle: Path) -> None:
    if lost := sorted(listed - there):
        raise BadBundle(f"{bundle} lacks {lost[0]}, which its manifest lists")
    if more := sorted(there - listed):
        raise BadBundle(f"{bundle} has {more[0]}, which its manifest does not list")


def _extract(
    archive: zipfile.ZipFile,
    info: zipfile.ZipInfo,
    target: Path,
    expected: Mapping[str, Json],
    bundle: Path,
) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(info) as member, target.open("xb") as file:
        size, sha256 = _copy(member, file, expected["bytes"])
    if size != expected["bytes"] or sha256 != expected["sha256"]:
        raise BadBundle(f"{bundle}: {info.filename} was altered: it is not what the manifest says")


def _copy(member: IO[bytes], file: IO[bytes], most: int) -> tuple[int, str]:
    """Copy up to ``most`` bytes and one more; how many, and their sha256."""
    size, sha256 = 0, hashlib.sha256()
    while size <= most and (chunk := member.read(min(CHUNK, most + 1 - size))):
        file.write(chunk)
        sha256.update(chunk)
        size += len(chunk)
    return size, sha256.hexdigest()
