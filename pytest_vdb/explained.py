"""What a test's verdicts are put down to: its traces and the baseline's, found and compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_vdb.baseline.identity import PERFORMANCE
from pytest_vdb.errors import VdbError
from pytest_vdb.gate.attribution import Attribution, Finding, Side, attribute
from pytest_vdb.records import Baseline, Run
from pytest_vdb.traces import Trace, loads, weighed

if TYPE_CHECKING:
    from pytest_vdb.bench import Bench
    from pytest_vdb.verdicts import TestRun

NONE_STORED = (
    "the baseline keeps no trace; --vdb-update --vdb-update-mode=all on the base branch stores one"
)
FACTS = ("python", "torch", "diffusers", "transformers", "numpy")
"""What a stored session's facts and a trace's versions both name."""


def explain(test: TestRun) -> Attribution | None:
    """What is behind this test's verdicts; None where there is nothing to explain, or no trace.

    It never fails: what cannot be read is said in the text.
    """
    bench = test.vdb._bench
    trace = trace_of(bench, bench._run or bench._borrowed)
    if trace is None:
        return None
    findings = [
        Finding(row.measurement.name, row.measurement.kind, row.verdict.state) for row in test.rows
    ]
    new = _side(trace)
    try:
        base = _stored(test, trace.sample)
    except (VdbError, OSError) as error:
        return attribute(Side(reason=str(error)), new, findings)
    base, new = _beside(bench, base, new)
    return attribute(base, new, findings)


def trace_of(bench: Bench, run: Run | None) -> Trace | None:
    """What left each component, of a run of ``bench`` that was made and has any."""
    trace = run.trace if run is not None else None
    if trace is None:
        return None
    workers = float(bench.session.workers)
    return replace(trace, conditions={**trace.conditions, "workers": workers})


def with_trace(bench: Bench, kept: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """Media of quality by sample key, and the trace among them."""
    traced = trace_media(bench, performance=False)
    return {key: {**roles, **traced.get(key, {})} for key, roles in kept.items()}


def trace_media(bench: Bench, *, performance: bool) -> dict[str, dict[str, str]]:
    """The trace's medium by the key of its sample, written to the run's folder.

    Quality's is the same for equal runs; that of performance also holds what it cost.
    """
    from pytest_vdb.baseline.media import keep_trace

    run = bench._run if performance else bench.videos
    trace = trace_of(bench, run)
    if run is None or trace is None or not trace.points:
        return {}
    content = (trace if performance else trace.numbers).dumps()
    sha256 = keep_trace(content, bench.session.scratch / "blobs")
    frames = next(s.frames_sha256 for s in run.samples if s.key == trace.sample)
    return {trace.sample: {"frames": frames, "trace": sha256}}


def _side(trace: Trace, timed: Trace | None = None) -> Side:
    """``trace`` for its numbers, ``timed`` for what it cost (the same without it)."""
    timed = timed or trace
    return Side(
        trace if trace.points else None,
        timed.seconds,
        timed.memory,
        trace.versions,
        timed.conditions,
        trace.reason,
    )


def _stored(test: TestRun, sample: str) -> Side:
    """What the baselines that this test is held to keep. Raises VdbError or OSError."""
    bench = test.vdb._bench
    found: dict[bool, Trace] = {}
    facts: Mapping[str, str] = {}
    for row in test.rows:
        held = test.vdb.held_to(row.measurement)
        if held.baseline is None:
            continue
        performance = row.measurement.kind in PERFORMANCE
        facts = facts or _facts(held.baseline)
        sha256 = held.baseline.media.get(sample, {}).get("trace")
        if sha256 and performance not in found:
            path = bench.session.store.blob(sha256)
            found[performance] = loads(path.read_bytes(), str(path))
    numbers, timed = found.get(False) or found.get(True), found.get(True)
    if numbers is None:
        return Side(versions=facts, reason=NONE_STORED)
    return _side(numbers, timed or numbers)


def _facts(baseline: Baseline) -> dict[str, str]:
    """Versions that the newest stored session names."""
    newest = max(baseline.sessions, default=None)
    facts = baseline.sessions[newest].facts if newest is not None else {}
    return {name: facts[name] for name in FACTS if facts.get(name)}


def _beside(bench: Bench, base: Side, new: Side) -> tuple[Side, Side]:
    """Both sides with what ran beside this change in their place, as far as anything did."""
    beside = bench.session.beside
    if beside is None:
        return base, new
    other = beside.generated(bench)
    theirs = trace_of(other, other._run) if other is not None else None
    if theirs is not None:
        base = _side(theirs)
    trial = beside.trials.get(beside._key(bench))
    if trial is None or not trial.pairs:
        return base, new
    ours, its = (
        _cost([getattr(pair, side) for pair in trial.pairs]) for side in ("candidate", "base")
    )
    # They took turns on one machine, so whatever it was busy with is no reason.
    base = Side(base.trace, its.seconds, its.memory or base.memory, base.versions, {}, base.reason)
    new = Side(new.trace, ours.seconds, ours.memory or new.memory, new.versions, {}, new.reason)
    return base, new


def _cost(runs: Iterable[Run]) -> Trace:
    """Seconds and peaks by stage over the blocks of one side's processes."""
    return weighed(Trace(""), [sample for run in runs for sample in run.samples], {})
