"""The page's videos: each sample beside the baseline's, once for all tests that judge it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from pytest_vdb.errors import VdbError
from pytest_vdb.models import clips
from pytest_vdb.records import Json
from pytest_vdb.report import movie

if TYPE_CHECKING:
    from pytest_vdb.session import VdbSession

KEPT = {
    "identical": "the baseline's frames are the same, bit for bit",
    "video": "",
    "preview": "the baseline keeps a small lossy preview of this video, and no more: small "
    "differences are its compression",
}
UNKEPT = "the run kept no video of its baseline: --vdb-keep does of a test that compares with it"
PLACES = ("frames", "clip", "file", "frames_sha256", "lossy")
"""What of a sample says where its video lies, and is no part of the page."""
UNREADABLE = (VdbError, av.error.FFmpegError, ValueError, EOFError)


class Films:
    """Writes ``N.webm`` into ``folder``; equal pairs of videos are one file.

    ``pool`` encodes several at once: codecs and Pillow leave Python's lock alone. A sample of a
    kept run (`report.kept`) has a ``clip`` in place of its frames, or its ``film`` already.
    """

    def __init__(self, folder: Path, session: VdbSession | None, pool: ThreadPoolExecutor) -> None:
        self.folder = folder
        self.session = session
        self.pool = pool
        self._made: dict[tuple[str, ...], Future[dict[str, Json]]] = {}

    def of(self, shown: Mapping[str, Json]) -> Iterator[dict[str, Json]]:
        """What the page shows of each sample: its own facts, and its film or why there is none."""
        references = shown.get("references") or {"media": {}}
        samples = shown.get("samples", ())
        films = [self._film(one, references) for one in samples]
        for sample, film in zip(samples, films, strict=True):
            facts = {k: v for k, v in sample.items() if k not in PLACES}
            yield {**facts, "film": film.result()}

    def _film(
        self, sample: Mapping[str, Json], references: Mapping[str, Json]
    ) -> Future[dict[str, Json]]:
        media = references["media"].get(sample["key"], {})
        if "film" in sample and sample["film"]["src"] is None:
            return self.pool.submit(dict, sample["film"])
        where = next(sample[name] for name in PLACES if name in sample)
        key = (where, *(f"{role}={media[role]}" for role in sorted(media)))
        if key not in self._made:
            path = self.folder / f"{len(self._made)}.webm"
            if "film" in sample:
                self._made[key] = self.pool.submit(_taken, sample, path)
            else:
                files = references.get("files")
                self._made[key] = self.pool.submit(self._make, sample, media, files, path)
        return self._made[key]

    def _make(
        self,
        sample: Mapping[str, Json],
        media: Mapping[str, str],
        files: Mapping[str, str] | None,
        path: Path,
    ) -> dict[str, Json]:
        kept, why, theirs = self._reference(sample, media, files)
        if theirs is not None:
            with suppress(*UNREADABLE):
                return _written(path, sample, theirs(), kept, why)
            kept, why = "none", "the baseline's video cannot be decoded"
        try:
            return _written(path, sample, None, kept, why)
        except UNREADABLE as error:
            path.unlink(missing_ok=True)
            return {"src": None, "why": f"no video of this run: {error}"}

    def _reference(
        self,
        sample: Mapping[str, Json],
        media: Mapping[str, str],
        files: Mapping[str, str] | None,
    ) -> tuple[str, str, Callable[[], Iterator[np.ndarray]] | None]:
        """What there is to compare with, what a reader must know of it, and its frames."""
        if media.get("frames") == sample["frames_sha256"]:
            return "identical", KEPT["identical"], None
        role = next((role for role in ("video", "preview") if role in media), None)
        if role is None:
            has = "keeps a latent and no video" if "latent" in media else "has no video"
            return "none", f"the baseline {has} of this sample" if files is None else UNKEPT, None
        try:
            if files is not None:
                path = Path(files[media[role]])
            else:
                assert self.session is not None  # who hands on samples has one
                path = self.session.medium(media[role])
        except KeyError:
            return "none", UNKEPT, None
        except VdbError as error:
            return "none", str(error), None
        return role, KEPT[role], lambda: iter(clips.stream(path).frames)


def _written(path: Path, sample: Mapping[str, Json], theirs: Any, kept: str, why: str) -> Json:
    ours, fps = _ours(sample)
    made = movie.write(path, ours, theirs, fps)
    lossy = "this video was kept as a small lossy preview" if sample.get("lossy") else ""
    why = "; ".join(filter(None, (lossy, why)))
    return {"src": f"media/{path.name}", "kept": kept, "why": why, **made.to_json()}


def _ours(sample: Mapping[str, Json]) -> tuple[Any, float | None]:
    """Frames of this side, and their rate."""
    if "clip" in sample:
        clip = clips.stream(sample["clip"])
        return iter(clip.frames), clip.fps
    return np.load(sample["frames"], mmap_mode="r"), sample["fps"]


def _taken(sample: Mapping[str, Json], path: Path) -> dict[str, Json]:
    """The film of another page."""
    shutil.copyfile(sample["file"], path)
    return {**sample["film"], "src": f"media/{path.name}"}
