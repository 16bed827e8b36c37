"""Prompts in files: JSONL, CSV, TXT, and folders of images."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pytest_vdb.errors import UnknownPrompts
from pytest_vdb.names import CONTROL
from pytest_vdb.prompts import images
from pytest_vdb.records import Json, Prompt

Rows = Iterator[tuple[int, Mapping[str, Json]]]  # line number and fields
LINE_END = re.compile(r"\r\n|\r|\n")  # splitlines() would also cut at U+2028 and its like
TAG = re.compile(r"\S+")


def prompt_id(text: str) -> str:
    """Eight hex digits of the text's sha256: stable when other prompts change."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def text_prompt(text: object, where: str, tags: tuple[str, ...] = ()) -> Prompt:
    """A prompt of a text alone. Raises UnknownPrompts where it is none."""
    try:
        return _prompt({"prompt": text, "tags": list(tags)}, ())
    except UnknownPrompts as error:
        raise UnknownPrompts(f"{where}: {error}") from None


def decoded(path: Path) -> str:
    """A file's text, UTF-8 with or without a byte order mark. Raises UnknownPrompts."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise UnknownPrompts(f"prompts {path} cannot be read: {error}") from None


def parse(text: str, suffix: str, where: str, inside: Sequence[Path]) -> tuple[Prompt, ...]:
    """The prompts of a ``.jsonl``, ``.csv`` or ``.txt`` text; ``inside`` is for its images."""
    prompts = []
    for number, row in {".jsonl": _jsonl, ".csv": _csv, ".txt": _txt}[suffix](text, where):
        try:
            prompts.append(_prompt(row, inside))
        except UnknownPrompts as error:
            raise UnknownPrompts(f"{where}, line {number}: {error}") from None
    return unique(prompts, where)


def folder(path: Path) -> tuple[Prompt, ...]:
    """Every image of a folder, by name, with the text of the ``.txt`` beside it.

    A prompt's id is the image's file name. Without any ``.txt`` every text is empty; where one
    image has one, all must. Raises UnknownPrompts.
    """
    try:
        files = sorted(f for f in path.iterdir() if f.suffix.lower() in images.SUFFIXES)
    except OSError as error:
        raise UnknownPrompts(f"folder {path} of images cannot be read: {error}") from None
    texts = {file: file.with_suffix(".txt") for file in files}
    without = [file for file, text in texts.items() if not text.is_file()]
    if without and len(without) < len(files):
        raise UnknownPrompts(
            f"{path}: other images have a text beside them, but {without[0].name} has no "
            f"{texts[without[0]].name}; write one (it may be empty)"
        )
    prompts = []
    for file in files:
        text = "" if without else decoded(texts[file]).strip()
        row = {"prompt": text, "id": file.name, "image": file.name}
        try:
            prompts.append(_prompt(row, (path,)))
        except UnknownPrompts as error:
            raise UnknownPrompts(f"{path}: {error}") from None
    return unique(prompts, f"{path} ({', '.join(images.SUFFIXES)})")


def unique(prompts: list[Prompt], where: str) -> tuple[Prompt, ...]:
    """``prompts``, none of them twice: that would count one observation as two."""
    seen: dict[object, Prompt] = {}
    for prompt in prompts:
        content = (prompt.text, prompt.image_sha256)
        other = seen.get(prompt.id) or seen.get(content)
        if other is not None:
            text = textwrap.shorten(prompt.text, 60, placeholder="…")
            also = "" if other.id == prompt.id else f", also as {other.id!r}"
            raise UnknownPrompts(f"{where} holds prompt {prompt.id!r} ({text!r}) twice{also}")
        seen[prompt.id] = seen[content] = prompt
    if not prompts:
        raise UnknownPrompts(f"{where} holds no prompts")
    return tuple(prompts)


def _prompt(row: Mapping[str, Json], inside: Sequence[Path]) -> Prompt:
    """A prompt of the fields of one line: ``prompt``, ``id``, ``image``, ``tags``; others are the
    file's own affair. Errors say what is wrong, and leave where to the caller.
    """
    image, tags = row.get("image") or None, row.get("tags") or []
    text = row.get("prompt", "" if image else None)
    if not isinstance(text, str) or not (text.strip() or image) or _broken(text):
        raise UnknownPrompts("there is no text under 'prompt'")
    if not isinstance(tags, list) or not all(isinstance(t, str) and TAG.fullmatch(t) for t in tags):
        raise UnknownPrompts(f"tags {tags!r}; give a list of words such as 'camera:static'")
    path = sha256 = None
    if image is not None:
        if not isinstance(image, str):
            raise UnknownPrompts(f"image {image!r} is no path")
        path, sha256 = images.find(image, inside)
        if (row.get("image_sha256") or sha256) != sha256:
            raise UnknownPrompts(
                f"image {path} has sha256 {sha256}, where {row['image_sha256']} is asked for: "
                "it is another image"
            )
    name = row.get("id")
    if name is None or name == "":
        name = prompt_id(f"{text}\0{sha256}" if sha256 else text)
    if not isinstance(name, str | int) or CONTROL.search(str(name)):
        raise UnknownPrompts(f"id {name!r}; an id is a name")
    return Prompt(str(name), text, path, sha256, tuple(tags))


def _broken(text: str) -> bool:
    """Whether half a character stands in it: JSON can write one, and no file can hold it."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def _jsonl(text: str, where: str) -> Rows:
    for number, line in enumerate(LINE_END.split(text), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError
        except (ValueError, RecursionError):
            raise UnknownPrompts(
                f'{where}, line {number}: no JSON object; write {{"prompt": "a text"}}'
            ) from None
        yield number, row


def _txt(text: str, where: str) -> Rows:
    for number, line in enumerate(LINE_END.split(text), 1):
        if line.strip():
            yield number, {"prompt": line.strip()}


def _csv(text: str, where: str) -> Rows:
    """Rows under a header, in the dialect of the csv module: commas, double quotes, and quoted
    cells that may hold both and line ends. Tags stand in one cell, parted by spaces.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    first = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells) and not header:
                header = _header(cells, f"{where}, line {first}")
            elif any(cell.strip() for cell in cells):
                if len(cells) > len(header):
                    raise csv.Error(
                        f"{len(cells)} cells under {len(header)} columns; put double quotes "
                        "around a text with commas"
                    )
                row: dict[str, Json] = dict(zip(header, cells, strict=False))
                yield first, {**row, "tags": row.get("tags", "").split()}
            first = reader.line_num + 1
    except csv.Error as error:
        raise UnknownPrompts(f"{where}, line {first}: {error}") from None


def _header(cells: list[str], where: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    if ("prompt" not in names and "image" not in names) or len({*names}) < len(names):
        raise UnknownPrompts(
            f"{where}: a CSV file begins with the names of its columns, 'prompt' and "
            f"optionally 'id', 'image', 'tags', each once and parted by commas; not {names!r}"
        )
    return names
