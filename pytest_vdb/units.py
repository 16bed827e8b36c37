"""Numbers as people read them, with their unit; constants as people write them."""

from __future__ import annotations

from collections.abc import Sequence

KiB = 2**10
MiB = 2**20
GiB = 2**30
ms = 1e-3


def plain(text: str) -> str:
    """``text`` with its control characters spelled out, so that no name moves the cursor."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def show(value: float, unit: str) -> str:
    """``0.148 s``, ``12.1 GiB``, ``0.9876``: four significant digits, or four decimals."""
    match unit:
        case "s" if abs(value) < 0.1:
            return f"{value / ms:.4g} ms"
        case "B":
            for factor, name in ((GiB, "GiB"), (MiB, "MiB"), (KiB, "KiB")):
                if abs(value) >= factor:
                    return f"{value / factor:.4g} {name}"
            return f"{value:.0f} B"
        case "s" | "dB" | "J" | "g":
            return f"{value:.4g} {unit}"
        case "1/s":
            return f"{value:.4g}/s"
    return f"{value:.4f}" if 0.1 <= abs(value) < 10 else f"{value:.4g}"


def columns(rows: Sequence[Sequence[str]], left: int = 99) -> list[str]:
    """``rows`` as lines of aligned columns; those from number ``left`` on to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
