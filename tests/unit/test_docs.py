"""The tables of the docs say what the code does: options, arguments, states and defaults."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest

from pytest_vdb import hookspecs, marker
from pytest_vdb.gate import policy
from pytest_vdb.options import OPTIONS, Option, Settings
from pytest_vdb.records import State

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), *sorted(ROOT.glob("*.md"))]


def tables(page: str) -> list[list[str]]:
    """The cells of every table row of a page."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]


def row(page: str, column: int, cell: str) -> list[str]:
    """The one row whose ``column`` holds ``cell``."""
    found = [cells for cells in tables(page) if len(cells) > column and cells[column] == cell]
    assert len(found) == 1, f"docs/{page} has {len(found)} rows for {cell}"
    return found[0]


def default(option: Option) -> str:
    """A default as the table shows it."""
    value = {f.name: getattr(Settings(), f.name) for f in fields(Settings)}[option.target]
    if value in (None, "", {}):
        return ""
    if isinstance(value, tuple):
        value = value[0]
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


# Their default is a sentence: it depends on the measurement, or on the environment.
IN_WORDS = {
    "missing": ("CI", "fail", "warn"),
    "inconclusive": ("fail", "warn"),
    "tolerance": ("by",),
    "ab_processes": ("5 minutes", "3"),
}


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_has_a_row_with_its_default(option: Option) -> None:
    flag, _, shown, effect = row("reference.md", 1, f"`{option.dest}`")
    name = "--" + option.dest.replace("_", "-")
    shape = f"{name}={option.metavar}" if option.metavar else name
    assert flag == ("" if option.ini_only else f"`{shape}`")
    if option.name in IN_WORDS:
        assert all(word in shown for word in IN_WORDS[option.name])
    else:
        assert shown == default(option)
    assert len(effect) > 20
    choices = (
        inspect.getclosurevars(option.read).nonlocals.get("allowed", ())
        if inspect.isfunction(option.read)
        else ()
    )
    assert all(f"`{choice}`" in effect for choice in choices)


def test_no_row_is_about_an_option_that_is_gone() -> None:
    text = (DOCS / "reference.md").read_text(encoding="utf-8")
    known = {"--" + option.dest.replace("_", "-") for option in OPTIONS if not option.ini_only}
    known |= {f"--vdb-{option.alias}" for option in OPTIONS if option.alias}
    for page in PAGES:
        for flag in re.findall(r"(?<![\w-])--vdb-[a-z-]+[a-z]", page.read_text(encoding="utf-8")):
            assert flag in known, f"{page.name} names {flag}"
    names = {option.dest for option in OPTIONS}
    rows = re.findall(r"^\|[^|]*\| `(vdb_\w+)` \|", text, flags=re.MULTILINE)
    assert sorted(rows) == sorted(names)


def test_every_marker_argument_is_described() -> None:
    for name in marker._MARKER_ARGUMENTS:
        assert len(row("reference.md", 0, f"`{name}`")) == 3
    text = (DOCS / "reference.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in marker.CALL_ARGUMENTS)


WHERE = {"cpu": " on a CPU", "reported": ", reported", "beside": " with a base"}


def test_every_state_and_default_tolerance_is_described() -> None:
    text = (DOCS / "verdicts.md").read_text(encoding="utf-8")
    for state in State:
        assert re.search(rf"^\|.*\b{state}\b", text, flags=re.MULTILINE), state
    for name, value in policy.DEFAULTS.items():
        measurement, _, where = name.partition("@")
        cell = f"`{measurement}`" + WHERE.get(where, "")
        cell = "every score" if name == "score" else cell
        assert row("verdicts.md", 0, cell)[1] == f"`{value}`"


def test_every_hook_is_described() -> None:
    text = (DOCS / "reference.md").read_text(encoding="utf-8")
    assert all(f"def {name}(" in text for name in vars(hookspecs) if name.startswith("pytest_vdb_"))


def test_ci_runs_the_commands_of_the_readme() -> None:
    """Installing and testing, word for word."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    commands = re.findall(r"^ *\$ (pip install .*|pytest(?: -n \d+.*)?)$", readme, re.MULTILINE)
    assert len(commands) == 3
    assert [f"step {command}" for command in commands if f"step {command}" not in script] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name) if name else page
        assert path.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(path), f"{page.name} links to {target}"


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
