"""VBench's prompts, from the user's own copy; this package ships none of them.

Its ``VBench_full_info.json`` is a list of ``{"prompt_en": text, "dimension": [name, ...]}``, with
an ``auxiliary_info`` that only its own metrics need. https://github.com/Vchitect/VBench
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

from pytest_vdb.errors import UnknownPrompts
from pytest_vdb.prompts.files import decoded, text_prompt
from pytest_vdb.records import Json, Prompt

FILE = "VBench_full_info.json"
INSTALL = "pip install --no-deps vbench"  # the file alone is read, and its dependencies are old


def installed() -> Path:
    """The file in the ``vbench`` package, which is not imported. Raises UnknownPrompts."""
    spec = find_spec("vbench")
    for place in (spec and spec.submodule_search_locations) or ():
        if (path := Path(place) / FILE).is_file():
            return path
    raise UnknownPrompts(
        f"VBench's prompts are not here: {INSTALL}, or name your own copy of the file: "
        f"prompts='path/to/{FILE}'"
    )


def read(path: Path) -> tuple[Prompt, ...]:
    """The prompts of a file in VBench's format, tagged with their dimensions, in its order.

    A text that stands there twice (2 of the 946 do) is one prompt with the dimensions of both:
    the same text and seed give the same video, which is no second observation. Raises
    UnknownPrompts.
    """
    dimensions: dict[str, dict[str, None]] = {}
    for number, entry in enumerate(_entries(path), 1):
        try:
            text, names = entry["prompt_en"], entry["dimension"]
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise TypeError
        except (KeyError, TypeError):
            raise UnknownPrompts(
                f"{path}, entry {number} has no text 'prompt_en' and list 'dimension', as "
                f"{FILE} has; write other prompts as .jsonl"
            ) from None
        if "image_name" in entry:
            raise UnknownPrompts(
                f"{path}, entry {number} needs an image (VBench-I2V); write a .jsonl file with "
                '{"prompt": ..., "image": ...} a line, beside the images'
            )
        prompt = text_prompt(text, f"{path}, entry {number}")
        dimensions.setdefault(prompt.text, {}).update(dict.fromkeys(names))
    if not dimensions:
        raise UnknownPrompts(f"{path} holds no prompts")
    return tuple(text_prompt(t, str(path), tuple(tags)) for t, tags in dimensions.items())


def _entries(path: Path) -> list[Json]:
    try:
        entries = json.loads(decoded(path))
    except (ValueError, RecursionError) as error:
        raise UnknownPrompts(f"{path} is no JSON: {error}") from None
    if not isinstance(entries, list):
        raise UnknownPrompts(f"{path} is no list of prompts, as {FILE} is; see docs/prompts.md")
    return entries
