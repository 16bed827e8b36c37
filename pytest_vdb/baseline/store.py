"""Reading baselines, and the content-addressed store of their reference media."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import IO

from pytest_vdb.baseline import schema
from pytest_vdb.baseline.schema import BaselineFile
from pytest_vdb.errors import BaselineWriteError, LostMedium

ANEW = "--vdb-update --vdb-update-mode=all"


class Store:
    """The baselines' folder and its media. Reads are memoised for the session."""

    def __init__(self, root: Path, media: Path) -> None:
        self.root = root
        self.media = media
        self.read: Callable[[str], BaselineFile | None] = cache(self._read)

    def _read(self, relative: str) -> BaselineFile | None:
        return schema.read(self.root / relative)

    def blob(self, sha256: str) -> Path:
        """The medium with this hash, checked; BaselineError where it is gone or altered."""
        found = sorted(self.media.glob(f"{sha256[:2]}/{sha256}.*"))
        if not found:
            raise LostMedium(
                f"reference medium {sha256[:12]}… is not in {self.media}: fetch the store "
                f"(--vdb-store), or write the baseline anew with {ANEW}"
            )
        if file_sha256(found[0]) != sha256:
            raise LostMedium(
                f"{found[0]} does not match its name: it was altered or truncated; restore it, or "
                f"write the baseline anew with {ANEW}"
            )
        return found[0]

    def add_blob(self, source: Path) -> None:
        """Copy ``<sha256>.<suffix>`` into the store; a no-op where it is there unaltered."""
        target = self.media / source.name[:2] / source.name
        if not target.exists() or file_sha256(target) != source.stem:
            write_atomically(target, source.open("rb"))


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, content: str | IO[bytes]) -> None:
    """Write ``path`` whole or not at all: a temporary neighbour, fsync, rename.

    Raises BaselineWriteError with the operating system's reason; the old file stays as it was.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            if isinstance(content, str):
                file.write(content.encode())
            else:
                with content:
                    shutil.copyfileobj(content, file)
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
