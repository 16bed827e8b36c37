"""The page in a real Chromium: what a reviewer sees, plays, filters and types."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

QUALITY = "test_quality[clips]"


def rows(page: Any) -> list[str]:
    """The table's lines, as they are read."""
    return [" ".join(text.split()) for text in page.locator("#rows tbody tr").all_inner_texts()]


def until(page: Any, code: str, argument: Any = None) -> None:
    """Wait for a condition; Playwright's own wait evaluates a string, which the page forbids."""
    for _ in range(300):
        if page.evaluate(code, argument):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"it never came: {code} of {argument}")


def ready(page: Any) -> None:
    """Wait until both sides' canvases show a frame."""
    until(page, "() => document.querySelectorAll('canvas[data-frame]').length >= 2")


def opened(seen: Any, measurement: str = "sharpness") -> Any:
    page = seen.open().page
    row = page.locator("#rows tbody tr", has_text=measurement).filter(has_text=QUALITY)
    row.first.click()
    ready(page)
    return page


def frames(page: Any) -> list[int]:
    """The frame that each canvas says it shows, read at one moment."""
    code = (
        "[...document.querySelectorAll('canvas[data-frame]')].map((c) => Number(c.dataset.frame))"
    )
    return list(page.evaluate(code))


def at(page: Any, frame: int) -> None:
    """Wait for a frame; the screenshots after it show that frame."""
    until(
        page,
        "(n) => [...document.querySelectorAll('canvas')].every((c) => c.dataset.frame == n)",
        frame,
    )


def greys(page: Any) -> list[float]:
    """The background of candidate and baseline, from one screenshot of both."""
    panels = page.locator(".panels")
    picture = np.asarray(Image.open(io.BytesIO(panels.screenshot())).convert("L"), float)
    outer = panels.bounding_box()
    found = []
    for canvas in page.locator(".panels canvas").all()[:2]:
        box = canvas.bounding_box()
        x, y = int(box["x"] - outer["x"]), int(box["y"] - outer["y"])
        found.append(float(picture[y + 12 : y + 22, x + 12 : x + 22].mean()))
    return found


def test_what_got_worse_by_how_much_and_how_sure_is_read_at_once(seen):
    page = seen.open().page
    assert page.locator("h1").inner_text() == "Failed"
    first = page.locator(".worst li").first.inner_text()
    assert "sharpness" in first
    assert "%" in first
    assert "95 % interval" in first
    assert "tolerance 2%" in first
    bars = page.locator(".worst .bar").first
    assert "times the tolerance" in bars.get_attribute("aria-label")
    told = rows(page)
    states = ("REGRESSION", "UNMEASURED", "INFRA_ERROR", "NO_BASELINE")
    assert all(any(state in row for row in told) for state in states), told


def test_a_narrow_screen_shows_name_numbers_and_verdict(seen):
    page = seen.open().page
    page.set_viewport_size({"width": 400, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    for row in page.locator("#rows tbody tr").all():
        for cell in row.locator("b, .number, .change, .state").all():
            box = cell.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 400
        assert row.locator("b").bounding_box()["height"] < 30  # a name is not broken


def test_filters_leave_what_they_say(seen):
    page = seen.open().page
    everything = len(rows(page))
    page.locator("[data-state=REGRESSION]").click()
    assert rows(page)
    assert all("REGRESSION" in row for row in rows(page))
    page.locator("[data-state=INFRA_ERROR]").click()
    assert {row.split()[-1] for row in rows(page)} == {"REGRESSION", "INFRA_ERROR"}
    page.locator("#model").select_option("clips")
    assert {row.split()[-1] for row in rows(page)} == {"REGRESSION"}
    page.locator("#model").select_option("")
    for state in ("REGRESSION", "INFRA_ERROR"):
        page.locator(f"[data-state={state}]").click()
    assert len(rows(page)) == everything
    page.locator("#find").fill("FLICK quality")
    assert len(rows(page)) == 1
    assert "temporal_flickering" in rows(page)[0]
    page.locator("#find").fill("no such thing")
    assert rows(page) == []
    said = f"0 of {everything - 1} measurements, 0 of 1 other failures"
    assert page.locator("#count").inner_text() == said


def test_a_failed_assertion_is_no_measurement_and_is_read_in_lines(seen):
    page = seen.open().page
    card = page.locator(".worst li.failed").inner_text()
    assert "assert sharpness.mean > 1e+09" in card
    assert "measured" not in card
    page.locator("[data-state=failed]").click()
    assert len(rows(page)) == 1
    page.locator("#kind").select_option("score")
    assert rows(page) == []
    page.locator("#kind").select_option("")
    page.locator("#rows tbody tr").click()
    page.wait_for_selector("#detail .said")
    assert page.locator(".card").inner_text().split() == ["the", "test", "itself", "FAILED"]
    assert "\n  measured " in page.locator(".said").first.inner_text()
    assert page.locator(".picks [aria-current=true]").inner_text().endswith("\nFAILED")


def test_both_sides_show_the_same_frame_and_it_is_the_right_one(seen):
    page = opened(seen)
    assert len(set(frames(page))) == 1
    page.keyboard.press("Home")
    for frame in range(seen.frames):
        at(page, frame)
        candidate, baseline = greys(page)
        assert abs(candidate - baseline) < 3
        assert abs(candidate - seen.grey * frame) < 6, frame
        page.keyboard.press("ArrowRight")
    for frame in range(seen.frames - 1, 0, -1):
        at(page, frame)
        page.keyboard.press("ArrowLeft")
    at(page, 0)


def test_it_plays_in_step(seen):
    page = opened(seen)
    page.keyboard.press("Home")
    at(page, 0)
    page.keyboard.press("Space")
    met = set()
    for _ in range(12):
        page.wait_for_timeout(70)
        shown = frames(page)
        assert len(set(shown)) == 1
        candidate, baseline = greys(page)
        assert abs(candidate - baseline) < 3
        met.add(shown[0])
    assert len(met) > 2
    page.keyboard.press("Space")
    assert page.evaluate("document.querySelector('video').paused")


def test_the_worst_frame_comes_first(seen):
    page = opened(seen)
    assert frames(page)[0] >= seen.frames // 2  # the first blurred one
    worst = frames(page)[0]
    page.keyboard.press("Home")
    at(page, 0)
    page.keyboard.press("w")
    at(page, worst)


def test_the_difference_is_black_where_nothing_differs(seen):
    page = opened(seen)

    def brightest() -> float:
        shot = page.locator(".panels canvas").nth(2).screenshot()
        return float(np.asarray(Image.open(io.BytesIO(shot)).convert("L"), float)[6:-6, 6:-6].max())

    assert brightest() > 60
    page.keyboard.press("Home")
    at(page, 0)
    assert brightest() < 20
    page.keyboard.press("d")
    ready(page)
    assert page.locator(".panels canvas").count() == 2


def test_keys_lead_through_the_page_and_back(seen):
    page = seen.open().page
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    focused = page.evaluate("document.activeElement.innerText")
    page.keyboard.press("Enter")
    page.wait_for_selector("#detail .head")
    name = focused.split("\n")[0].strip()
    assert name in page.locator(".card").inner_text()
    page.keyboard.press("Escape")
    page.wait_for_selector("#overview:not([hidden])")
    assert page.evaluate("document.activeElement.innerText") == focused
    page.keyboard.press("/")
    page.keyboard.type("sharpness")
    assert page.locator("#find").input_value() == "sharpness"
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("Escape")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.keyboard.press("t")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark


def test_other_videos_are_a_key_away(seen):
    page = opened(seen)
    first = page.locator(".prompt").inner_text()
    page.keyboard.press("n")
    until(page, "(was) => document.querySelector('.prompt').innerText !== was", first)
    page.keyboard.press("p")
    until(page, "(was) => document.querySelector('.prompt').innerText === was", first)


def test_plots_come_when_they_are_seen(seen):
    page = opened(seen)
    page.locator(".plots").scroll_into_view_if_needed()
    page.wait_for_selector(".plots .canvas[data-drawn]")
    headings = page.locator(".plots h3").all_inner_texts()
    assert any("by video" in heading for heading in headings)
    assert any("over stored sessions" in heading for heading in headings)
    assert page.locator(".plots .scatterlayer .point").count() >= 3


def test_what_was_not_generated_is_said(seen):
    page = seen.open().page
    page.locator("#rows tbody tr", has_text="INFRA_ERROR").first.click()
    page.wait_for_selector("#detail .absent")
    assert "nothing was generated" in page.locator("#detail .absent").inner_text()
    assert "9999" in page.locator(".card").inner_text()


def test_no_change_stands_under_the_zero_line(seen):
    page = opened(seen)
    line = page.locator(".card .zero").bounding_box()["x"]
    middle = (
        page.locator(".scale span")
        .nth(1)
        .evaluate("""(span) => {
        const range = document.createRange();
        range.selectNodeContents(span);
        const box = range.getBoundingClientRect();
        return box.x + box.width / 2;
    }""")
    )
    assert abs(middle - line) < 3


def test_a_hostile_prompt_is_shown_and_does_nothing(seen):
    page = opened(seen)
    texts = set()
    for _ in range(3):
        texts.add(page.locator(".prompt").inner_text())
        page.keyboard.press("n")
        page.wait_for_timeout(100)
    shown = next(text for text in texts if "onerror" in text)
    assert "</script><img src=x" in shown
    assert "\\x1b[31m" in shown
    assert "{{ 7*7 }}" in shown
    assert page.evaluate("window.hacked") is None
    assert page.locator("#detail img").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_follows_the_readers_scheme(look, page, scheme):
    colour = (
        look(page, scheme).open().page.evaluate("getComputedStyle(document.body).backgroundColor")
    )
    channels = [int(part) for part in colour.strip("rgb()").split(",")]
    assert (sum(channels) > 600) is (scheme == "light")
