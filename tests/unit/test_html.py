"""The page without a browser: what it says of a run, its films, and that no text becomes markup."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_vdb.errors import BadSetting, BaselineWriteError
from pytest_vdb.records import State, Verdict
from pytest_vdb.report import html, movie, overview
from pytest_vdb.report.writers import Context

HOSTILE = [
    *("</script><script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' onmouseover='x"),
    *("{{ 7*7 }}{% raw %}", "<!--", "]]>", "\x1b[31m\x00\u202e", "../../x", "javascript:alert(1)"),
]
texts = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=20))


def measured(name: str = "sharpness", **verdict: Any) -> dict[str, Any]:
    said = Verdict(State.REGRESSION, "worse", -0.5, (-0.6, -0.4), True, "10%", 0.001, 8, 2.0)
    return {
        "name": name,
        "unit": "1",
        "direction": "higher",
        "kind": "score",
        "headline": "mean",
        "samples": [{"prompt": "p", "seed": 0, "value": 1.0}],
        "statistics": {"mean": 1.0, "median": 1.0, "min": 1.0, "max": 1.0},
        "provenance": {"how": "made", "version": "1", "weights": None, "device": "cpu"},
        "verdict": {**said.to_json(), "consequence": "fail", **verdict},
    }


def run_of(*measurements: dict[str, Any], text: str = "t", model: str = "m") -> dict[str, Any]:
    prompts = [{"id": "p", "text": text}]
    workload = {
        "hash": "0",
        "prompts": prompts,
        "seeds": [0],
        "call": {},
        "dtype": "",
        "options": {},
    }
    test = {
        "nodeid": f"test_a.py::test[{text}]",
        "outcome": "failed",
        "beside": None,
        "model": {"name": model, "location": text},
        "workload": workload,
        "attribution": {"text": text},
        "measurements": [*measurements],
    }
    return {
        "schema": 1,
        "exit": 1,
        "commit": text,
        "gate_edits": None,
        "timing": {"load": 1.0},
        "environment": {"facts": {"device": text, text: text}},
        "tests": [test],
    }


def written(folder: Path, run: dict[str, Any], **context: Any) -> tuple[str, list[dict[str, Any]]]:
    """The page's text, and what its scripts are given of each test."""
    html.write(run, folder, Context(folder.parent, **context))
    details = []
    for index in range(len(run["tests"])):
        text = (folder / "data" / f"{index}.js").read_text(encoding="utf-8")
        assert text.startswith(f"vdbTake({index}, ")
        assert "<" not in text
        details.append(json.loads(text.removeprefix(f"vdbTake({index}, ").removesuffix(");\n")))
    return (folder / "index.html").read_text(encoding="utf-8"), details


class Tags(HTMLParser):
    """Every tag with the names of its attributes, and where its links lead."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[Any, ...]] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, *(name for name, _ in attrs)))
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A page whose texts are harmless."""
    return written(tmp_path_factory.mktemp("plain") / "page", run_of(measured()))[0]


@settings(max_examples=15, deadline=None)
@given(text=texts, model=texts, name=texts, reason=texts)
def test_no_text_becomes_markup(tmp_path_factory, plain, text, model, name, reason):
    folder = tmp_path_factory.mktemp("page")
    found, (detail,) = written(
        folder / "b", run_of(measured(name, reason=reason), text=text, model=model)
    )
    options = ("option",)  # a model without a name is none to choose
    tags, expected = ([t for t in Tags(one).found if t != options] for one in (found, plain))
    assert tags == expected
    local = ("#/0/", "#rows", "assets/", "data:,")
    assert all(link.startswith(local) for link in Tags(found).links)
    assert detail["workload"]["prompts"][0]["text"] == html.clean(text)
    assert all(c.isprintable() or c == "\n" for c in found)


def test_every_page_forbids_what_is_not_in_its_folder(tmp_path):
    text, _ = written(tmp_path / "page", run_of(measured()))
    assert "default-src 'none'" in text
    assert "script-src 'self' file:;" in text
    assert "http://" not in text
    assert "https://" not in text


@pytest.mark.parametrize(
    ("direction", "effect", "interval", "tolerance", "marks"),
    [
        # worse is to the right, whatever the direction
        ("higher", -0.2, (-0.3, -0.1), "10%", (78.99, 64.49, 93.48, 64.49, 2.0)),
        ("lower", 0.2, (0.1, 0.3), "10%", (78.99, 64.49, 93.48, 64.49, 2.0)),
        ("lower", -0.2, (-0.3, -0.1), "10%", (21.01, 6.52, 35.51, 64.49, -2.0)),
        ("higher", -2.0, None, "1abs", (93.48, None, None, 71.74, 2.0)),
        ("higher", 0.0, (0.0, 0.0), "off", (50.0, 50.0, 50.0, None, 0.0)),
    ],
    ids=["fell", "rose", "improved", "absolute", "ungated"],
)
def test_a_bar_shows_the_interval_against_its_tolerance(
    direction, effect, interval, tolerance, marks
):
    verdict = Verdict(State.PASS, "", effect, interval, "abs" not in tolerance, tolerance)
    bar = overview.bar(verdict, direction)
    assert bar is not None
    names = ("effect", "low", "high", "tolerance", "over")
    assert tuple(bar[name] for name in names) == marks


def test_a_bar_needs_a_comparison():
    assert overview.bar(Verdict(State.NO_BASELINE, ""), "higher") is None
    assert overview.bar(Verdict(State.PASS, "", float("inf")), "higher") is None


def test_the_worst_comes_first():
    def one(name: str, state: str, consequence: str, effect: float = -0.5) -> dict[str, Any]:
        return measured(name, state=state, consequence=consequence, effect=effect)

    rows = overview.entries(
        run_of(
            one("fine", "PASS", "pass"),
            one("lost", "UNMEASURED", "fail"),
            one("broken", "INFRA_ERROR", "error"),
            one("bad", "REGRESSION", "fail"),
            one("warned", "REGRESSION", "warn"),
            one("worst", "REGRESSION", "fail", -0.9),
        )["tests"]
    )
    names = [row["name"] for row in rows]
    assert names == ["worst", "bad", "lost", "broken", "warned", "fine"]


@pytest.mark.parametrize(
    ("measurements", "outcome", "said"),
    [([], "skipped", ("", "Nothing was gated")), ([measured()], "passed", ("good", "Passed"))],
    ids=["nothing", "something"],
)
def test_a_run_that_measured_nothing_did_not_pass(tmp_path, measurements, outcome, said):
    run = run_of(*measurements) | {"exit": 0}
    run["tests"][0]["outcome"] = outcome
    text, _ = written(tmp_path / "page", run)
    found = re.search(r'<header class="run (\w*)">.*?<h1>(.*?)</h1>', text, re.DOTALL)
    assert found is not None
    assert found.groups() == said


def test_what_was_expected_to_fail_comes_after_what_fails():
    expected = run_of(measured("expected"))["tests"][0] | {"outcome": "skipped"}
    (test,) = run_of(measured("bad", effect=-0.2), measured("fine", consequence="pass"))["tests"]
    names = [row["name"] for row in overview.entries([expected, test])]
    assert names == ["bad", "expected", "fine"]


def test_a_change_that_several_tests_saw_is_one_card(tmp_path):
    run = run_of(measured(), measured("other", effect=-0.3))
    (seen,) = run["tests"]
    more = {"measurements": seen["measurements"][:1], "attribution": None}
    run["tests"] += [seen | more | {"nodeid": f"test_a.py::more[{i}]"} for i in range(5)]
    text, _ = written(tmp_path / "page", run)
    cards = text.partition('<ol class="worst">')[2].partition("</ol>")[0].split("<li ")[1:]
    assert ["sharpness" in card for card in cards] == [True, False]
    assert ["] +5</small>" in card for card in cards] == [True, False]
    assert len(overview.entries(run["tests"])) == 7  # the table has them all


@pytest.mark.parametrize(
    ("failure", "state", "reason", "told"),
    [
        ("Unmeasured: clip is UNMEASURED: no", "UNMEASURED", "no", {"clip": "no"}),
        (
            "BadModel: no",
            "UNMEASURED",
            "not reached: BadModel: no",
            {"clip": "not reached: BadModel: no"},
        ),
        ("BadSetting: x", "UNMEASURED", "no", {"the test itself": "BadSetting: x", "clip": "no"}),
        (
            "Unmeasured: clip is UNMEASURED: no",
            "REGRESSION",
            "worse",
            {"clip": "worse", "the test itself": "Unmeasured: clip is UNMEASURED: no"},
        ),
    ],
    ids=["unmeasured", "not reached", "another", "measured"],
)
def test_what_a_measurement_says_of_its_test_is_one_row(failure, state, reason, told):
    run = run_of(measured("clip", state=state, reason=reason))
    run["tests"][0]["failure"] = {"text": failure, "file": None, "line": None}
    for rows in (overview.entries(run["tests"]), overview.worst(run["tests"])):
        assert {row["name"]: row["reason"] for row in rows} == told


def test_a_test_without_measurements_has_a_row(tmp_path):
    run = run_of()
    run["tests"][0] |= {"model": None, "workload": None, "attribution": None, "outcome": "error"}
    text, (detail,) = written(tmp_path / "page", run)
    assert "What fails" in text
    assert "pytest's own report says why" in text.replace("&#39;", "'")
    assert detail["samples"] == []


def test_a_tests_own_failure_and_trouble_of_the_run_are_shown(tmp_path):
    run = run_of(measured("fine"))
    why = "assert sharpness.mean > 5 <b>\n  measured 4"
    failure = {"text": why, "file": None, "line": None}
    run["tests"][0] |= {"outcome": "failed", "failure": failure}
    lost = Context(tmp_path, trouble=("baselines were not updated",))
    html.write(run, tmp_path / "page", lost)
    text = (tmp_path / "page" / "index.html").read_text()
    assert "assert sharpness.mean &gt; 5 &lt;b&gt;</small>" in text  # its first line
    assert "1 FAILED</span>" in text
    assert 'data-state="failed"' in text
    assert "<option></option>" not in text  # it is of no kind
    assert "baselines were not updated" in text
    run["tests"][0]["outcome"] = "skipped"  # it was expected to
    html.write(run, tmp_path / "page", lost)
    assert "What fails" not in (tmp_path / "page" / "index.html").read_text()


def test_the_command_that_runs_a_test_alone_is_shown(tmp_path):
    run = run_of(measured()) | {"flags": ["--vdb-model=m", "--vdb-serve=cmd --key=secret"]}
    _, (detail,) = written(tmp_path / "page", run)
    assert detail["alone"] == "pytest 'test_a.py::test[t]' --vdb-model=m --vdb-serve=..."


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({}, True),
        ({"bytes": {"<b>": [1, 2]}}, True),
        ({"bytes": {"allocated": ["1", 2]}}, False),
        ({"bytes": {"allocated": []}}, False),
        ({"bytes": {}}, False),
        ({"bytes": 5}, False),
        ({"seconds": 0}, False),
        ({"stages": [["x", "decode"]]}, False),
        ({"stages": 1}, False),
    ],
    ids=str,
)
def test_memory_over_time_is_shown_where_it_is_some(tmp_path, change, shown):
    run = run_of(measured())
    found = {"sample": "p/0", "seconds": 1.5, "bytes": {"allocated": [1, 2]}}
    run["tests"][0]["memory_over_time"] = {**found, "stages": [[0.0, "decode"]], **change}
    _, (detail,) = written(tmp_path / "page", run)
    assert (detail["over_time"] is not None) == shown


def test_a_kept_run_says_why_it_has_no_videos(tmp_path):
    _, (detail,) = written(tmp_path / "page", run_of(measured()))
    assert "at the end of the run" in detail["why"]


# ------------------------------------------------------------------------------------ the folder


def test_a_folder_of_somebody_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for act in (html.check, html.clear, lambda path: html.write(run_of(), path, Context(path))):
        with pytest.raises(BadSetting, match="no page of pytest-vdb"):
            act(tmp_path)
    written(tmp_path / "page", run_of(measured()))
    (tmp_path / "page" / "thesis.txt").write_text("mine")
    with pytest.raises(BadSetting, match=r"thesis\.txt, which no page of pytest-vdb has"):
        html.clear(tmp_path / "page")
    shutil.rmtree(tmp_path / "page")
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(BadSetting, match="is a link"):
        html.check(tmp_path / "link")
    (tmp_path / "link").unlink()
    with pytest.raises(BadSetting, match="is a file"):
        html.check(tmp_path / "mine.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_page_takes_the_place_of_an_older_one(tmp_path):
    written(tmp_path / "page", run_of(measured("older_one")))
    text, _ = written(tmp_path / "page", run_of(measured("newer_one")))
    assert "newer_one" in text
    assert "older_one" not in text
    html.clear(tmp_path / "page")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BaselineWriteError, match="was not written: "):
        html.write(run_of(), tmp_path / "file" / "page", Context(tmp_path))
    frames = {"frames": str(tmp_path / "gone.npy"), "frames_sha256": "", "fps": 8, "key": "p/0"}
    shown = {"test_a.py::test[t]": {"samples": [frames]}}
    with pytest.raises(BaselineWriteError, match="No such file"):
        html.write(run_of(), tmp_path / "page", Context(tmp_path, shown=shown))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# ------------------------------------------------------------------------------------- the films


def decoded(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def clip(*levels: int, height: int = 48, width: int = 64) -> np.ndarray:
    one = np.ones((height, width, 3), np.uint8)
    return np.stack([one * level for level in levels])


def test_a_film_holds_both_sides_and_their_difference(tmp_path):
    ours, theirs = clip(40, 80, 120), clip(40, 84, 20)
    made = movie.write(tmp_path / "a.webm", ours, iter(theirs), 12.5)
    assert made == movie.Movie(3, (128, 96), 12.5, (3, 3), (0.0, 4.0, 100.0), (64, 48))
    found = decoded(tmp_path / "a.webm").astype(int)
    assert found.shape == (3, 96, 384, 3)
    means = [[found[t, :, x : x + 128].mean() for x in (0, 128, 256)] for t in range(3)]
    # a difference d is shown as sqrt(255 d): 4 as 32, 100 as 160
    wanted = [[40, 40, 0], [80, 84, 32], [120, 20, 160]]
    np.testing.assert_allclose(means, wanted, atol=4)


def test_a_film_of_one_side_has_one_panel(tmp_path):
    made = movie.write(tmp_path / "a.webm", clip(10, 20), None, None)
    assert (made.panels, made.frames, made.fps, made.distances) == (1, (2, 0), 8.0, ())
    assert decoded(tmp_path / "a.webm").shape == (2, 96, 128, 3)


def test_sides_of_unequal_length_and_size(tmp_path):
    ours, theirs = clip(100, 100, 100), clip(90, height=24, width=32)
    made = movie.write(tmp_path / "a.webm", ours, iter(theirs), 8)
    assert made.frames == (3, 1)
    assert made.distances == (10.0,)
    assert made.compared == (32, 24)
    last = decoded(tmp_path / "a.webm")[2].astype(int)
    assert abs(last[:, :128].mean() - 100) < 4
    assert last[:, 130:].mean() < 4  # that side has ended


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(480, 832, (640, 370)), (32, 32, (128, 128)), (33, 65, (64, 32)), (1, 1, (128, 128))],
)
def test_a_panel_is_even_and_neither_tiny_nor_huge(height, width, size):
    assert movie.panel_size(height, width) == size
