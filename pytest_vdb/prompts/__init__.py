"""Prompt suites: which texts, and which conditioning images, a workload asks for."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from pytest_vdb.errors import UnknownPrompts, nearest
from pytest_vdb.names import digest
from pytest_vdb.prompts import vbench
from pytest_vdb.prompts.files import decoded, folder, parse, text_prompt, unique
from pytest_vdb.prompts.files import prompt_id as prompt_id
from pytest_vdb.records import Prompt

# Texts, ids, images and tags of a version never change: whoever changes them writes the next one,
# and a test holds the hash of each. The version is for people; a workload's own hash already holds
# every text and image.
SHIPPED = {
    "smoke": ("1", "the fewest prompts that gate statistically"),
    "standard": ("1", "balanced over subject, action, camera, style, count, colour, relation"),
    "motion": ("1", "camera, rigid, periodic, fluid and articulated motion, and near stillness"),
    "long": ("1", "pairs that differ at their end alone, from 60 to 650 tokens"),
    "images": ("1", "image-to-video from photographs that scikit-image ships"),
    "shapes": ("1", "captions of moving shapes that the embedded model never saw"),
}
DEFAULT = "smoke"
"""The suite of a model that has none of its own, where nothing else is asked for."""
FILE = r".+\.(?:jsonl|csv|txt|json)"
NAME = re.compile(rf"(?:(?P<file>{FILE})|(?P<suite>[^:]+))(?::(?P<tag>.+))?", re.IGNORECASE)


@dataclass(frozen=True)
class Suite:
    """What there is to say of a suite. ``sha256`` is over its lines as JSON, so that line ends
    don't matter; ``axes`` are the first words of its tags. ``n`` and ``sha256`` are None for a
    suite that is not installed.
    """

    name: str
    version: str
    summary: str
    n: int | None
    sha256: str | None
    axes: tuple[str, ...]


def suites() -> tuple[str, ...]:
    """Names of the shipped suites."""
    return tuple(SHIPPED)


def describe() -> tuple[Suite, ...]:
    """Every suite that a name can ask for; no image is read, nothing is imported.

    Raises UnknownPrompts where the installed ``vbench`` package is broken.
    """
    return (*(_describe(name) for name in SHIPPED), _describe_vbench())


def load(which: str | Sequence[str], root: Path) -> tuple[Prompt, ...]:
    """The prompts that ``which`` names; paths are relative to ``root``, pytest's root folder.

    ``which`` is a suite (``"standard"``), a file (``.jsonl``, ``.csv``, ``.txt``, or VBench's own
    ``.json``), a folder of images (``"stills/"``), ``"vbench"``, or a list of texts. A suite or a
    file with a tag behind a colon gives the prompts that have it: ``"motion:kind:fluid"``,
    ``"vbench:scene"``, ``"mine.csv:night"``. The tag ``kind`` alone means every ``kind:...``.

    Images become absolute paths with their sha256. Raises UnknownPrompts for whatever is not
    there, cannot be read, holds a prompt twice, or names an image outside of its root.
    """
    if not isinstance(which, str):
        return unique([text_prompt(text, "the list") for text in which], "the list")
    if which.endswith(("/", "\\")):
        return folder(root / which)
    name = NAME.fullmatch(which)
    if name is None or name["suite"]:
        prompts = _suite(name["suite"] if name else which, root)
    else:
        prompts = _file(root / name["file"], root)
    return _tagged(prompts, name["tag"], which) if name and name["tag"] else prompts


def _file(path: Path, root: Path) -> tuple[Prompt, ...]:
    suffix = path.suffix.lower()
    if suffix == ".json":
        return vbench.read(path)
    return parse(decoded(path), suffix, str(path), (path.parent, root))


def _suite(name: str, root: Path) -> tuple[Prompt, ...]:
    if name == "vbench":
        return vbench.read(vbench.installed())
    if name not in SHIPPED:
        slash = f"write {name + '/'!r} for the images of that folder, or "
        hint = slash if (root / name).is_dir() else ""
        raise UnknownPrompts(
            f"there is no prompt suite {name!r}: {nearest(name, (*SHIPPED, 'vbench'))} "
            f"({hint}name a .jsonl, .csv or .txt file, or give a list of texts)"
        )
    return parse(_shipped(name), ".jsonl", f"suite {name!r}", ())


def _tagged(prompts: tuple[Prompt, ...], tag: str, which: str) -> tuple[Prompt, ...]:
    chosen = tuple(p for p in prompts if any(f"{t}:".startswith(f"{tag}:") for t in p.tags))
    if not chosen:
        known = {tag for prompt in prompts for tag in prompt.tags}
        raise UnknownPrompts(f"prompts {which!r}: none has the tag {tag!r}: {nearest(tag, known)}")
    return chosen


def _shipped(name: str) -> str:
    return resources.files(__name__).joinpath(f"{name}.jsonl").read_text(encoding="utf-8")


def _describe(name: str) -> Suite:
    version, summary = SHIPPED[name]
    lines = [json.loads(line) for line in _shipped(name).splitlines()]
    axes = dict.fromkeys(tag.partition(":")[0] for line in lines for tag in line.get("tags", ()))
    return Suite(name, version, summary, len(lines), digest(lines), tuple(axes))


def _describe_vbench() -> Suite:
    try:
        path = vbench.installed()
    except UnknownPrompts:
        return Suite("vbench", "", f"VBench's prompts ({vbench.INSTALL})", None, None, ())
    prompts = vbench.read(path)
    tags = dict.fromkeys(tag for prompt in prompts for tag in prompt.tags)
    sha256 = digest([prompt.to_json() for prompt in prompts])
    summary = "VBench's prompts by dimension, from the installed package"
    return Suite("vbench", "", summary, len(prompts), sha256, tuple(tags))
