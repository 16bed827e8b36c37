"""What an accepted entry covers, and what it does not, by kind of measurement."""

from dataclasses import replace

import pytest

from pytest_vdb.baseline.validate import check_acceptance
from pytest_vdb.gate import StoredSession, judge
from pytest_vdb.gate.acceptance import reviewed
from pytest_vdb.gate.policy import Tolerance
from pytest_vdb.noise import Calibration
from pytest_vdb.records import (
    Acceptance,
    Kind,
    Measurement,
    Missing,
    Provenance,
    State,
    Value,
    Verdict,
    definition,
)

FIVE = Tolerance(0.05)


def measured(kind, values, direction="lower", name="x"):
    samples = tuple(Value(f"p{i}", 0, value) for i, value in enumerate(values))
    return Measurement(name, "1", direction, kind, "mean", samples, Provenance("how"))


def stored(values):
    return {f"p{i}/0": value for i, value in enumerate(values)}


def entry_of(m, verdict, **changes):
    entry = Acceptance(
        *("test_x", m.name, "hash", "env", m.name, m.unit, m.direction),
        provenance=definition(m.provenance),
        state=verdict.state,
        reason="on purpose",
        date="2026-01-01",
        old=verdict.baseline,
        effect=verdict.effect,
        interval=verdict.interval,
        relative=verdict.relative,
        tolerance=verdict.tolerance,
        values=m.by_key,
    )
    return replace(entry, **changes)


def review(m, verdict, entry, *, honour=True, tolerance=FIVE, calibration=None):
    given = {"honour": honour, "tolerance": tolerance, "calibration": calibration}
    return reviewed(m, verdict, entry, "a.json", guard_m=200, **given)


def against(m, base, tolerance=FIVE):
    sessions = [StoredSession(stored(values)) for values in base]
    return judge(m, sessions, tolerance=tolerance, guard_m=200)


def slower(effect, half=0.02, state=State.REGRESSION, baseline=1.0):
    """A verdict of the side-by-side rule; a rate's when ``effect`` is negative."""
    interval = (effect - half, effect + half)
    return Verdict(state, "why", effect, interval, True, "5%", 0.001, 3, baseline)


LATENCY = measured(Kind.LATENCY, [1.1] * 5)


@pytest.mark.parametrize(
    ("effect", "state"),
    [(0.10, "ACCEPTED"), (0.02, "ACCEPTED"), (0.139, "ACCEPTED"), (0.145, "REGRESSION")],
)
def test_latency_holds_for_the_interval_that_was_measured(effect, state):
    entry = entry_of(LATENCY, slower(0.10))
    found = review(LATENCY, slower(effect), entry)
    assert found.state == state
    assert found.accepted == "a.json"
    assert ("worse than what was accepted" in found.reason) is (state == "REGRESSION")


def test_of_a_rate_less_is_worse():
    rate = measured(Kind.LATENCY, [0.9] * 5, direction="higher", name="throughput")
    entry = entry_of(rate, slower(-0.10))
    assert review(rate, slower(-0.139), entry).state is State.ACCEPTED
    assert review(rate, slower(-0.145), entry).state is State.REGRESSION
    assert review(rate, slower(-0.05), entry).state is State.ACCEPTED


def test_a_rerun_that_cannot_tell_is_covered_unless_it_looks_worse():
    entry = entry_of(LATENCY, slower(0.06))
    found = review(LATENCY, slower(0.05, state=State.INCONCLUSIVE), entry)
    assert found.state is State.ACCEPTED
    unsure = slower(0.12, half=0.2, state=State.INCONCLUSIVE)  # a wide interval is no excuse
    assert review(LATENCY, unsure, entry).state is State.INCONCLUSIVE


def test_a_baseline_that_holds_the_change_by_now_is_no_licence_for_another():
    entry = entry_of(LATENCY, slower(0.10))
    again = review(LATENCY, slower(0.10, baseline=1.1), entry)
    assert again.state is State.REGRESSION
    assert "the baseline has moved from 1 to 1.1" in again.reason
    assert review(LATENCY, slower(0.10, baseline=1.03), entry).state is State.ACCEPTED  # noise
    assert review(LATENCY, slower(0.10, baseline=0.8), entry).state is State.ACCEPTED


def test_a_change_of_another_kind_is_not_covered():
    entry = entry_of(LATENCY, slower(0.10))
    other = replace(slower(0.10), relative=False)
    assert review(LATENCY, other, entry).state is State.REGRESSION


GiB = 2.0**30


@pytest.mark.parametrize(
    ("peak", "state"), [(1.2, "ACCEPTED"), (1.205, "ACCEPTED"), (1.3, "REGRESSION")]
)
def test_memory_is_held_to_its_own_slack(peak, state):
    base = [[GiB, GiB]]
    one = Tolerance(0.01)
    first = measured(Kind.MEMORY, [1.2 * GiB, 1.2 * GiB])
    entry = entry_of(first, against(first, base, one))
    later = measured(Kind.MEMORY, [peak * GiB] * 2)
    verdict = against(later, base, one)
    assert verdict.state is State.REGRESSION
    assert review(later, verdict, entry, tolerance=one).state == state


def test_a_leak_in_some_samples_is_worse_than_what_was_accepted():
    base, one = [[GiB] * 4], Tolerance(0.01)
    first = measured(Kind.MEMORY, [1.2 * GiB] * 4)
    entry = entry_of(first, against(first, base, one))
    leak = measured(Kind.MEMORY, [1.2 * GiB] * 3 + [1.5 * GiB])
    found = review(leak, against(leak, base, one), entry, tolerance=one)
    assert found.state is State.REGRESSION
    assert "worse than what was accepted: 1 of 4 samples" in found.reason


def test_a_peak_of_some_samples_is_accepted_as_it_is_and_no_other_inconclusive():
    base, one = [[GiB] * 4], Tolerance(0.01)
    m = measured(Kind.MEMORY, [1.2 * GiB] + [GiB] * 3)
    verdict = against(m, base, one)
    assert verdict.state is State.INCONCLUSIVE
    entry = entry_of(m, verdict)
    check_acceptance(entry, "a.json")
    assert review(m, verdict, entry, tolerance=one).state is State.ACCEPTED
    leak = measured(Kind.MEMORY, [1.2 * GiB, 1.4 * GiB] + [GiB] * 2)
    found = review(leak, against(leak, base, one), entry, tolerance=one)
    assert found.state is State.INCONCLUSIVE
    assert "worse than what was accepted: 1 of 4 samples" in found.reason
    unsure = slower(0.10, state=State.INCONCLUSIVE)
    assert review(LATENCY, unsure, entry_of(LATENCY, unsure)) is unsure


def test_a_score_of_few_prompts_is_paired_with_what_was_accepted():
    """Two prompts have an interval so wide that it alone would let anything pass."""
    base = [[1.0, 1.0]]
    first = measured(Kind.SCORE, [0.95, 0.85], direction="higher")
    verdict = against(first, base)
    assert verdict.state is State.REGRESSION
    assert verdict.interval[0] < -0.6
    entry = entry_of(first, verdict)
    assert review(first, verdict, entry).state is State.ACCEPTED
    later = measured(Kind.SCORE, [0.75, 0.65], direction="higher")
    found = review(later, against(later, base), entry)
    assert found.state is State.REGRESSION
    assert "worse than what was accepted: worse by more" in found.reason


def test_a_score_beyond_the_interval_is_worse_even_within_the_tolerance():
    base = [[1.0 + i / 100 for i in range(10)]]
    first = measured(Kind.SCORE, [v * (0.9 + i / 1e4) for i, v in enumerate(base[0])], "higher")
    entry = entry_of(first, against(first, base))
    later = measured(Kind.SCORE, [v * 0.98 for v in first.numbers], "higher")
    found = review(later, against(later, base), entry)
    assert found.state is State.REGRESSION
    assert "is beyond -" in found.reason


NEW = Verdict(State.NO_BASELINE, "nothing stored", n=5)


@pytest.mark.parametrize(
    ("kind", "values", "again", "state"),
    [
        (Kind.SCORE, [1.0] * 8, [1.0] * 8, "NEW"),
        (Kind.SCORE, [1.0] * 8, [0.5] * 8, "REGRESSION"),
        (Kind.MEMORY, [GiB] * 2, [GiB] * 2, "NEW"),
        (Kind.MEMORY, [GiB] * 2, [2 * GiB] * 2, "REGRESSION"),
        (Kind.LATENCY, [1.0] * 5, [1.0] * 5, "NEW"),
        (Kind.LATENCY, [1.0] * 5, [1.2] * 5, "INCONCLUSIVE"),  # one session clears, or does not
        (Kind.LATENCY, [1.0] * 5, [0.0] * 5, "UNMEASURED"),
    ],
)
def test_new_is_a_rerun_within_the_rule(kind, values, again, state):
    direction = "higher" if kind is Kind.SCORE else "lower"
    entry = entry_of(measured(kind, values, direction), NEW)
    found = review(measured(kind, again, direction), NEW, entry)
    assert found.state == state
    assert found.baseline is not None or state == "UNMEASURED"


STEADY = Calibration(0.005, 0.005, 20, 5, "2026-01-01")


@pytest.mark.parametrize("tolerance", [FIVE, Tolerance(auto=True)], ids=["5%", "auto"])
def test_a_new_latency_is_held_to_what_this_machine_tells_apart(tolerance):
    entry = entry_of(measured(Kind.LATENCY, [1.0] * 5), NEW)
    again = measured(Kind.LATENCY, [1.013] * 5)
    given = {"tolerance": tolerance, "calibration": STEADY}
    assert review(again, NEW, entry, **given).state is State.NEW
    assert review(measured(Kind.LATENCY, [1.5] * 5), NEW, entry, **given).state is not State.NEW


def test_a_new_distance_has_nothing_to_be_compared_with():
    distance = Measurement(
        *("ssim", "1", "higher", Kind.DISTANCE, "mean"), missing=Missing.NO_REFERENCE, reason="no"
    )
    assert review(distance, NEW, entry_of(distance, NEW)).state is State.NEW


def test_what_an_entry_says_nothing_about_stays():
    new = entry_of(LATENCY, NEW)
    assert review(LATENCY, slower(0.1), new) == slower(0.1)  # nothing was compared then
    entry = entry_of(LATENCY, slower(0.1), provenance={"version": "2", "weights": None})
    assert review(LATENCY, slower(0.1), entry) == slower(0.1)  # another definition
    for state in (State.UNMEASURED, State.INFRA_ERROR, State.PASS):
        verdict = Verdict(state, "why")
        assert review(LATENCY, verdict, entry_of(LATENCY, slower(0.1))) == verdict
    hollow = review(LATENCY, NEW, replace(new, values={}))
    assert hollow.state is State.NO_BASELINE
    assert "holds no values" in hollow.reason


def test_without_the_flag_the_reason_alone_changes():
    found = review(LATENCY, slower(0.1), entry_of(LATENCY, slower(0.1)), honour=False)
    assert found.state is State.REGRESSION
    assert "a.json has an entry for it, which --vdb-honour-accepted honours" in found.reason


def test_times_without_an_interval_are_never_accepted():
    """Against one session the screen never convicts, so nothing else would bound them."""
    entry = entry_of(LATENCY, slower(0.06), interval=None)
    found = review(LATENCY, slower(49.0, half=1.0), entry)
    assert found.state is State.REGRESSION
    assert "holds no interval" in found.reason


@pytest.mark.parametrize(("later", "state"), [(-0.11, "ACCEPTED"), (-0.4, "REGRESSION")])
def test_a_score_without_an_interval_is_bound_by_its_effect(later, state):
    """Accepted values that scatter as much as anything make no rule certain of anything."""
    scattered = measured(Kind.SCORE, [0.1, 1.7] * 4, direction="higher")
    convicted = slower(-0.1)
    entry = entry_of(scattered, convicted, interval=None)
    again = measured(Kind.SCORE, [1 + later] * 8, direction="higher")
    assert review(again, slower(later, half=0.01), entry).state == state


def test_an_entry_lapses_by_the_policys_tolerance_and_not_by_its_own():
    entry = entry_of(LATENCY, slower(0.10), tolerance="99%")
    moved = review(LATENCY, slower(0.10, baseline=1.5), entry)
    assert moved.state is State.REGRESSION
    assert "the baseline has moved from 1 to 1.5" in moved.reason
