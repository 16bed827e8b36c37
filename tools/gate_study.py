"""What the gate gets wrong, by simulation: the tables of docs/simulation.md.

    python tools/gate_study.py [--suites 1000] [--print]

The shipped rules (`pytest_vdb.gate.rules`) are called with simulated measurements, and with them
the rules that others gate by. The noise is a model: each setting is named in the tables.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pages
from noise_model import ASSUMED, SETTINGS, Noise, process_pairs, scores, sessions
from scipy import stats

from pytest_vdb.gate.acceptance import reviewed
from pytest_vdb.gate.policy import Tolerance
from pytest_vdb.gate.rules import fastest_half, interleaved, latency_screen, paired, swap_test
from pytest_vdb.gate.rules.interleaved import LOOKS, PAIR_SD
from pytest_vdb.records import Acceptance, Kind, Measurement, State, Value, Verdict, definition

PAGE = Path(__file__).parents[1] / "docs" / "simulation.md"
METRICS = 50
GUARD_M = 200
SESSIONS = 3
POWER_RUNS = 4000


# ------------------------------------------------------------------ one measurement


@dataclass
class Outcome:
    state: State
    processes: int = 0


def latency(
    rng: np.random.Generator,
    noise: Noise,
    effect: float,
    tolerance: Tolerance,
    looks: Sequence[int],
) -> Outcome:
    """One measurement through the gate: the screen, and side by side where that does not clear."""
    base = [list(session) for session in sessions(rng, noise, SESSIONS)]
    (new,) = sessions(rng, noise, 1, effect)
    verdict = latency_screen(list(new), base, tolerance=tolerance, guard_m=GUARD_M)
    if verdict.state in (State.PASS, State.IMPROVEMENT):
        return Outcome(verdict.state)
    return beside(rng, noise, effect, tolerance, looks)


def beside(
    rng: np.random.Generator,
    noise: Noise,
    effect: float,
    tolerance: Tolerance,
    looks: Sequence[int],
) -> Outcome:
    verdict, pairs = trial(rng, noise, effect, tolerance, looks)
    return Outcome(verdict.state, 2 * pairs)


def trial(
    rng: np.random.Generator,
    noise: Noise,
    effect: float,
    tolerance: Tolerance,
    looks: Sequence[int],
    pair_sd: float = PAIR_SD,
) -> tuple[Verdict, int]:
    """What side by side says, and after how many process pairs."""
    pairs = process_pairs(rng, noise, looks[-1], effect)
    for n in looks:
        how = {"tolerance": tolerance, "guard_m": GUARD_M, "pair_sd": pair_sd}
        verdict = interleaved(pairs[:n], level=1.0, last=n == looks[-1], **how)
        if verdict.state is not State.INCONCLUSIVE:
            break
    return verdict, n


# ------------------------------------------------------------------ the tables


def slow_loads_table(suites: int) -> Iterator[list[str]]:
    """Both stages together, where no more than 3 process pairs are affordable."""
    return gate_table(suites, LOOKS[:1])


def gate_table(suites: int, looks: Sequence[int] = LOOKS) -> Iterator[list[str]]:
    """Both stages together, by setting."""
    yield [
        "noise", "false alarms: suites", "A/A cleared", "A/A processes",
        "+5 % convicted", "+10 % convicted", "+10 % cleared", "+10 % inconclusive",
        "+20 % convicted",
    ]  # fmt: skip
    tolerance = Tolerance(0.05)
    for noise in SETTINGS:
        rng = np.random.default_rng(1)
        alarms, cleared, processes = 0, 0, 0
        for _ in range(suites):
            outcomes = [latency(rng, noise, 0.0, tolerance, looks) for _ in range(METRICS)]
            alarms += any(o.state is State.REGRESSION for o in outcomes)
            cleared += sum(o.state in (State.PASS, State.IMPROVEMENT) for o in outcomes)
            processes += sum(o.processes for o in outcomes)
        n = suites * METRICS
        rows = [noise.name, f"{alarms} of {suites}", percent(cleared / n), f"{processes / n:.2f}"]
        found = {}
        for slower in (0.05, 0.1, 0.2):
            effect = math.log1p(slower)
            states = [
                latency(rng, noise, effect, tolerance, looks).state for _ in range(POWER_RUNS)
            ]
            found[slower] = {s: states.count(s) / POWER_RUNS for s in State}
        ten = found[0.1]
        yield [
            *rows,
            percent(found[0.05][State.REGRESSION]),
            percent(ten[State.REGRESSION]),
            percent(ten[State.PASS] + ten[State.IMPROVEMENT]),
            percent(ten[State.INCONCLUSIVE]),
            percent(found[0.2][State.REGRESSION]),
        ]


def design_table(suites: int) -> Iterator[list[str]]:
    """Side by side alone: how many processes, for which tolerance, on which machine."""
    yield [
        "tolerance", "processes vary by", "looks at pairs", "false alarms: suites",
        "A/A cleared", "loads, A/A", "twice the tolerance convicted", "cleared", "loads",
    ]  # fmt: skip
    for tol in (0.03, 0.05, 0.10):
        for process in (0.005, 0.02):
            for looks in ((2, 3), (3,), (3, 4), LOOKS):
                rng = np.random.default_rng(2)
                noise = replace(ASSUMED, process=process)
                tolerance = Tolerance(tol)
                same = [
                    [beside(rng, noise, 0.0, tolerance, looks) for _ in range(METRICS)]
                    for _ in range(suites)
                ]
                alarms = sum(any(o.state is State.REGRESSION for o in suite) for suite in same)
                flat = [o for suite in same for o in suite]
                effect = math.log1p(2 * tol)
                slow = [beside(rng, noise, effect, tolerance, looks) for _ in range(POWER_RUNS)]
                yield [
                    f"{tol:.0%}", f"{process:.1%}", ", ".join(map(str, looks)),
                    f"{alarms} of {suites}",
                    percent(share(flat, State.PASS)), f"{loads(flat):.1f}",
                    percent(share(slow, State.REGRESSION)), percent(share(slow, State.PASS)),
                    f"{loads(slow):.1f}",
                ]  # fmt: skip


def quality_table(suites: int) -> Iterator[list[str]]:
    """The paired rule: prompts, and how the changes of a score scatter."""
    yield [
        "prompts", "changes scatter", "sd of a change", "false alarms: suites", "A/A cleared",
        "twice the tolerance convicted", "cleared", "inconclusive",
    ]  # fmt: skip
    for prompts, sd in ((8, 0.02), (16, 0.02), (32, 0.02), (32, 0.04), (64, 0.04)):
        for shape in ("normal", "heavy tails (t, 3 df)", "skewed (log-normal)"):
            rng = np.random.default_rng(3)

            def rule(effect: float) -> State:
                new, base = scores(rng, prompts, sd, shape, effect)  # noqa: B023
                return paired(
                    new, base, higher_is_better=True, tolerance=Tolerance(0.02), guard_m=GUARD_M
                ).state

            same = [[rule(0.0) for _ in range(METRICS)] for _ in range(suites)]
            alarms = sum(State.REGRESSION in suite for suite in same)
            cleared = sum(
                suite.count(State.PASS) + suite.count(State.IMPROVEMENT) for suite in same
            )
            worse = [rule(0.04) for _ in range(POWER_RUNS)]
            counts = [worse.count(s) / POWER_RUNS for s in State]
            of = dict(zip(State, counts, strict=True))
            yield [
                str(prompts), shape, f"{sd:.0%}", f"{alarms} of {suites}",
                percent(cleared / suites / METRICS), percent(of[State.REGRESSION]),
                percent(of[State.PASS]), percent(of[State.INCONCLUSIVE]),
            ]  # fmt: skip


def sets_table(suites: int) -> Iterator[list[str]]:
    """The swap test on features of 64 videos: how often p < .05."""
    yield ["videos", "shift of the mean, in sd of a rerun", "p < .05 in"]
    runs = max(100, suites // 2)
    for videos in (32, 64):
        for shift in (0.0, 0.25, 0.5):
            rng = np.random.default_rng(4)
            found = 0
            for seed in range(runs):
                prompts = 10 * rng.standard_normal((videos, 32))
                base, new = prompts + rng.standard_normal((2, videos, 32))
                found += swap_test(new + shift, base, resamples=999, seed=seed) < 0.05
            yield [str(videos), f"{shift:g}", percent(found / runs)]


def acceptance_table(suites: int) -> Iterator[list[str]]:
    """A slowdown of 10 % was accepted; then the same commit runs again, or a worse one."""
    yield ["processes vary by", "a later run", "accepted", "red again", "inconclusive"]
    for process in (0.005, 0.02):
        for more in (0.0, 0.05, 0.1):
            rng = np.random.default_rng(6)
            noise = replace(ASSUMED, process=process)
            states: list[State] = []
            while len(states) < max(100, suites):
                first = one_trial(rng, noise, 0.1)
                if first.state is State.REGRESSION:
                    states.append(accepted_then(first, one_trial(rng, noise, 0.1 + more)))
            told = "the same commit" if not more else f"{100 * more:.0f} points slower"
            yield [
                percent(process), told,
                *(percent(states.count(state) / len(states)) for state in
                  (State.ACCEPTED, State.REGRESSION, State.INCONCLUSIVE)),
            ]  # fmt: skip


def one_trial(rng: np.random.Generator, noise: Noise, slower: float) -> Verdict:
    return trial(rng, noise, math.log1p(slower), Tolerance(0.05), LOOKS)[0]


def accepted_then(first: Verdict, later: Verdict) -> State:
    """What an entry about ``first`` makes of ``later``."""
    assert first.effect is not None
    series = Measurement(
        "latency", "s", "lower", Kind.LATENCY, "median", (Value("p", 0, 1 + first.effect),)
    )
    entry = Acceptance(
        *("test", "model", "workload", "environment", "latency", "s", "lower"),
        definition(series.provenance),
        first.state,
        "meant",
        "2026-01-01",
        old=1.0,
        effect=first.effect,
        interval=first.interval,
        tolerance=first.tolerance,
        values=series.by_key,
    )
    how = {"honour": True, "tolerance": Tolerance(0.05), "guard_m": GUARD_M}
    return reviewed(series, later, entry, "accepted/run.json", **how).state


def peers_table(suites: int) -> Iterator[list[str]]:
    """One stored session against one new one, as others gate."""
    yield ["rule", "false alarms: suites", "+5 %", "+10 %", "+20 %"]
    for name, rule in PEERS.items():
        rng = np.random.default_rng(5)

        def alarm(effect: float) -> bool:
            base, new = sessions(rng, ASSUMED, 2)  # noqa: B023
            return bool(rule(base, new * math.exp(effect)))  # noqa: B023

        alarms = sum(any(alarm(0.0) for _ in range(METRICS)) for _ in range(suites))
        caught = [
            sum(alarm(math.log1p(slower)) for _ in range(POWER_RUNS)) / POWER_RUNS
            for slower in (0.05, 0.1, 0.2)
        ]
        yield [name, f"{percent(alarms / suites)}", *map(percent, caught)]


PEERS: dict[str, Callable[[np.ndarray, np.ndarray], bool]] = {
    "mean above + 10 %": lambda base, new: new.mean() > 1.1 * base.mean(),
    "median above + 10 %": lambda base, new: np.median(new) > 1.1 * np.median(base),
    "median above + 5 %": lambda base, new: np.median(new) > 1.05 * np.median(base),
    "one run, + 25 %": lambda base, new: new[0] > 1.25 * base[0],
    "+ 10 % and Mann-Whitney p < .05": lambda base, new: (
        np.median(new) > 1.1 * np.median(base)
        and stats.mannwhitneyu(new, base, alternative="greater").pvalue < 0.05
    ),
    "Mann-Whitney p < .05": lambda base, new: (
        stats.mannwhitneyu(new, base, alternative="greater").pvalue < 0.05
    ),
    "Welch p < .05": lambda base, new: (
        stats.ttest_ind(new, base, equal_var=False, alternative="greater").pvalue < 0.05
    ),
    "fastest half above + 5 %": lambda base, new: (
        fastest_half(list(new)) > fastest_half(list(base)) + math.log(1.05)
    ),
}

TABLES = {
    "gate": gate_table,
    "slow-loads": slow_loads_table,
    "design": design_table,
    "quality": quality_table,
    "sets": sets_table,
    "acceptance": acceptance_table,
    "peers": peers_table,
}


# ------------------------------------------------------------------ telling it


def share(outcomes: Sequence[Outcome], state: State) -> float:
    return sum(outcome.state is state for outcome in outcomes) / len(outcomes)


def loads(outcomes: Sequence[Outcome]) -> float:
    return sum(outcome.processes for outcome in outcomes) / len(outcomes)


def percent(of: float) -> str:
    return f"{100 * of:.1f}".removesuffix(".0") + " %"


def told(rows: Iterator[list[str]]) -> Iterator[list[str]]:
    """``rows``, each shown as soon as it is there."""
    for row in rows:
        print(pages.line(row), file=sys.stderr, flush=True)
        yield row


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--suites", type=int, default=1000, metavar="N", help="of 50 metrics")
    parser.add_argument("--tables", default=",".join(TABLES), metavar="NAME,...")
    parser.add_argument("--print", action="store_true", help="print them; leave the page")
    arguments = parser.parse_args(argv)
    for name in arguments.tables.split(","):
        text = pages.table(told(TABLES[name](arguments.suites)))
        if arguments.print:
            print(text)
        else:
            pages.write(PAGE, name, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
