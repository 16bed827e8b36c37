"""LaTeX in which foreign text stays text, for any engine."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from pytest_vdb.units import GiB, KiB, MiB, ms, plain

SCALES: Mapping[str, tuple[tuple[float, str], ...]] = {
    "s": ((1.0, "s"), (ms, "ms")),
    "B": ((GiB, "GiB"), (MiB, "MiB"), (KiB, "KiB"), (1.0, "B")),
}
NO_UNIT = ("", "1", "score")
ARROWS = {"higher": r"$\uparrow$", "lower": r"$\downarrow$"}

COMMANDS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\textasciigrave{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{character: f"\\{character}" for character in "%$#&_{}"},
}


def text(foreign: str) -> str:
    """``foreign`` as it is, in words that every LaTeX knows: letters, digits, spaces, and the rest
    in braces, where it ends no cell, opens no argument and joins no ligature.

    What is not ASCII is spelled out, since a LaTeX without its font would stop there.
    """
    return "".join(map(_character, plain(foreign)))


def _character(character: str) -> str:
    if character in COMMANDS:
        return COMMANDS[character]
    if character.isascii():
        return character if character.isalnum() or character == " " else f"{{{character}}}"
    return text(character.encode("ascii", "backslashreplace").decode())


def number(value: float, decimals: int, *, sign: bool = False) -> str:
    """A number as text, which can be bold; with ``+`` where ``sign`` is asked for.

    Without ``sign``, what would be rounded to 0 is told in powers of ten.
    """
    shown = f"{abs(value):.{decimals}f}"
    if value and not sign and not float(shown):
        mantissa, _, exponent = f"{abs(value):.2e}".partition("e")
        shown = rf"{mantissa}$\times$10$^{{{int(exponent)}}}$"
    before = "$-$" if value < 0 else "$+$" if sign else ""
    return before + shown


def measurement(name: str, unit: str, direction: str) -> str:
    """Its name, its unit where it has one, and an arrow that says which is better."""
    raised = re.sub(r"\\textasciicircum\{\}(\d+)", r"$^{\1}$", text(unit))
    told = "" if unit in NO_UNIT else f" ({raised})"
    return f"{text(name)}{told} {ARROWS.get(direction, '')}".rstrip()


def scale(largest: float, unit: str) -> tuple[float, str]:
    """One factor and unit for values of which ``largest`` is the largest."""
    scales = SCALES.get(unit, ((1.0, unit),))
    fitting = (one for one in scales if largest >= (0.1 if one[1] == "s" else one[0]))
    return next(fitting, scales[-1])


def places(largest: float, digits: int) -> int:
    """Decimals that show ``digits`` significant digits of ``largest``, from 0 to 6."""
    if largest <= 0:
        return 0
    return min(6, max(0, digits - 1 - math.floor(math.log10(largest))))


def tabular(columns: int, rows: Sequence[str]) -> str:
    """A table of lines that end themselves, the first column of text and the others of numbers."""
    begin = rf"\begin{{tabular}}{{@{{}}l{'r' * (columns - 1)}@{{}}}}"
    lines = [begin, r"\toprule", *rows, r"\bottomrule", r"\end{tabular}", ""]
    return "\n".join(lines)


def row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def below(said: Sequence[str]) -> str:
    """What the signs of the tables above say."""
    if not said:
        return ""
    return rf"\par\smallskip{{\footnotesize {'; '.join(said)}.\par}}" + "\n"
