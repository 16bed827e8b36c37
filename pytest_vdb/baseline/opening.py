"""From what the settings say to the one store of a session."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from pytest_vdb.baseline.ref import RefBlobs, RefFiles, inside
from pytest_vdb.baseline.remote import RemoteBlobs, RemoteFiles, connect, is_url, joined
from pytest_vdb.baseline.store import Blobs, Files, Folder, Store, media_of
from pytest_vdb.gitrepo import Ref
from pytest_vdb.places import cache_folder, shown


def media_cache() -> Path:
    """Where media of remote stores are kept, whatever store they came from."""
    return cache_folder() / "media"


def open_store(
    baselines: str,
    media: str | None,
    place: Callable[[str], Path],
    ref: Ref | None,
    scratch: Path,
) -> Store:
    """The store of ``--vdb-baselines`` and ``--vdb-store``, each a folder or a URL.

    With ``ref``, folders of the repository are read as that commit has them. ``place`` makes a
    path of a relative one; ``scratch`` is the run's folder. Raises BadSetting, NoBase, Unreachable.
    """
    files: Files | None = None
    label = ""
    if is_url(baselines):
        root = scratch / "baselines"
        files, label = RemoteFiles(connect(baselines)), shown(baselines)
        media = media or joined(baselines, "media")
    else:
        root = place(baselines)
        media = media or str(root / "media")
        if ref is not None:
            files = RefFiles(ref, inside(ref, root, "--vdb-baselines"))
            label = f"{root} of {ref}"
    blobs: Blobs | None = None
    folder = root if is_url(media) else place(media)
    if is_url(media):
        blobs = RemoteBlobs(connect(media), media_cache(), lambda: media_of(store.seen.values()))
    elif ref is not None and (below := ref.below(folder)) is not None:
        blobs = RefBlobs(ref, folder, below, scratch / "media")
    store = Store(root, folder, files=files, blobs=blobs, label=label)
    if ref is not None and not is_url(baselines):
        store.head = cache(Folder(root).gating)
    return store
