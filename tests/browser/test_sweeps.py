"""A page with a sweep: its plot, another quality, and the way from a point to its test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_vdb.records import State, Verdict
from pytest_vdb.report import html
from pytest_vdb.report.writers import Context
from pytest_vdb.sweeps.table import sweeps

HOSTILE = "<img src=x onerror=alert(1)>"
UNITS = {
    "sharpness": ("1", "higher", "score"),
    "clip_score": ("1", "higher", "score"),
    "latency": ("s", "lower", "latency"),
    "memory.peak": ("B", "lower", "memory"),
}


def measured(name: str, level: float) -> dict[str, Any]:
    unit, direction, kind = UNITS[name]
    verdict = Verdict(State.NOT_APPLICABLE, "it explores", n=8).to_json()
    samples = [{"prompt": f"p{i}", "seed": 0, "value": level * (1 + i / 500)} for i in range(8)]
    return {
        "name": name,
        "unit": unit,
        "direction": direction,
        "kind": kind,
        "headline": "mean",
        "samples": samples,
        "statistics": {"mean": level},
        "line": 1,
        "provenance": {"how": "", "version": "1", "weights": None, "device": "cpu", "package": ""},
        "verdict": {**verdict, "consequence": "pass"},
    }


def at_point(place: int) -> dict[str, Any]:
    """More steps are better and slower; the last point is as good and takes longer."""
    steps = 2**place
    name = f"steps={steps}-{HOSTILE}"
    good = min(place, 2)
    values = {
        "sharpness": 10.0 + good,
        "clip_score": 30.0 - place,
        "latency": float(steps),
        "memory.peak": 2.0**30,
    }
    swept = {"id": name, "mode": "grid", "explores": True, "factors": ["steps"], "place": place}
    return {
        "nodeid": f"b.py::test[{name}]",
        "outcome": "passed",
        "line": 1,
        "failure": None,
        "model": {"name": HOSTILE},
        "beside": None,
        "attribution": None,
        "workload": {
            "hash": str(place),
            "prompts": [{"id": "p0", "text": "a fox"}],
            "seeds": [0],
            "call": {"steps": steps},
            "options": {},
            "dtype": "float32",
        },
        "measurements": [measured(one, value) for one, value in values.items()],
        "sweep": {**swept, "setting": {"steps": steps}, "alike": "a"},
    }


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("swept") / "page"
    tests = [at_point(place) for place in range(4)]
    run = {
        "schema": 1,
        "exit": 0,
        "commit": "",
        "gate_edits": None,
        "gpu_seconds": None,
        "environment": {"facts": {"device": "cpu"}},
        "timing": {"load": 1.0},
        "flags": [],
        "tests": tests,
        "sweeps": sweeps(tests, "sharpness>=11,latency<=3s"),
    }
    html.write(run, folder, Context(folder.parent))
    return folder


def test_a_sweep_is_plotted_and_leads_to_its_tests(look, swept):
    page = look(swept).open().page
    canvas = page.locator("#sweeps .canvas")
    canvas.scroll_into_view_if_needed()
    page.wait_for_selector("#sweeps .canvas[data-drawn]")
    assert "recommended: steps=2" in page.locator("#sweeps .advice").inner_text()
    named = "() => document.querySelector('#sweeps .canvas').data.map((one) => [one.name, one.x])"
    assert page.evaluate(named) == [
        ["beaten by another", [pytest.approx(8.024)]],
        ["beaten by none", [pytest.approx(x) for x in (1.003, 2.006, 4.012)]],
        ["recommended", [pytest.approx(2.006)]],
    ]
    page.locator("#sweeps select").first.select_option("clip_score")
    page.wait_for_selector("#sweeps .ytitle:has-text('clip_score')")
    assert page.evaluate(named)[1] == ["beaten by none", [pytest.approx(1.003)]]
    page.locator("#sweeps table a").nth(1).click()
    page.wait_for_selector("#detail h2")
    assert HOSTILE in page.locator("#detail h2").first.inner_text()
    page.keyboard.press("Escape")
    assert page.locator("#sweeps").is_visible()
