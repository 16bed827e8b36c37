"""Prompt suites: which texts a workload asks for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from pytest_vdb.errors import UnknownPrompts, nearest
from pytest_vdb.records import CONTROL, Prompt


def prompt_id(text: str) -> str:
    """Eight hex digits of the text's sha256: stable when other prompts change."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def suites() -> tuple[str, ...]:
    """Names of the shipped suites."""
    files = resources.files(__name__).iterdir()
    return tuple(sorted(f.name.removesuffix(".jsonl") for f in files if f.name.endswith(".jsonl")))


def load(which: str | Sequence[str], root: Path) -> tuple[Prompt, ...]:
    """The prompts of a suite's name, of a ``.jsonl`` or ``.txt`` file under ``root``, or of texts.

    A JSON line holds ``prompt`` and optionally ``id``. Raises UnknownPrompts.
    """
    if not isinstance(which, str):
        return _unique([Prompt(prompt_id(text), text) for text in which], "the list")
    if which.endswith((".jsonl", ".txt")):
        path = root / which
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UnknownPrompts(f"prompts {path} cannot be read: {error}") from None
        return _parse(text, str(path), as_json=which.endswith(".jsonl"))
    if which not in suites():
        raise UnknownPrompts(
            f"there is no prompt suite {which!r}: {nearest(which, suites())} "
            f"(or name a .jsonl or .txt file, or give a list of texts)"
        )
    text = resources.files(__name__).joinpath(f"{which}.jsonl").read_text(encoding="utf-8")
    return _parse(text, which, as_json=True)


def _parse(text: str, where: str, *, as_json: bool) -> tuple[Prompt, ...]:
    prompts = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        if not as_json:
            prompts.append(Prompt(prompt_id(line.strip()), line.strip()))
            continue
        try:
            data = json.loads(line)
            ours = prompt_id(data["prompt"])  # also refuses what is no text
            prompt = Prompt(str(data.get("id") or ours), data["prompt"])
            if CONTROL.search(prompt.id):
                raise ValueError("an id is a name")
            prompts.append(prompt)
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise UnknownPrompts(
                f'{where}, line {number} is no prompt; write {{"prompt": "a text"}}'
            ) from None
    return _unique(prompts, where)


def _unique(prompts: list[Prompt], where: str) -> tuple[Prompt, ...]:
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.id in seen:
            raise UnknownPrompts(f"{where} holds prompt {prompt.id!r} ({prompt.text!r}) twice")
        seen.add(prompt.id)
    if not prompts:
        raise UnknownPrompts(f"{where} holds no prompts")
    return tuple(prompts)
