"""The table of a sweep, and how the terminal, Markdown and the page show it."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_vdb.report import html, sweeps
from pytest_vdb.report.markdown import markdown
from pytest_vdb.report.writers import Context
from pytest_vdb.sweeps.table import sweeps as tabled


def swept(tested, measured, setting: dict[str, Any], place: int, *, id: str = "", **more: Any):
    """A test at one point: 8 prompts whose score rises with the place, and whose time doubles."""
    rise = [{"prompt": f"p{i}", "seed": 0, "value": place + 0.01 * i} for i in range(8)]
    time = [{"prompt": f"p{i}", "seed": 0, "value": 2.0**place} for i in range(8)]
    kind = {"unit": "s", "direction": "lower", "kind": "latency", "headline": "median"}
    entries = [
        {**measured("sharpness", "NOT_APPLICABLE"), "samples": rise},
        {**measured("latency", "NOT_APPLICABLE"), "samples": time, **kind},
        {**measured("ssim", "NOT_APPLICABLE"), "kind": "distance"},
    ]
    name = id or "-".join(f"{key}={value}" for key, value in setting.items())
    said = {"mode": "grid", "explores": True, "factors": [*setting], "place": place}
    test = tested(f"b.py::test[{name}]", "passed", *entries, **more)
    return test | {"sweep": {"id": name, **said, "setting": setting, "alike": "same"}}


@pytest.fixture
def three(tested, measured):
    found = [swept(tested, measured, {"steps": 2**place}, place) for place in range(3)]
    return [found[2], found[0], found[1]]  # workers end in any order


def test_the_table_has_the_points_in_their_order(three):
    (found,) = tabled(three, "sharpness>=0.5,latency<=3s")
    assert [point["id"] for point in found["points"]] == ["steps=1", "steps=2", "steps=4"]
    assert [one["name"] for one in found["measurements"]] == ["sharpness", "latency"]
    assert found["fronts"] == [
        {"axes": ["sharpness", "latency"], "points": [0, 1, 2], "unmeasured": []}
    ]
    assert found["recommended"]["point"] == 1
    said = [point["levels"]["latency"]["differs"] for point in found["points"]]
    assert said == ["reference", "worse", "worse"]
    assert [point["levels"]["sharpness"]["differs"] for point in found["points"]][2] == "reference"
    json.dumps(found, allow_nan=False)


def test_tests_of_one_point_are_one_row_and_a_failed_one_fails_it(tested, measured):
    first = swept(tested, measured, {"steps": 1}, 0)
    second = swept(tested, measured, {"steps": 2}, 1)
    broken = {**second, "outcome": "failed", "measurements": [], "nodeid": "b.py::broken"}
    (found,) = tabled([first, broken, second], "sharpness>=0")
    assert found["points"][1]["tests"] == ["b.py::broken", "b.py::test[steps=2]"]
    assert [point["passed"] for point in found["points"]] == [True, False]
    assert found["recommended"]["point"] == 0


def test_a_point_without_values_is_shown_and_beats_nobody(tested, measured):
    first = swept(tested, measured, {"steps": 1}, 0)
    second = swept(tested, measured, {"steps": 2}, 1)
    second["measurements"][1] |= {"samples": [], "statistics": {}}
    (found,) = tabled([first, second])
    assert found["points"][1]["levels"]["latency"] == {
        "value": None,
        "interval": None,
        "n": 0,
        "differs": None,
    }
    assert (found["fronts"][0]["points"], found["fronts"][0]["unmeasured"]) == ([0], [1])
    assert "recommended" not in found
    assert [line.cells[1] for line in sweeps.lines(found)][1] == "–"


def test_a_terminal_has_every_column_whatever_its_width(three):
    (found,) = tabled(three, "sharpness>=0.5,latency<=3s")
    for width in (60, 200):
        told = [line for line, _ in sweeps.text(found, width)]
        assert sum("sharpness" in line for line in told) == 1
        assert sum("latency" in line for line in told) == 1
        assert len(told) == (8 if width == 60 else 4)
    assert sweeps.advice(found).startswith("recommended: steps=2, the least latency of 1")


# ------------------------------------------------------------------------- foreign text

HOSTILE = [
    *("</script><script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a|b`c`\n# d"),
    *("\x1b[31m\x00\u202e", "[x](http://e)", "@everyone #1", "{{ 7*7 }}"),
]
texts = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=12))


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[Any, ...]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, *(name for name, _ in attrs)))


@settings(max_examples=8, deadline=None)
@given(name=texts, model=texts, factor=texts)
def test_foreign_text_stays_text(ran, tested, measured, name, model, factor):
    def run(name: str, model: str, factor: str) -> dict[str, Any]:
        both = [
            swept(
                tested, measured, {factor: place}, place, id=f"{name}{place}", model={"name": model}
            )
            for place in (0, 1)
        ]
        for test in both:
            test["measurements"][0]["name"] = f"score {name}"
            test["workload"]["call"], test["workload"]["options"] = {}, {}
            test["nodeid"] = test["workload"]["hash"] = f"b.py::{test['sweep']['place']}"
        return ran(0, *both, sweeps=tabled(both, "latency<=3s"))

    found = run(name, model, factor)
    (sweep,) = found["sweeps"]
    told = [line for line, _ in sweeps.text(sweep, 80)]
    assert all(line.isprintable() for line in told)
    context = Context(Path("/repo"))
    page = markdown(found, context).partition("<details>")[0]
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert [line.count("|") for line in table] == [5] * 4
    pages = [Tags(html._index(one, context)).found for one in (found, run("n", "m", "f"))]
    options = ("option",)  # a model without a name is none to choose
    assert [t for t in pages[0] if t != options] == [t for t in pages[1] if t != options]
