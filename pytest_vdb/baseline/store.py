"""Reading baselines, and the content-addressed store of their reference media."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from pytest_vdb.baseline import schema
from pytest_vdb.baseline.schema import BaselineFile
from pytest_vdb.errors import BaselineWriteError, LostMedium
from pytest_vdb.names import file_sha256

ANEW = "--vdb-update --vdb-update-mode=all"


class Text(NamedTuple):
    """A file's content, where it lies, and what to do where it cannot be trusted."""

    content: str
    where: str
    restore: str


class Files(Protocol):
    """Where baseline files are read. Paths are relative to the baselines' folder."""

    def text(self, relative: str) -> Text | None:
        """A file, or None where there is none. Raises BaselineError."""

    def environments(self, model: str, name: str) -> list[str]:
        """Keys of the environments in which ``model`` has a file called ``name``."""


class Blobs(Protocol):
    """Where reference media lie, by the sha256 of their content."""

    def find(self, sha256: str) -> Path:
        """A file with that content, checked. Raises LostMedium."""

    def add(self, source: Path) -> None:
        """Keep ``<sha256>.<suffix>``; a no-op where it is there unaltered."""


class Folder:
    """Baseline files in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def gating(self, relative: str) -> BaselineFile | None:
        """The file without sessions of changes. Raises BaselineError."""
        file = schema.read(self.root / relative)
        return file.gating() if file else None

    def text(self, relative: str) -> Text | None:
        path = self.root / relative
        text = schema.text_of(path)
        return None if text is None else Text(text, str(path), schema.restore(path))

    def environments(self, model: str, name: str) -> list[str]:
        paths = (self.root / model).glob(f"*/{name}")
        return sorted(path.relative_to(self.root / model).parts[0] for path in paths)


class MediaFolder:
    """Media in a folder: ``<first two hex digits>/<sha256>.<suffix>``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def named(self, sha256: str) -> Path | None:
        """What lies there under this name, whatever it holds."""
        return next(iter(sorted(self.root.glob(f"{sha256[:2]}/{sha256}.*"))), None)

    def held(self, sha256: str) -> Path | None:
        """The medium where it is there and unaltered."""
        path = self.named(sha256)
        return path if path is not None and file_sha256(path) == sha256 else None

    def find(self, sha256: str) -> Path:
        path = self.named(sha256)
        if path is None:
            raise LostMedium(
                f"reference medium {sha256[:12]}… is not in {self.root}: fetch the store "
                f"(--vdb-store), or write the baseline anew with {ANEW}"
            )
        if file_sha256(path) != sha256:
            raise LostMedium(
                f"{path} does not match its name: it was altered or truncated; restore it, or "
                f"write the baseline anew with {ANEW}"
            )
        return path

    def add(self, source: Path) -> None:
        target = self.root / source.name[:2] / source.name
        if not target.exists() or file_sha256(target) != source.stem:
            write_atomically(target, source.open("rb"))


class Store:
    """Baseline files and their media. Reads are memoised for the session.

    An update writes below ``root`` and keeps media in ``blobs``. The gate reads ``files``, which
    are those of ``root`` where nothing else is said.
    """

    def __init__(
        self,
        root: Path,
        media: Path,
        *,
        files: Files | None = None,
        blobs: Blobs | None = None,
        label: str = "",
    ) -> None:
        self.root = root
        self.label = label or str(root)
        self.files: Files = files or Folder(root)
        self.blobs: Blobs = blobs or MediaFolder(media)
        self.seen: dict[str, BaselineFile] = {}
        self.read: Callable[[str], BaselineFile | None] = cache(self._read)
        self.environments: Callable[[str, str], list[str]] = cache(self.files.environments)
        self.head: Callable[[str], BaselineFile | None] | None = None
        """Reads the checked-out files, where the gate trusts a ref's alone."""

    def _read(self, relative: str) -> BaselineFile | None:
        found = self.files.text(relative)
        if found is None:
            return None
        file = self.seen[relative] = schema.loads(*found)
        return file.gating()

    def blob(self, sha256: str) -> Path:
        """The medium with this hash, checked; LostMedium where it is gone or altered."""
        return self.blobs.find(sha256)

    def add_blob(self, source: Path) -> None:
        """Copy ``<sha256>.<suffix>`` into the store; a no-op where it is there unaltered."""
        self.blobs.add(source)


def media_of(files: Iterable[BaselineFile]) -> set[str]:
    """Hashes of the media that ``files`` name and a store keeps."""
    found = (baseline.media for file in files for baseline in file.workloads.values())
    return set().union(*map(named_in, found))


def named_in(media: Mapping[str, Mapping[str, str]]) -> set[str]:
    """Hashes of files in one baseline's or test's media: of the frames there is none."""
    return {sha for roles in media.values() for role, sha in roles.items() if role != "frames"}


def write_atomically(path: Path, content: str | IO[bytes]) -> None:
    """Write ``path`` whole or not at all: a temporary neighbour, fsync, rename.

    Raises BaselineWriteError with the operating system's reason; the old file stays as it was.
    """

    def fill(file: IO[bytes]) -> None:
        if isinstance(content, str):
            file.write(content.encode())
        else:
            with content:
                shutil.copyfileobj(content, file)

    fill_atomically(path, fill)


def fill_atomically(path: Path, fill: Callable[[IO[bytes]], None]) -> None:
    """As `write_atomically`, of what ``fill`` writes into the open file."""
    temporary = None
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is no file")  # root would put one in the place of /dev/null
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
        temporary = None
    except OSError as error:
        raise BaselineWriteError(
            f"{path} was not written: {error.strerror or error}; what was there is untouched"
        ) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def replace_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Put the folder that ``fill`` fills at ``path``, whole or not at all.

    Raises BaselineWriteError with the operating system's reason.
    """
    draft = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        fill(draft)
        draft.chmod(0o755)
        if path.is_dir():
            shutil.rmtree(path)
        draft.replace(path)
    except OSError as error:
        raise BaselineWriteError(f"{path} was not written: {error.strerror or error}") from None
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)
