"""GitHub-flavoured Markdown in which foreign text stays text.

Whatever a prompt, a file or a reason holds is shown as code: there GitHub makes no link, mention,
issue reference or emoji of it, and no character means anything but the backtick that ends it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pytest_vdb.units import plain


def code(text: str, longest: int = 200) -> str:
    """``text`` as a code span of one line, for prose and for cells of a table.

    A cell ends at a pipe whatever surrounds it, so a pipe is shown as a broken bar.
    """
    text = shortened(plain(text), longest).replace("|", "¦")
    if not text.strip():
        return "–"
    fence = "`" * (_longest_run(text) + 1)
    pad = " " if text[0] in "` " or text[-1] in "` " else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def block(lines: Iterable[str]) -> str:
    """``lines`` as a block of code."""
    text = "\n".join(plain(line) for line in lines)
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}text\n{text}\n{fence}"


def details(summary: str, name: str, content: str) -> str:
    """``content`` behind a line to click on: ``summary`` is ours, ``name`` is foreign or empty."""
    shown = f" <code>{html.escape(shortened(plain(name), 200))}</code>" if name else ""
    return f"<details><summary>{summary}{shown}</summary>\n\n{content}\n\n</details>"


def row(cells: Sequence[str]) -> str:
    """One line of a table, of cells that are Markdown."""
    return f"| {' | '.join(cells)} |"


def shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


@dataclass(frozen=True)
class Section:
    """A part of a page: ``head``, ``parts`` that may be left out from the last on, ``tail``.

    ``weight`` orders sections by importance, the smallest first; ``name`` says what the parts are.
    """

    weight: int
    name: str
    parts: Sequence[str]
    head: str = ""
    tail: str = ""
    between: str = "\n\n"

    def text(self, count: int) -> str:
        """The section with its first ``count`` parts."""
        return self.head + self.between.join(self.parts[:count]) + self.tail


RESERVE = 600
"""Bytes kept for the line that says what was left out."""


def fitted(sections: Sequence[Section], limit: int) -> str:
    """The sections in their order, within ``limit`` bytes of UTF-8: the least important go first.

    What was left out is said in the last line.
    """
    left = limit - RESERVE
    kept: dict[int, str] = {}
    cut: list[str] = []
    for place in sorted(range(len(sections)), key=lambda place: sections[place].weight):
        section = sections[place]
        total = len(section.parts)
        count = _fitting(section, left)
        if count:
            kept[place] = section.text(count)
            left -= _size(kept[place]) + 2
        if count < total:
            cut.append(f"{total - count} of {total} {section.name}")
    text = "\n\n".join(kept[place] for place in sorted(kept))
    return f"{text}\n\n<sub>Left out to fit: {', '.join(cut)}.</sub>" if cut else text


def _fitting(section: Section, room: int) -> int:
    """How many of its parts fit."""
    used = _size(section.head) + _size(section.tail) + 2
    for count, part in enumerate(section.parts):
        used += _size(part) + len(section.between)
        if used > room:
            return count
    return len(section.parts)


def _size(text: str) -> int:
    return len(text.encode())
