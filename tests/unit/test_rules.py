"""The gate's rules on numbers. Error rates over many suites are a study of their own."""

import numpy as np
import pytest

from pytest_vdb.gate.policy import Consequences, Tolerance, tolerance_for
from pytest_vdb.gate.rules import fastest_half, latency_screen, paired, peak_memory
from pytest_vdb.records import Kind, State, Verdict

PERCENT = Tolerance(0.05)


def scores(values):
    return {f"p{i:02}/0": float(v) for i, v in enumerate(values)}


def judge(new, base, **kwargs):
    kwargs = {"higher_is_better": True, "tolerance": PERCENT, "guard_m": 200, **kwargs}
    return paired(scores(new), scores(base), **kwargs)


BASE = np.linspace(0.8, 1.0, 12)
WOBBLE = np.tile([0.004, -0.004], 6)


def test_identical():
    assert judge(BASE, BASE).state is State.IDENTICAL


@pytest.mark.parametrize(
    ("shift", "state"),
    [(0, State.PASS), (-0.02, State.PASS), (-0.2, State.REGRESSION), (0.2, State.IMPROVEMENT)],
)
def test_paired_states(shift, state):
    verdict = judge(BASE + WOBBLE + shift, BASE)
    assert verdict.state is state
    low, high = verdict.interval
    assert low < verdict.effect < high
    assert verdict.effect == pytest.approx(shift / BASE.mean(), abs=0.002)
    # lower is better: the mirror image
    mirror = judge(BASE + WOBBLE - shift, BASE, higher_is_better=False)
    assert mirror.state is state


def test_a_fall_without_spread_is_judged_by_its_mean():
    assert judge(BASE - 0.1, BASE).state is State.REGRESSION
    assert judge(BASE - 0.01, BASE).state is State.PASS


def test_a_noisy_fall_is_inconclusive_and_says_what_would_settle_it():
    noise = np.tile([0.2, -0.3], 6)
    verdict = judge(BASE + noise, BASE)
    assert verdict.state is State.INCONCLUSIVE
    assert "prompts would settle it" in verdict.reason


def test_the_guard_needs_more_than_one_test_in_twenty():
    # beyond 5 % at p = .02, a fall at all at p = 6e-4: enough alone, not among 200
    noise = np.tile([0.08, -0.08], 6) - 0.1
    assert judge(BASE + noise, BASE).state is not State.REGRESSION
    assert judge(BASE + noise, BASE, guard_m=1).state is State.REGRESSION


def test_seeds_of_a_prompt_are_one_observation():
    new = {f"p{i}/{s}": 1.0 + 0.001 * i for i in range(9) for s in range(4)}
    base = dict.fromkeys(new, 1.0)
    verdict = paired(new, base, higher_is_better=True, tolerance=PERCENT, guard_m=200)
    assert verdict.n == 9


def test_below_eight_prompts_it_speaks_of_these_prompts_only():
    verdict = judge(BASE[:7] - 0.2, BASE[:7])
    assert verdict.state is State.REGRESSION
    assert "these 7 prompts only" in verdict.reason
    assert judge(BASE[:7] - 0.001, BASE[:7]).state is State.PASS


def test_a_sample_without_a_partner_is_unmeasured():
    assert judge(BASE[:11], BASE).state is State.UNMEASURED


def test_a_baseline_of_zero_has_no_percent():
    assert judge(np.ones(9), np.zeros(9)).state is State.UNMEASURED
    assert (
        judge(np.ones(9), np.zeros(9), tolerance=Tolerance(0.1, False)).state is State.IMPROVEMENT
    )


@pytest.mark.parametrize(
    ("new", "state"),
    [
        (100, State.IDENTICAL),
        (101.5, State.PASS),
        (103, State.REGRESSION),
        (97, State.IMPROVEMENT),
    ],
)
def test_peak_memory_is_exact(new, state):
    mib = 2**20
    assert peak_memory([new * mib], [[100 * mib]], tolerance=Tolerance(0.01)).state is state


def test_one_calm_sample_excuses_a_peak():
    base = [[10 * 2**30]]
    new = [10 * 2**30, 12 * 2**30]
    assert peak_memory(new, base, tolerance=Tolerance(0.01)).state is State.PASS


def test_memory_of_zero_never_measured():
    assert peak_memory([5.0], [[0.0]], tolerance=PERCENT).state is State.UNMEASURED


def test_latency_screen_clears_what_is_within_and_never_convicts_on_few_sessions():
    screen = {"tolerance": Tolerance(0.05), "guard_m": 200}
    base = [[1.0, 1.01, 0.99, 1.02, 1.0]]
    assert latency_screen([1.0, 1.01, 1.0, 0.99, 1.0], base, **screen).state is State.PASS
    assert latency_screen([3.0] * 5, base, **screen).state is State.INCONCLUSIVE
    assert latency_screen([0.7] * 5, base, **screen).state is State.IMPROVEMENT


def test_five_sessions_and_a_wide_tolerance_convict_unconfirmed():
    rng = np.random.default_rng(1)
    base = [list(rng.normal(1, 0.01, 5)) for _ in range(5)]
    verdict = latency_screen([1.6] * 5, base, tolerance=Tolerance(0.2), guard_m=200)
    assert verdict.state is State.REGRESSION
    assert "unconfirmed" in verdict.reason
    assert verdict.effect == pytest.approx(0.6, abs=0.03)


def test_the_screen_is_robust_to_an_outlier():
    assert fastest_half([1.0, 1.0, 1.0, 9.0]) == pytest.approx(0.0)


@pytest.mark.parametrize("bad", ["5", 5, 0.05, None, "%", "100%", "-1%", "1 abs abs"])
def test_tolerances_carry_their_kind(bad):
    with pytest.raises(ValueError, match="tolerance"):
        Tolerance.parse(bad)


@pytest.mark.parametrize("text", ["5%", "0.5abs", "off", "1e-06abs"])
def test_tolerances_read_back_as_they_print(text):
    assert Tolerance.parse(str(Tolerance.parse(text))) == Tolerance.parse(text)


def test_default_and_chosen_tolerances():
    assert str(tolerance_for("latency", Kind.LATENCY, "cuda:0", {})) == "5%"
    assert tolerance_for("latency", Kind.LATENCY, "cpu", {}).off
    assert str(tolerance_for("latency", Kind.LATENCY, "cpu", {"latency": "7%"})) == "7%"
    assert str(tolerance_for("latency.cpu", Kind.LATENCY, "cpu", {"latency": "7%"})) == "25%"
    assert str(tolerance_for("memory.peak", Kind.MEMORY, "cuda", {"memory": "3%"})) == "3%"
    assert tolerance_for("memory.reserved", Kind.MEMORY, "cuda", {}).off
    assert str(tolerance_for("anything", Kind.SCORE, "cpu", {})) == "2%"


@pytest.mark.parametrize(
    ("state", "kind", "policy", "does"),
    [
        ("REGRESSION", "score", {}, "fail"),
        ("REGRESSION", "score", {"gate": "warn"}, "warn"),
        ("REGRESSION", "score", {"updating": True}, "warn"),
        ("NO_BASELINE", "score", {}, "fail"),
        ("NO_BASELINE", "score", {"missing": "warn"}, "warn"),
        ("NO_BASELINE", "score", {"missing": "warn", "require": True}, "fail"),
        ("NO_BASELINE", "score", {"updating": True}, "warn"),
        ("NO_BASELINE", "score", {"gate": "warn"}, "fail"),
        ("NO_BASELINE", "score", {"gate": "off"}, "warn"),
        ("INCONCLUSIVE", "latency", {}, "fail"),
        ("INCONCLUSIVE", "memory", {}, "fail"),
        ("INCONCLUSIVE", "score", {}, "warn"),
        ("INCONCLUSIVE", "score", {"inconclusive": "fail"}, "fail"),
        ("INCONCLUSIVE", "latency", {"inconclusive": "warn"}, "warn"),
        ("UNMEASURED", "score", {"gate": "warn"}, "fail"),
        ("NOT_APPLICABLE", "memory", {}, "pass"),
        ("NOT_APPLICABLE", "memory", {"require": True}, "fail"),
        ("INFRA_ERROR", "score", {"gate": "off"}, "error"),
        ("PASS", "score", {"require": True}, "pass"),
        ("NEW", "score", {}, "pass"),
        ("ACCEPTED", "score", {}, "pass"),
    ],
)
def test_what_each_state_does(state, kind, policy, does):
    assert Consequences(**policy).of(Verdict(State(state), ""), Kind(kind)) == does
