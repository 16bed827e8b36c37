"""Which of the comparisons that a test made decide whether it passes: read from its source."""

from __future__ import annotations

import ast
import linecache
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pytest_vdb.comparison import Comparison, Place, Trace

Loose = tuple[Place, str, str]
"""A place, its source, and why nothing can be said of it."""

NUMBER = "a statistic becomes a plain number here; compare the statistic itself"
OUTSIDE = "compared outside an assert"
UNDECIDED = "the assert may hold although this comparison does not"


@dataclass(frozen=True)
class Asserted:
    """A comparison in the assert that begins at ``line``, whose condition reads ``text``."""

    comparison: Comparison
    line: int
    text: str


def asserted(trace: Trace) -> tuple[list[Asserted], list[Loose]]:
    """The comparisons that an assert needs as they came out, and what cannot be traced."""
    rows: dict[tuple[Place, str], Asserted] = {}
    loose: dict[tuple[Place, str], Loose] = {}
    for place in trace.untraced:
        loose[place, ""] = (place, _line(place), NUMBER)
    for comparison in trace.comparisons:
        place, key = comparison.place, (comparison.place, str(comparison))
        statement = _statement(place)
        if statement is None or not _needs_all(statement.test):
            why = OUTSIDE if statement is None else UNDECIDED
            loose[key] = (place, _line(place), why)
            continue
        rows.setdefault(key, Asserted(comparison, statement.lineno, _text(place, statement)))
    return list(rows.values()), list(loose.values())


def shown(file: str, root: Path) -> str:
    """``file`` as it is seen from ``root``, or whole where it lies elsewhere."""
    path = Path(file)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else file


@cache
def _asserts(file: str) -> tuple[ast.Assert, ...]:
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):
        return ()
    return tuple(node for node in ast.walk(tree) if isinstance(node, ast.Assert))


def _statement(place: Place) -> ast.Assert | None:
    return next(
        (
            node
            for node in _asserts(place.file)
            if node.lineno <= place.line <= (node.end_lineno or node.lineno)
        ),
        None,
    )


def _needs_all(node: ast.expr) -> bool:
    """Whether a changed outcome of any comparison in ``node`` changes that of ``node``.

    ``node`` is what an assert passed with: so of an ``and`` all sides held, and nothing is known
    of an ``or``.
    """
    match node:
        case ast.Compare(left=left, comparators=others):
            return not any(map(_compares, (left, *others)))
        case ast.BoolOp(op=ast.And(), values=values):
            return all(map(_needs_all, values))
        case ast.UnaryOp(op=ast.Not(), operand=ast.Compare(ops=[_])):
            return True
        case ast.Call(
            func=ast.Name(id="all"), args=[ast.GeneratorExp(elt=each) | ast.ListComp(elt=each)]
        ):
            return _needs_all(each)
    return not _compares(node)


def _compares(node: ast.AST) -> bool:
    return any(isinstance(child, ast.Compare) for child in ast.walk(node))


def _text(place: Place, statement: ast.Assert) -> str:
    source = "".join(linecache.getlines(place.file))
    return " ".join((ast.get_source_segment(source, statement.test) or "").split())


def _line(place: Place) -> str:
    return linecache.getline(place.file, place.line).strip()
