"""The tables that the tools of this folder write into pages of docs, each between its own marks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path


def line(cells: Sequence[str]) -> str:
    """One row of a Markdown table, without its end of line."""
    return f"| {' | '.join(cells)} |"


def table(rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first of ``rows`` is its head."""
    head, *rest = rows
    return "".join(f"{line(row)}\n" for row in (head, ["---"] * len(head), *rest))


def marks(name: str) -> tuple[str, str]:
    """The lines before and after the block of this name."""
    return f"<!-- {name} -->\n", f"<!-- /{name} -->\n"


def block(page: str, name: str) -> str:
    """What is between the marks of ``name`` in the text ``page``. Raises ValueError where it has
    not both of them, once."""
    begin, end = marks(name)
    if page.count(begin) != 1 or page.count(end) != 1:
        raise ValueError(f"it needs one line {begin.strip()} and one {end.strip()}")
    return page.partition(begin)[2].partition(end)[0]


def write(page: Path, name: str, text: str) -> None:
    """Put the lines ``text`` between the marks of ``name`` in the file ``page``.

    Raises SystemExit where it has not both of them, once.
    """
    whole = page.read_text(encoding="utf-8")
    begin, end = marks(name)
    try:
        old = begin + block(whole, name) + end
    except ValueError as error:
        raise SystemExit(f"{page}: {error}") from None
    page.write_text(whole.replace(old, begin + text + end), encoding="utf-8")
