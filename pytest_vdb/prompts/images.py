"""Conditioning images for image-to-video: where they may lie, and that they are images.

Nothing is decoded here, so nothing heavy is imported.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from pytest_vdb.errors import UnknownPrompts, nearest

MAGIC = {
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "WebP": re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
    "BMP": re.compile(rb"BM.{4}\0{4}", re.DOTALL),  # after the size: four reserved bytes
    "GIF": re.compile(rb"GIF8[79]a"),
}
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
SKIMAGE = "skimage:"


def find(image: str, inside: Sequence[Path]) -> tuple[str, str]:
    """Absolute path and sha256 of ``image``: ``skimage:NAME``, or a path relative to ``inside[0]``.

    The file must lie below one of the folders ``inside``, links followed. Raises UnknownPrompts.
    """
    path = skimage(image) if image.startswith(SKIMAGE) else _below(image, inside)
    return str(path), checked(path)


def skimage(image: str) -> Path:
    """The file of ``skimage:NAME`` in the installed scikit-image, which is not imported.

    Only what its wheel ships counts: nothing is downloaded. Raises UnknownPrompts.
    """
    name = image.removeprefix(SKIMAGE)
    spec = find_spec("skimage")
    for place in (spec and spec.submodule_search_locations) or ():
        shipped = {p.stem: p for p in Path(place, "data").glob("*") if p.suffix in SUFFIXES}
        if name in shipped:
            return shipped[name]
        if shipped:
            raise UnknownPrompts(f"scikit-image ships no image {name!r}: {nearest(name, shipped)}")
    raise UnknownPrompts(
        f'image {image!r} is in scikit-image, which is not here: pip install "pytest-vdb[images]"'
    )


def _below(image: str, inside: Sequence[Path]) -> Path:
    if not inside:
        raise UnknownPrompts(f"image {image!r} is no {SKIMAGE}NAME")
    try:
        path = (inside[0] / image).resolve()
        folders = [folder.resolve() for folder in inside]
    except (OSError, ValueError, RuntimeError) as error:  # a NUL, a loop of links
        raise UnknownPrompts(f"image {image!r} is no path: {error}") from None
    if not any(path.is_relative_to(folder) for folder in folders):
        raise UnknownPrompts(
            f"image {image!r} leads to {path}, out of {' and '.join(map(str, folders))}; "
            "put it beside the file that names it"
        )
    return path


def checked(path: Path) -> str:
    """Sha256 (hex) of an image file. Raises UnknownPrompts for what is clearly none."""
    try:
        if not path.is_file():
            raise UnknownPrompts(f"there is no image {path}")
        stat = path.stat()
        return _sha256(path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise UnknownPrompts(f"image {path} cannot be read: {error}") from None


@lru_cache(maxsize=4096)  # every test of a suite loads its prompts
def _sha256(path: Path, size: int, mtime: int) -> str:
    with path.open("rb") as file:
        head = file.read(16)
        if not any(magic.match(head) for magic in MAGIC.values()):
            raise UnknownPrompts(f"{path} is no image: its bytes are not {', '.join(MAGIC)}")
        file.seek(os.SEEK_SET)
        return hashlib.file_digest(file, "sha256").hexdigest()
