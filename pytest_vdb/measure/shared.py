"""Videos that one process generated and others read: a folder of entries, each one workload's.

An entry is a folder named by a key that says all that its videos depend on. Its files are named
by the sha256 of their bytes, and ``entry.json`` says which sample each belongs to. An entry
appears whole or not at all, and what does not match its hash is removed, so that whoever finds
none generates. Nothing of what a generation cost is ever in it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from pytest_vdb.names import digest, file_sha256
from pytest_vdb.records import Json, Run, Sample, Workload, sample_key
from pytest_vdb.traces import Trace

SCHEMA = 2
ENTRY = "entry.json"
ROLES = ("frames", "latent", "audio")
SHOWN = (
    *("prompt", "seed", "frames_sha256", "shape", "latent_sha256"),
    *("fps", "nonfinite", "sampling_rate"),
)
"""The fields of a sample that say what its video is; all others say what it cost."""

STALL = 1800.0
"""Seconds without a sign of life after which nobody waits for another process any longer."""
PAUSE = 0.1  # seconds between two looks at a lock
ABANDONED = 86400.0  # seconds after which a half-written entry is nobody's

BROKEN = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""What reading an ``entry.json`` that no run of ours wrote raises."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Entry:
    """A stored run without its costs, and ``made``: who generated it, when, from which commit."""

    run: Run
    made: dict[str, str]


class VideoStore:
    """Entries below ``root``, of at most ``limit`` bytes together (None: no limit).

    ``tell`` gets a sentence about whatever kept a video from being reused. ``stall`` is how many
    seconds `alone` waits for a holder that gives no sign of life.
    """

    def __init__(
        self, root: Path, tell: Tell, limit: int | None = None, stall: float = STALL
    ) -> None:
        self.root = root
        self.tell = tell
        self.limit = limit
        self.stall = stall

    def find(self, key: str, workload: Workload, into: Path) -> Entry | None:
        """The entry, its files checked and linked (or copied) into the folder ``into``, or None.

        One that is damaged, or is not of ``workload``, is removed.
        """
        folder = self.root / key
        try:
            body = _read(folder / ENTRY)
            entry = _entry(body, folder, workload)
        except FileNotFoundError as error:
            if (folder / ENTRY).exists():  # a file of it is gone
                self._damaged(key, error)
            return None
        except OSError as error:
            self.tell(f"{folder} cannot be read ({error.strerror}), so its videos are made anew")
            return None
        except BROKEN as error:
            self._damaged(key, error)
            return None
        try:
            into.mkdir(parents=True, exist_ok=True)
            with suppress(OSError):
                os.utime(folder / ENTRY)  # those read last are kept longest
            return Entry(_placed(entry.run, into), entry.made)
        except OSError as error:  # the folder is full, or another process has just removed it
            self.tell(f"{folder} was not reused: {error.strerror or error}")
            return None

    def differs(self, key: str, run: Run) -> bool | None:
        """Whether an entry has other frames, latents or sound than ``run``; None without one."""
        try:
            rows = _read(self.root / key / ENTRY)["samples"]
            stored = [(*_hashes(row), row["files"].get("audio")) for row in rows]
            return stored != [(*_hashes(s.to_json()), _sound(s)) for s in run.samples]
        except (OSError, *BROKEN):
            return None

    def keep(self, key: str, run: Run, made: Mapping[str, str]) -> None:
        """Store ``run``'s videos under ``key`` unless there is an entry; it never raises.

        Files of the same file system are linked, and take no room.
        """
        draft = None
        try:
            if (self.root / key / ENTRY).exists():
                return
            shutil.rmtree(self.root / key, ignore_errors=True)  # what is left of one
            size = sum(path.stat().st_size for s in run.samples for path in _files(s).values())
            if self.limit is not None and size > self.limit:
                self.tell(
                    f"{size} bytes of videos are more than --vdb-reuse-size allows ({self.limit}), "
                    "so they are not kept"
                )
                return
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft = Path(tempfile.mkdtemp(prefix=".", dir=self.root))
            body = _written(run, made, draft)
            text = json.dumps({"sha256": digest(body), "body": body}, allow_nan=False)
            (draft / ENTRY).write_text(text, encoding="utf-8")
            with suppress(FileExistsError):
                _rename(draft, self.root / key)
            self._evict(key)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            self.tell(f"videos were not kept for reuse in {self.root}: {why}")
        finally:
            if draft is not None:
                shutil.rmtree(draft, ignore_errors=True)

    def discard(self, key: str) -> None:
        """Remove an entry at once for every reader; no error where there is none."""
        grave = self.root / f".{key[:16]}-{os.getpid()}-{time.time_ns()}"
        with suppress(OSError):
            (self.root / key).rename(grave)
        shutil.rmtree(grave, ignore_errors=True)

    @contextmanager
    def alone(self, key: str, before_waiting: Callable[[], None]) -> Iterator[None]:
        """Hold ``key`` in the block: of all processes one generates, the others wait here.

        The operating system ends the hold when its process dies. Whoever has waited `stall`
        seconds without a sign of life (`alive`), or cannot lock at all, goes on without it.
        ``before_waiting`` is called once where there is something to wait for.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = FileLock(self.root / f"{key}.lock", thread_local=False)
            held = self._acquire(lock, key, before_waiting)
        except OSError as error:
            why = error.strerror or error
            self.tell(f"{self.root} cannot be locked ({why}), so its videos are not shared")
            yield
            return
        try:
            yield
        finally:
            if held:
                with suppress(OSError):
                    self._alive(key).unlink(missing_ok=True)
                lock.release()

    def alive(self, key: str) -> None:
        """Tell those who wait for ``key`` that something is done: the load, a video."""
        with suppress(OSError):
            self._alive(key).write_text(str(time.time_ns()))

    def _acquire(self, lock: FileLock, key: str, before_waiting: Callable[[], None]) -> bool:
        seen, since = None, time.monotonic()
        while True:
            try:
                lock.acquire(blocking=False)
                return True
            except Timeout:
                pass
            if seen is None:
                before_waiting()
            sign = self._sign(key)
            if sign != seen:
                seen, since = sign, time.monotonic()
            if time.monotonic() - since > self.stall:
                self.tell(
                    f"nothing was heard for {self.stall:.0f} s of the worker that generates the "
                    "same videos, so this one generates by itself"
                )
                return False
            time.sleep(PAUSE)

    def _sign(self, key: str) -> str:
        try:
            return self._alive(key).read_text()
        except (OSError, ValueError):
            return "none yet"

    def _alive(self, key: str) -> Path:
        return self.root / f"{key}.alive"

    def _damaged(self, key: str, error: Exception) -> None:
        self.tell(f"{self.root / key} is damaged ({error}), so its videos are made anew")
        self.discard(key)

    def _evict(self, kept: str) -> None:
        """Remove the entries that were read longest ago until the rest fits; ``kept`` stays."""
        if self.limit is None:
            return
        entries = []
        for folder in self.root.iterdir():
            with suppress(OSError):  # another process may be at it as well
                if folder.name.startswith("."):
                    if time.time() - folder.stat().st_mtime > ABANDONED:
                        shutil.rmtree(folder, ignore_errors=True)
                elif folder.is_dir():
                    size = sum(file.stat().st_size for file in folder.iterdir())
                    entries.append(((folder / ENTRY).stat().st_mtime, size, folder.name))
        total = sum(size for _, size, _ in entries)
        for _, size, key in sorted(entries):
            if total > self.limit and key != kept:
                self.discard(key)
                # Who holds it goes on alone: two who generate keep one entry between them.
                (self.root / f"{key}.lock").unlink(missing_ok=True)
                total -= size


def _hashes(fields: Mapping[str, Json]) -> tuple[Json, Json, Json]:
    """What tells a sample's video from another, but for its sound."""
    return fields["frames_sha256"], fields["latent_sha256"], fields["sampling_rate"]


def _sound(sample: Sample) -> str | None:
    """Sha256 of the file of a sample's sound. Raises OSError."""
    return file_sha256(Path(sample.audio)) if sample.audio else None


def _files(sample: Sample) -> dict[str, Path]:
    """The files of a sample by what they hold."""
    paths = {role: getattr(sample, role) for role in ROLES}
    return {role: Path(path) for role, path in paths.items() if path}


def _written(run: Run, made: Mapping[str, str], folder: Path) -> dict[str, Json]:
    """Put the files of ``run`` into ``folder``, and say which is which."""
    rows = []
    for sample in run.samples:
        files = {}
        for role, path in _files(sample).items():
            files[role] = file_sha256(path)
            _place(path, folder / f"{files[role]}.npy")
        fields = sample.to_json()
        rows.append({**{name: fields[name] for name in SHOWN}, "files": files})
    return {
        "schema": SCHEMA,
        "made": dict(made),
        "samples": rows,
        "provides": sorted(run.provides),
        "hooked": run.hooked,
        "trace": run.trace.numbers.to_json() if run.trace else None,
    }


def _read(path: Path) -> dict[str, Json]:
    """The body of an ``entry.json``. Raises OSError, or one of `BROKEN`."""
    whole = json.loads(path.read_text(encoding="utf-8"))
    body: dict[str, Json] = whole["body"]
    if digest(body) != whole["sha256"]:
        raise ValueError(f"{path.name} does not match its hash")
    if body["schema"] != SCHEMA:
        raise ValueError(f"{path.name} has schema {body['schema']!r}, this one reads {SCHEMA}")
    return body


def _entry(body: dict[str, Json], folder: Path, workload: Workload) -> Entry:
    """What ``body`` says, its files checked. Raises OSError, or one of `BROKEN`."""
    asked = [sample_key(prompt.id, seed) for prompt, seed in workload.jobs]
    if [sample_key(row["prompt"], row["seed"]) for row in body["samples"]] != asked:
        raise ValueError("it holds other samples than were asked for")
    samples = tuple(_sample(row, folder) for row in body["samples"])
    run = Run(
        samples,
        provides=frozenset(body["provides"]),
        hooked=bool(body["hooked"]),
        trace=Trace.from_json(body["trace"]).numbers if body["trace"] else None,
    )
    return Entry(run, {str(k): str(v) for k, v in body["made"].items()})


def _sample(row: dict[str, Json], folder: Path) -> Sample:
    import numpy as np

    paths = {role: _checked(folder, row["files"][role]) for role in ROLES if role in row["files"]}
    sample = Sample.from_json({**{name: row[name] for name in SHOWN}, **paths})
    for role, kind in (("frames", np.uint8), ("latent", np.float32), ("audio", np.float32)):
        if role in paths and np.load(paths[role], mmap_mode="r", allow_pickle=False).dtype != kind:
            raise ValueError(f"its {role} are not {kind.__name__}")
    if np.load(sample.frames, mmap_mode="r", allow_pickle=False).shape != sample.shape:
        raise ValueError("its frames have another shape than it says")
    return sample


def _checked(folder: Path, sha256: str) -> str:
    """The file of this name, which says what is in it."""
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ValueError(f"{sha256!r} is no sha256")  # a name must not lead out of the folder
    path = folder / f"{sha256}.npy"
    if file_sha256(path) != sha256:
        raise ValueError(f"{path.name[:12]}… does not match its name")
    return str(path)


def _placed(run: Run, into: Path) -> Run:
    """``run`` with its files in ``into``, where nobody removes them. Raises OSError."""
    samples = []
    for index, sample in enumerate(run.samples):
        fields = sample.to_json()
        for role, path in _files(sample).items():
            fields[role] = str(into / f"{index:04d}-{role}.npy")
            _place(path, Path(fields[role]))
        samples.append(Sample.from_json(fields))
    return replace(run, samples=tuple(samples))


def _place(source: Path, target: Path) -> None:
    """A second name of the same file, or a copy where the file system gives none."""
    if target.exists():
        return  # two samples of the same content
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _rename(draft: Path, target: Path) -> None:
    """Raises FileExistsError where another process was first."""
    try:
        draft.rename(target)
    except OSError:
        if target.exists():
            raise FileExistsError(str(target)) from None
        raise
