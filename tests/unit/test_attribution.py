"""What is said of two traces and of a gate's verdicts: hand-made points, every kind of change."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from pytest_vdb.gate.attribution import Attribution, Finding, Side, attribute, diverged
from pytest_vdb.records import Kind, State
from pytest_vdb.traces import DIRECTIONS, Point, Trace

SCORE = Finding("sharpness", Kind.SCORE, State.PASS)
WORSE = Finding("sharpness", Kind.SCORE, State.REGRESSION)
SLOW = Finding("latency", Kind.LATENCY, State.INCONCLUSIVE)
LARGE = Finding("memory.peak", Kind.MEMORY, State.REGRESSION)


def point(part: str, step: int = 0, size: float = 0.0, **changes: Any) -> Point:
    """A point that differs from that of size 0 by ``size`` of its norm, 10."""
    stage = "denoise" if step else {"vae": "decode"}.get(part, "text_encode")
    each = 10 * size  # |difference| / sqrt(DIRECTIONS)
    crc = hash((part, step, size)) & 0xFFFFFFFF
    made = Point(stage, step, part, 0, (2, 3), 10.0, crc, (1.0 + each,) * DIRECTIONS)
    return replace(made, **changes)


PARTS = (
    ("text_encoder", 0),
    ("transformer.blocks.0", 1),
    ("transformer", 1),
    ("guidance", 1),
    ("scheduler", 1),
    ("transformer", 2),
    ("guidance", 2),
    ("scheduler", 2),
    ("vae", 0),
)


def trace(*sizes: float, dtype: str = "float32", **more: Any) -> Trace:
    """A trace of `PARTS`; sizes that are not given are the last one that is."""
    sizes = sizes or (0.0,)
    filled = [*sizes, *[sizes[-1]] * (len(PARTS) - len(sizes))]
    points = tuple(point(*part, size) for part, size in zip(PARTS, filled, strict=True))
    dtypes = dict.fromkeys(("text_encoder", "transformer", "vae"), dtype)
    return Trace("fox/0", points, dtypes=dtypes, **more)


BASE = trace()


def test_equal_traces_do_not_diverge() -> None:
    assert diverged(BASE, trace()) is None
    assert attribute(Side(BASE), Side(trace()), [SCORE]) is None


@pytest.mark.parametrize("index", range(len(PARTS)))
def test_the_first_output_that_differs_is_named(index: int) -> None:
    found = diverged(BASE, trace(*[0.0] * index, 0.12))
    assert found is not None
    assert (found.part, found.step) == PARTS[index]
    assert found.size == pytest.approx(0.12, rel=1e-6)
    assert not found.drift
    assert found.before == (PARTS[index - 1][0] if index else "")
    assert found.before_size == 0


def test_a_change_is_told_from_the_drift_before_it() -> None:
    found = diverged(BASE, trace(*[1e-6] * 7, 0.02))
    assert found is not None
    assert (found.part, found.step, found.drift) == ("scheduler", 2, False)
    assert found.before_size == pytest.approx(1e-6, rel=1e-3)


def test_drift_that_grows_step_by_step_began_where_it_began() -> None:
    found = diverged(BASE, trace(0.0, 4e-4, 8e-4, 2e-3, 4e-3, 8e-3))
    assert found is not None
    assert (found.part, found.drift) == ("transformer.blocks.0", True)


@pytest.mark.parametrize(
    ("dtype", "size", "drift"),
    [
        *(("float32", 1e-6, True), ("float32", 6e-3, False)),
        *(("bfloat16", 0.018, True), ("bfloat16", 0.1, False), ("float16", 3e-3, True)),
    ],
)
def test_what_is_rounding_depends_on_the_dtype(dtype: str, size: float, drift: bool) -> None:
    found = diverged(BASE, trace(size, dtype=dtype))
    assert found is not None
    assert found.drift is drift


def test_another_dtype_is_said() -> None:
    found = explained(Side(BASE), Side(trace(0.0, 0.005, dtype="bfloat16")), [SCORE])
    assert found.kinds == ("bit drift",)
    assert "The transformer's weights are bfloat16, were float32." in found.text


def test_what_cannot_be_subtracted_is_said_in_words() -> None:
    def changed(index: int, **how: Any) -> Trace:
        points = list(BASE.points)
        points[index] = replace(points[index], crc=1, **how)
        return replace(BASE, points=tuple(points))

    def without(*indices: int) -> Trace:
        return replace(BASE, points=tuple(p for i, p in enumerate(BASE.points) if i not in indices))

    cases = [
        (BASE, changed(2, shape=(2, 6)), "transformer", "its shape is 2×6, was 2×3"),
        (BASE, changed(2, norm=None), "transformer", "it has values that are NaN or infinite"),
        (BASE, without(5, 6, 7), "transformer", "is not called any more"),
        (without(5, 6, 7), BASE, "transformer", "is called, and was not"),
        (BASE, without(3), "guidance", "is not applied any more"),
    ]
    for base, new, part, what in cases:
        found = diverged(base, new)
        assert found is not None
        assert (found.part, found.what, found.size) == (part, what, None)
    assert diverged(BASE, without(1)) is None  # compiled blocks are not seen


def test_of_thinned_traces_the_steps_of_both_are_compared() -> None:
    thinned = replace(BASE, every=2, points=tuple(p for p in BASE.points if p.step != 1))
    first = tuple(p for p in BASE.points if p.step <= 1)
    assert diverged(replace(BASE, every=4, points=first), BASE) is None
    assert diverged(replace(thinned, points=BASE.points), BASE) is None


# ------------------------------------------------------------------ kinds


def explained(base: Side, new: Side, findings: list[Finding]) -> Attribution:
    found = attribute(base, new, findings)
    assert found is not None
    return found


def test_a_regression_of_quality_comes_first() -> None:
    found = explained(Side(BASE), Side(trace(*[0.0] * 4, 0.12)), [WORSE])
    assert found.kinds == ("quality regressed", "changed")
    assert found.text == (
        "First difference: denoise step 1, scheduler (0.12 of its norm); "
        "the output before it (guidance) agrees."
    )


@pytest.mark.parametrize(
    ("findings", "quality"),
    [
        *(([SCORE], "neutral"), ([SLOW], "not judged"), ([SCORE, WORSE], "regressed")),
        ([SCORE, replace(SCORE, state=State.INCONCLUSIVE)], "undecided"),
    ],
)
def test_quality_is_neutral_only_where_it_was_judged(findings: list[Finding], quality: str) -> None:
    found = explained(Side(BASE), Side(trace(1e-6)), findings)
    assert found.summary == f"changed, bit drift (1e-06), quality {quality}"


def test_another_stack_is_named_by_its_versions() -> None:
    base = Side(BASE, versions={"torch": "2.13.0", "diffusers": "0.41.0"})
    new = Side(trace(1e-6), versions={"torch": "2.13.0", "diffusers": "0.42.0"})
    found = explained(base, new, [SCORE])
    assert found.kinds == ("stack changed", "bit drift")
    assert "The stack changed: diffusers 0.41.0 → 0.42.0." in found.text
    assert explained(Side(BASE), new, [SCORE]).stack == ()  # of the baseline nothing is known


def test_what_a_baseline_without_a_trace_leaves_out_has_not_changed() -> None:
    new = Side(BASE, versions={"torch": "2.13.0", "diffusers": "0.42.0", "accelerate": "1.15.0"})
    facts = Side(versions={"torch": "2.13.0", "diffusers": "0.41.0"})  # it names these alone
    assert explained(facts, new, [WORSE]).stack == ("diffusers 0.41.0 → 0.42.0",)
    assert explained(replace(facts, trace=BASE), new, [WORSE]).stack == (
        "accelerate – → 1.15.0",
        "diffusers 0.41.0 → 0.42.0",
    )


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ({"workers": 1}, {"workers": 2}, "2 workers, 1 in the baseline's run"),
        ({"load": 0.9}, {"load": 3.1}, "a load of 3.1 a core, 0.9"),
        ({"throttled": 0}, {"throttled": 1}, "clocks were held back"),
        ({"clock": 0.99}, {"clock": 0.7}, "clock at 70% of its highest, 99%"),
        ({"processes": 1}, {"processes": 2}, "2 processes on the GPU, 1"),
    ],
)
def test_the_machine_may_be_why_it_is_slow(
    before: dict[str, float], now: dict[str, float], said: str
) -> None:
    base, new = Side(BASE, conditions=before), Side(trace(), conditions=now)
    found = explained(base, new, [SLOW])
    assert found.kinds == ("infrastructure", "same numbers")
    assert said in found.text
    assert explained(base, new, [WORSE]).infrastructure == ()  # pixels have no clock
    assert explained(new, new, [SLOW]).infrastructure == ()


# ------------------------------------------------------------------ costs


def test_the_stage_that_took_the_time_is_named() -> None:
    base = Side(BASE, {"text_encode": 0.1, "denoise": 2.0, "decode": 0.5})
    new = Side(trace(), {"text_encode": 0.11, "denoise": 2.0, "decode": 1.29})
    found = explained(base, new, [SLOW])
    assert found.time is not None
    assert found.time.share == pytest.approx(0.9875)
    assert "Of +0.8 s, decode took +0.79 s (99%)." in found.text
    assert explained(base, new, [WORSE]).time is None
    only_load = replace(SLOW, name="load")
    assert explained(base, new, [only_load]).time is None


def test_time_that_moved_from_stage_to_stage_has_no_share() -> None:
    base, new = (
        Side(BASE, {"denoise": 2.0, "decode": 0.5}),
        Side(BASE, {"denoise": 1.0, "decode": 1}),
    )
    found = explained(base, new, [SLOW])
    assert found.time is not None
    assert found.time.share is None
    assert "No more time in all; decode took +0.5 s." in found.text


def test_the_stage_whose_peak_rose_is_named() -> None:
    base = Side(BASE, memory={"denoise": 2**30, "decode": 2**30})
    new = Side(BASE, memory={"denoise": 2**30, "decode": 2**30 + 300 * 2**20})
    found = explained(base, new, [LARGE])
    assert "The peak of decode rose by 300 MiB." in found.text
    assert found.time is None


def test_without_a_stored_trace_it_says_so() -> None:
    found = explained(Side(reason="the baseline keeps no trace"), Side(BASE), [WORSE])
    assert found.text == "Where it began is not known: the baseline keeps no trace."
    assert attribute(Side(reason="none"), Side(BASE), [SCORE]) is None


def test_it_is_finite_json() -> None:
    found = explained(Side(trace()), Side(trace(0.0, math.pi)), [WORSE, SLOW])
    data = found.to_json()
    assert data["first"]["part"] == "transformer.blocks.0"
    assert data["time"] is None
