"""What was computed already: rows in memory and on disk, and what failed in memory.

Importing it imports numpy.
"""

from __future__ import annotations

import os
import tempfile
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pytest_vdb.errors import Unmeasured, UnreadableClip

MEMORY = 512 * 2**20
"""Bytes of rows that are kept in memory: a frame of 1000 numbers is 8 kB."""
NOTE = 1024  # bytes that a failure is taken for
PASSING = (MemoryError, RuntimeError, OSError)
"""What may go well the next time: no memory, on a device too (torch's is a RuntimeError), a full
disk."""


@dataclass
class Kept:
    """Results by a key that says all that they depend on; those used last stay in memory.

    ``memory`` is how many bytes they may take there; ``folder``, where one is given, has all rows.
    """

    folder: Path | None = None
    memory: float = MEMORY
    nbytes: int = 0
    _results: OrderedDict[str, np.ndarray | Exception] = field(default_factory=OrderedDict)

    def find(self, key: str) -> np.ndarray | Exception | None:
        """(M, D) float64, read-only, or what it failed with, or None."""
        if key in self._results:
            self._results.move_to_end(key)
            return self._results[key]
        path = self.folder / f"{key}.npy" if self.folder else None
        if path is None or not path.is_file():
            return None
        try:
            rows: np.ndarray = np.load(path)
        except (OSError, ValueError, EOFError):  # half written by somebody who was killed
            return None
        self._remember(key, rows)
        return rows

    def keep(self, key: str, result: np.ndarray | Exception) -> None:
        """Remember rows, and write them to the folder; or remember a failure that would recur."""
        if isinstance(result, Exception):
            if not passing(result):
                self._remember(key, result.with_traceback(None))  # it would hold the frames
            return
        self._remember(key, result)
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(dir=self.folder, suffix=".draft")
        with os.fdopen(descriptor, "wb") as file:
            np.save(file, result)
        Path(draft).replace(self.folder / f"{key}.npy")

    def forget(self) -> None:
        """Drop what is kept in memory; what is on disk stays."""
        self._results.clear()
        self.nbytes = 0

    def _remember(self, key: str, result: np.ndarray | Exception) -> None:
        if isinstance(result, np.ndarray):
            result.setflags(write=False)  # whoever asks again gets the same array
        if key in self._results:
            self.nbytes -= _size(self._results.pop(key))
        self._results[key] = result
        self.nbytes += _size(result)
        while self.nbytes > self.memory:
            self.nbytes -= _size(self._results.popitem(last=False)[1])


def passing(result: object) -> bool:
    """Whether it is a failure that may go well the next time."""
    return isinstance(result, PASSING) and not isinstance(result, Unmeasured | UnreadableClip)


def _size(result: np.ndarray | Exception) -> int:
    return result.nbytes if isinstance(result, np.ndarray) else NOTE
