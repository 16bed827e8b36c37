"""The gate's rules on numbers. Error rates over many suites are a study of their own."""

import math

import numpy as np
import pytest

from pytest_vdb.gate.policy import Consequences, Tolerance, tolerance_for
from pytest_vdb.gate.rules import (
    fastest_half,
    interleaved,
    kid_changes,
    latency_screen,
    live_modes,
    paired,
    peak_memory,
    swap_test,
)
from pytest_vdb.gate.rules.common import p_value
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
    twos, zeros = np.full(9, 2.0), np.zeros(9)
    assert judge(twos, zeros).state is State.UNMEASURED
    assert judge(twos, zeros, tolerance=Tolerance(0.1, False)).state is State.IMPROVEMENT


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
    verdict = peak_memory({"p/0": new * mib}, [{"p/0": 100 * mib}], tolerance=Tolerance(0.01))
    assert verdict.state is state


def test_a_leak_does_not_hide_behind_a_calm_first_sample():
    base = [{f"p{i}/0": 10.0 * 2**30 for i in range(4)}]
    one = base[0] | {"p3/0": 12.0 * 2**30}
    most = base[0] | {f"p{i}/0": (10.0 + i) * 2**30 for i in range(4)}
    verdict = peak_memory(one, base, tolerance=Tolerance(0.01))
    assert verdict.state is State.INCONCLUSIVE
    assert "1 of 4 samples" in verdict.reason
    assert "p3/0" in verdict.reason
    assert peak_memory(most, base, tolerance=Tolerance(0.01)).state is State.REGRESSION


def test_a_large_sample_lends_its_peak_to_no_other():
    base = [{"small/0": 1.0 * 2**30, "large/0": 9.0 * 2**30}]
    new = {"small/0": 8.0 * 2**30, "large/0": 9.5 * 2**30}
    assert peak_memory(new, base, tolerance=Tolerance(0.01)).state is State.REGRESSION


def test_memory_of_zero_never_measured():
    verdict = peak_memory({"p/0": 5.0}, [{"p/0": 0.0}], tolerance=PERCENT)
    assert verdict.state is State.UNMEASURED


def test_pass_and_fail_are_judged_exactly():
    base = np.ones(40)
    new = base.copy()
    new[:10] = 0  # 10 fell, none rose: p = 2^-10, which 200 metrics together do not convict
    assert judge(new, base).state is State.INCONCLUSIVE
    new[:20] = 0
    assert judge(new, base).state is State.REGRESSION
    few = np.ones(9)  # too few for the guard, whatever they say: 9 of 9 convict all the same
    assert judge(few * 0, few).state is State.REGRESSION
    assert judge(np.r_[0, 0, few[2:]], few).state is State.INCONCLUSIVE
    mixed = np.r_[np.zeros(10), np.ones(30)]
    assert judge(mixed[::-1], mixed).state is State.INCONCLUSIVE  # 10 fell, 10 rose


def test_sessions_of_one_level_are_one_mode():
    assert live_modes([1.0, 1.1, 0.95, 1.05], ["a", "b", "c", "d"], 0.2) == [[0, 1, 2, 3]]


@pytest.mark.parametrize(
    ("levels", "commits", "modes"),
    [
        ([1.0, 1.0, 2.0, 2.0], "abcd", [[2, 3]]),  # the code changed: no way back
        ([1.0, 1.0, 1.0, 2.0], "abcd", [[3]]),
        ([1.0, 2.0, 1.0, 2.0], "abcd", [[1, 3], [0, 2]]),  # it comes and goes
        ([1.0, 2.0], "aa", [[1], [0]]),  # the same code did both
        ([1.0, 2.0, 1.0], "abc", [[0, 2]]),  # one bad session excuses nothing
        ([1.0, 2.0], ["", ""], [[1], [0]]),  # nobody knows: outside version control
        ([1.0, 2.0], ["a+", "a+"], [[1]]),  # two different trees
    ],
)
def test_a_mode_counts_where_it_recurs(levels, commits, modes):
    assert live_modes(levels, list(commits), 0.5) == modes


@pytest.mark.parametrize(
    ("levels", "commits", "modes"),
    [
        ([1.0, 1.0, 2.0, 1.0, 1.0], "aaaaa", [[0, 1, 3, 4]]),  # a busy machine on one day
        ([1.0, 1.0, 2.0], "aaa", [[0, 1]]),  # or on the last one
        ([1.0, 1.0, 2.0], "abb", [[0, 1]]),
        ([1.0, 1.0, 2.0], "aab", [[2]]),  # the code may be slower
        ([1.0, 2.0], "aa", [[1]]),  # nobody knows which; the newest was stored last
        ([1.0, 2.0, 1.0, 2.0], "aaaa", [[1, 3], [0, 2]]),
        ([1.0, 1.0, 2.0, 2.0], "aaaa", [[2, 3], [0, 1]]),
        ([1.0, 1.0, 2.0], ["", "", ""], [[2], [0, 1]]),  # nobody knows whether the code changed
        ([1.0, 2.0, 1.0], ["", "", ""], [[0, 2]]),
    ],
)
def test_one_disturbed_session_is_no_mode_of_a_time(levels, commits, modes):
    assert live_modes(levels, list(commits), 0.5, least=2) == modes


SIDE_BY_SIDE = {"level": 2.0, "tolerance": PERCENT, "guard_m": 200}


@pytest.mark.parametrize(
    ("slower", "state"),
    [(0, State.PASS), (0.05, State.INCONCLUSIVE), (0.1, State.REGRESSION), (-0.12, "faster")],
)
def test_side_by_side(slower, state):
    pairs = [[math.log1p(slower) + wobble] * 5 for wobble in (-0.005, 0.0, 0.005)]
    verdict = interleaved(pairs, **SIDE_BY_SIDE)
    assert verdict.state is (State.IMPROVEMENT if state == "faster" else state)
    assert verdict.effect == pytest.approx(slower)
    assert "3 process pairs" in verdict.reason
    assert verdict.baseline == 2.0


def test_pairs_that_differ_widely_convict_nobody():
    assert (
        interleaved([[0.0] * 5, [0.1] * 5, [0.2] * 5], **SIDE_BY_SIDE).state is State.INCONCLUSIVE
    )


def test_three_pairs_of_differing_processes_that_agree_by_chance_wait_for_a_fourth():
    agreeing = [[0.19] * 5, [0.2] * 5, [0.22] * 5]
    assert interleaved(agreeing, **SIDE_BY_SIDE).state is State.REGRESSION
    assert interleaved(agreeing, **SIDE_BY_SIDE, last=False).state is State.INCONCLUSIVE
    fourth = [*agreeing, [0.0] * 5]
    assert interleaved(fourth, **SIDE_BY_SIDE, last=False).state is State.INCONCLUSIVE
    slower = [*agreeing, [0.2] * 5]
    assert interleaved(slower, **SIDE_BY_SIDE, last=False).state is State.REGRESSION


def test_an_assumption_that_the_pairs_contradict_has_no_weight():
    steady = [[0.1 + w] * 5 for w in (-0.02, -0.01, 0.01, 0.02)]
    told = interleaved(steady, **SIDE_BY_SIDE)
    assert told.state is State.REGRESSION
    widely = [[0.3 + w] * 5 for w in (-0.06, -0.04, 0.04, 0.06)]
    contradicting = interleaved(widely, **SIDE_BY_SIDE)
    assert contradicting.state is State.INCONCLUSIVE
    calibrated = interleaved(widely, **SIDE_BY_SIDE, pair_sd=0.05)
    assert calibrated.state is State.REGRESSION  # known to differ so, and counted as such


def test_three_equal_pairs_know_no_more_than_processes_do():
    verdict = interleaved([[0.0] * 5] * 3, **SIDE_BY_SIDE)
    low, high = verdict.interval
    assert high - low > 0.01  # as the assumed spread of processes has it, not 0
    fine = interleaved([[0.0] * 5] * 3, **SIDE_BY_SIDE | {"tolerance": Tolerance(0.005)})
    assert fine.state is State.INCONCLUSIVE
    assert "a tolerance of" in fine.reason


def test_blocks_that_scatter_widen_what_three_agreeing_pairs_seem_to_know():
    calm = [[0.1] * 5] * 3
    restless = [[-0.4, -0.2, 0.1, 0.3, 0.5]] * 3
    assert interleaved(calm, **SIDE_BY_SIDE).state is State.REGRESSION
    assert interleaved(restless, **SIDE_BY_SIDE).state is State.INCONCLUSIVE


def test_one_disturbed_block_is_no_slowdown():
    disturbed = [[0.0, 0.0, 3.0, 0.001, -0.001]] * 3
    assert interleaved(disturbed, **SIDE_BY_SIDE).effect == pytest.approx(0, abs=1e-3)


def test_a_tolerance_of_a_rate_is_the_rates_own():
    base = [[2.0, 2.01, 1.99, 2.0]]  # videos a second
    how = {"guard_m": 200, "rate": True}
    fallen = latency_screen([1.7] * 4, base, tolerance=Tolerance(0.1, False), **how)
    assert fallen.state is not State.PASS  # by .3, and .1 is allowed
    fine = latency_screen([1.95] * 4, base, tolerance=Tolerance(0.4, False), **how)
    assert fine.state is State.PASS


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


def test_a_swap_within_pairs_sees_what_a_pooled_permutation_does_not():
    rng = np.random.default_rng(0)
    prompts = rng.normal(size=(48, 16)) * 10  # what differs between prompts drowns all else
    base = prompts + rng.normal(size=prompts.shape) * 0.1
    again = prompts + rng.normal(size=prompts.shape) * 0.1
    assert swap_test(again, base) > 0.05
    assert swap_test(again + 0.1, base) < 0.01
    assert swap_test(base, base) == 1.0
    with pytest.raises(ValueError, match="do not pair"):
        swap_test(base[:9], base)


def test_kid_against_a_real_set_says_which_is_worse():
    rng = np.random.default_rng(1)
    real, base, noise = (rng.normal(size=(n, 8)) for n in (96, 64, 64))
    changes = kid_changes(base + 0.5 * noise + 0.3, base, real)
    assert changes.shape == (64,)
    assert changes.mean() == pytest.approx(kid(base + 0.5 * noise + 0.3, real) - kid(base, real))
    assert p_value(changes, 0.0, "greater") < 0.01
    assert not kid_changes(base, base, real).any()


def kid(rows, real):
    """The unbiased estimate by its definition, for comparison."""
    kernel = [
        np.array([[(a @ b / 8 + 1) ** 3 for b in right] for a in left])
        for left, right in ((rows, rows), (real, real), (rows, real))
    ]
    own = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in kernel[:2]]
    return sum(own) - 2 * kernel[2].mean()
