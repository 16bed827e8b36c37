"""Reference media of one sample: what a baseline keeps so that a later video can be compared."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np

from pytest_vdb.models.clips import write_webp
from pytest_vdb.names import file_sha256
from pytest_vdb.records import Sample

SMALL = 2**20
"""Videos of at most this many raw bytes are kept lossless without being asked."""
PREVIEW_SIDE = 256


def keep(sample: Sample, frames: np.ndarray, folder: Path, *, lossless: bool) -> dict[str, str]:
    """Write the media of ``sample`` as ``<sha256>.<suffix>`` into ``folder``; sha256 by role.

    ``frames``: uint8 (T, H, W, 3). A recorded clip is its own lossless medium; a small video is
    kept as lossless WebP; a large one as a small preview unless ``lossless`` is asked for. The
    latent, where there is one, is kept in fp16.
    """
    folder.mkdir(parents=True, exist_ok=True)
    media = {"frames": sample.frames_sha256}
    # A name of its own: two workers may keep equal videos at once.
    draft = folder / f"draft-{os.getpid()}-{sample.frames_sha256}"
    fps = sample.fps or 8
    if sample.original is not None:
        shutil.copyfile(sample.original, draft)
        media["video"] = _name(draft, Path(sample.original).suffix.lower())
    elif lossless or frames.nbytes <= SMALL:
        write_webp(draft, frames, fps, lossless=True, max_side=None)
        media["video"] = _name(draft, ".webp")
    else:
        write_webp(draft, frames, fps, lossless=False, max_side=PREVIEW_SIDE)
        media["preview"] = _name(draft, ".webp")
    if sample.latent is not None:
        with draft.open("wb") as file:
            np.save(file, np.load(sample.latent).astype(np.float16))
        media["latent"] = _name(draft, ".npy")
    return media


def keep_trace(content: bytes, folder: Path) -> str:
    """Write a trace's bytes as ``<sha256>.gz`` into ``folder``; the sha256."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"draft-{os.getpid()}-trace"
    draft.write_bytes(content)
    return _name(draft, ".gz")


def _name(draft: Path, suffix: str) -> str:
    """Rename a finished draft to its content's hash."""
    sha256 = file_sha256(draft)
    draft.replace(draft.with_name(sha256 + suffix))
    return sha256
