"""Which weights a model would load, told without loading them. No heavy import."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path

from pytest_vdb.errors import Unidentified
from pytest_vdb.models.load_options import PARTS
from pytest_vdb.names import file_sha256
from pytest_vdb.records import ModelSpec

COMMIT = re.compile(r"[0-9a-f]{40}")

OURS = "pytest_vdb.models."
"""Functions of this package build from seeds, and read no file."""


def weights_identity(spec: ModelSpec) -> list[str]:
    """Texts that change with the weights of ``spec``: digests of files, or commits of the hub.

    Raises Unidentified where nothing here says which weights those will be.
    """
    if spec.source == "endpoint":
        raise Unidentified("nothing here knows the code and the weights behind a server")
    if spec.source == "factory":
        return [_declared(spec)]
    others = [str(spec.options[name]) for name in PARTS if spec.options.get(name)]
    return [_of(spec.location, spec.revision), *(_of(place, "") for place in others)]


def _declared(spec: ModelSpec) -> str:
    if spec.location.startswith(OURS):
        return spec.location
    if not (spec.sha256 or spec.revision):
        raise Unidentified(
            f"{spec.location} may read weights from anywhere; say which in a pytest_vdb_models "
            "hook: ModelSpec(..., revision='what changes when they do')"
        )
    return f"{spec.revision} {spec.sha256}"


def _of(location: str, revision: str) -> str:
    """A folder's content, or a commit of the hub."""
    folder = Path(location).expanduser()
    if folder.is_dir():
        return folder_sha256(folder)
    commit = revision if COMMIT.fullmatch(revision) else _cached_commit(location, revision)
    if commit is None:
        raise Unidentified(
            f"{location} may have moved on since: name a commit (--vdb-model={location}@COMMIT, a "
            "folder for a load option), or set HF_HUB_OFFLINE=1 to stay with what is downloaded"
        )
    return f"{location}@{commit}"


def _cached_commit(location: str, revision: str) -> str | None:
    """The commit that the hub's cache holds, where nothing but the cache is asked."""
    import huggingface_hub
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE:
        return None
    for name in ("model_index.json", "config.json"):
        found = huggingface_hub.try_to_load_from_cache(
            location, name, revision=revision or None, cache_dir=constants.HF_HUB_CACHE
        )
        if isinstance(found, str) and COMMIT.fullmatch(Path(found).parent.name):
            return Path(found).parent.name
    return None


@cache
def folder_sha256(folder: Path) -> str:
    """Sha256 (hex) over a line for each file below ``folder``: its path and its content's sha256.

    Links to files count with what they lead to. Raises Unidentified for a file that cannot be read,
    and for a link to a folder, behind which nobody knows where to end.
    """
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        if any(part.startswith(".") for part in below.parts):
            continue
        if path.is_symlink() and path.is_dir():
            raise Unidentified(f"{path} is a link to a folder, which is not followed")
        if not path.is_file():
            continue
        try:
            inner = file_sha256(path)
        except OSError as error:
            raise Unidentified(f"{path} cannot be read: {error.strerror}") from None
        whole.update(f"{below.as_posix()} {inner}\n".encode(errors="surrogateescape"))
    return whole.hexdigest()
