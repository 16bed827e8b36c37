"""Files of features, so that a reference set is computed once: npz, without pickle."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pytest_vdb.errors import Unmeasured

FORMAT = "1"
MEMBERS = ("format", "feature", "features", "ids", "weights_sha256", "version")


@dataclass(frozen=True)
class StoredFeatures:
    """Rows (N, D), float64, and for each the id of the video that it is of."""

    features: np.ndarray
    ids: tuple[str, ...]

    @property
    def videos(self) -> int:
        """How many videos the rows are of: what a metric's ``minimum`` counts."""
        return len(set(self.ids))


def save_features(
    path: Path | str,
    features: np.ndarray,
    ids: Sequence[str],
    *,
    feature: str,
    weights_sha256: str,
    version: str,
) -> None:
    """Write rows (N, D) to ``path``, whole or not at all.

    ``ids`` has one name a row, that of its video: rows of one video share it. ``feature`` and
    ``version`` are those of the `Feature`, ``weights_sha256`` is of its network's file.

    Raises Unmeasured for rows that are not finite, or ids that are not as many.
    """
    rows = np.asarray(features, dtype=np.float64)
    if rows.ndim != 2 or 0 in rows.shape or not np.isfinite(rows).all():
        raise Unmeasured(f"{path}: features of shape {rows.shape} are not (rows, numbers), finite")
    if len(ids) != len(rows):
        raise Unmeasured(f"{path}: {len(rows)} rows and {len(ids)} ids; give one id a row")
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=target.parent, suffix=".draft")
    with os.fdopen(descriptor, "wb") as file:
        np.savez(
            file,
            format=FORMAT,
            feature=feature,
            features=rows,
            ids=np.array(list(ids), dtype=np.str_),
            weights_sha256=weights_sha256,
            version=version,
        )
    Path(draft).replace(target)


def load_features(
    path: Path | str, *, feature: str, weights_sha256: str, version: str
) -> StoredFeatures:
    """The rows in ``path``, if they are of this feature, these weights and this version.

    Raises Unmeasured for a file that is missing, damaged or of something else; the message names
    both sides, and what to do.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {name: file[name] for name in MEMBERS}
        rows, ids = stored["features"].astype(np.float64), [str(i) for i in stored["ids"]]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise Unmeasured(
            f"{path} holds no features ({error or type(error).__name__}); write it with "
            "save_features"
        ) from None
    wanted = {
        "format": FORMAT,
        "feature": feature,
        "weights_sha256": weights_sha256,
        "version": version,
    }
    for name, ours in wanted.items():
        theirs = str(stored[name])
        if theirs != ours:
            raise Unmeasured(
                f"{path} was computed with {name} {theirs!r}, and {ours!r} is in use here: the "
                "numbers cannot be compared; compute the reference set again and store it with "
                "save_features"
            )
    if rows.ndim != 2 or len(ids) != len(rows) or not np.isfinite(rows).all():
        raise Unmeasured(f"{path} is damaged: {len(ids)} ids for features of shape {rows.shape}")
    return StoredFeatures(rows, tuple(ids))
