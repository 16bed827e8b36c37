"""Baselines of a git ref: what a gate compares with when the checked-out ones are under test."""

from __future__ import annotations

import io
from pathlib import Path, PurePosixPath

from pytest_vdb.baseline.store import MediaFolder, Text, write_atomically
from pytest_vdb.errors import BadSetting, BaselineError, LostMedium
from pytest_vdb.gitrepo import Ref
from pytest_vdb.names import file_sha256


def inside(ref: Ref, folder: Path, flag: str) -> str:
    """``folder`` as ``ref`` calls it.

    Raises BadSetting for one outside the repository, or behind a link at ``ref``.
    """
    below = ref.below(folder)
    if below is None:
        raise BadSetting(
            f"{flag}={folder} lies outside the repository at {ref.top}, so --vdb-baseline-ref "
            "cannot read it there; name a folder of the repository, or a URL"
        )
    path = PurePosixPath(below)
    for part in (path, *path.parents):
        if ref.is_link(str(part)):
            raise BadSetting(
                f"{flag}={folder}: {part} is a symbolic link at {ref}, and none is followed there; "
                "name the folder that it leads to"
            )
    return below


class RefFiles:
    """Baseline files as a ref has them, read without a checkout."""

    def __init__(self, ref: Ref, folder: str) -> None:
        self.ref = ref
        self.folder = folder

    def text(self, relative: str) -> Text | None:
        path = f"{self.folder}/{relative}"
        content = self.ref.read(path)
        if content is None:
            return None
        where = f"{path} at {self.ref}"
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            raise BaselineError(f"{where} cannot be read: {error}") from None
        return Text(text, where, "mend it there; the checked-out file is not asked")

    def environments(self, model: str, name: str) -> list[str]:
        below = [PurePosixPath(path) for path in self.ref.names(f"{self.folder}/{model}")]
        depth = len(PurePosixPath(self.folder, model).parts)
        return sorted(p.parts[depth] for p in below if "/".join(p.parts[depth + 1 :]) == name)


class RefBlobs:
    """Media in a folder of the working tree, or else as a ref has them in that folder.

    The content is what its hash says wherever it lies: only a file that the change deleted or
    altered is taken out of the ref, into ``scratch``.
    """

    def __init__(self, ref: Ref, media: Path, folder: str, scratch: Path) -> None:
        self.ref = ref
        self.here = MediaFolder(media)
        self.folder = folder
        self.taken = MediaFolder(scratch)

    def find(self, sha256: str) -> Path:
        for place in (self.here, self.taken):
            if (path := place.held(sha256)) is not None:
                return path
        for name in self.ref.names(f"{self.folder}/{sha256[:2]}"):
            if PurePosixPath(name).stem == sha256:
                return self._take(name)
        return self.here.find(sha256)  # says whether it is lost or altered

    def _take(self, name: str) -> Path:
        path = self.taken.root / "/".join(PurePosixPath(name).parts[-2:])
        write_atomically(path, io.BytesIO(self.ref.read(name) or b""))
        if file_sha256(path) != path.stem:
            raise LostMedium(
                f"{name} at {self.ref} does not match its name: it was altered, or lies in Git LFS "
                "(fetch it: git lfs pull)"
            )
        return path

    def add(self, source: Path) -> None:
        self.here.add(source)


def take(ref: Ref, folder: str, scratch: Path) -> Path:
    """``folder`` as ``ref`` has it, written below ``scratch`` once a commit; its path."""
    target = scratch / "ref" / ref.commit[:16] / folder
    target.mkdir(parents=True, exist_ok=True)
    for name in ref.names(folder):
        path = target / PurePosixPath(name).relative_to(folder)
        if not path.exists():
            write_atomically(path, io.BytesIO(ref.read(name) or b""))
    return target
