"""What a page shows beside the results: videos, stages, stored sessions. Workers hand it on.

Nothing is generated, measured or copied for it: these are names of what is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_vdb.errors import VdbError
from pytest_vdb.records import Json, Kind, Measurement
from pytest_vdb.statistic import STATISTICS

if TYPE_CHECKING:
    from pytest_vdb.bench import Bench
    from pytest_vdb.verdicts import TestRun

FACTS = ("frames", "fps", "shape", "wall", "stages", "steps", "memory", "frames_sha256")


def of(run: TestRun) -> dict[str, Json]:
    """The samples behind one test with their reference media, and each measurement's history."""
    try:
        return _found(run)
    except VdbError as error:  # the test has said it already
        return {"why": str(error)}


def _found(run: TestRun) -> dict[str, Json]:
    bench = run.vdb._bench
    made = bench._borrowed or bench._run  # asking for either would generate one
    return {
        "bench": f"{bench.spec.slug}/{bench.workload.hash}",
        "samples": [
            {"key": s.key, "prompt": s.prompt, "seed": s.seed}
            | {name: getattr(s, name) for name in FACTS}
            for s in (made.samples if made else ())
        ],
        "references": _references(run, bench),
        "history": {
            row.measurement.name: _history(run, row.measurement)
            for row in run.rows
            if row.measurement.kind is not Kind.DISTANCE
        },
        "baseline": _stored_facts(run),
    }


def _references(run: TestRun, bench: Bench) -> dict[str, Json]:
    """Whose videos these are compared with: hashes of the media by sample key and role."""
    stored = run.vdb.yardstick("", Kind.DISTANCE).baseline
    if stored is not None and stored.media:
        newest = stored.sessions[max(stored.sessions)] if stored.sessions else None
        commit = f" ({newest.commit})" if newest and newest.commit else ""
        label = f"baseline of {newest.date[:10]}{commit}" if newest else "baseline"
        return {"label": label, "media": stored.media}
    beside = bench.session.beside
    base = beside.generated(bench) if beside is not None else None
    if base is not None:
        return {"label": f"the base, {base.side.label}", "media": base.media}
    return {"label": "", "media": {}}


def _history(run: TestRun, m: Measurement) -> list[dict[str, Json]]:
    """Each stored session's headline, oldest first; of the latest also its values by sample."""
    baseline = run.vdb.held_to(m).baseline
    sessions = run.vdb.stored(m)
    stored = sorted(baseline.measurements[m.name].sessions) if baseline and sessions else []
    told: list[dict[str, Json]] = []
    for key, one in zip(stored, sessions, strict=True):
        numbers = list(one.values.values())
        if baseline is None or not numbers:
            continue
        session = baseline.sessions[key]
        told.append(
            {
                "date": session.date,
                "commit": session.commit,
                "source": session.source,
                "value": STATISTICS[m.headline](numbers),
                "low": min(numbers),
                "high": max(numbers),
            }
        )
    if told:
        told[-1]["values"] = dict(sessions[-1].values)
    return told


def _stored_facts(run: TestRun) -> dict[str, str]:
    """What the newest stored session says of its machine and software."""
    for row in run.rows:
        baseline = run.vdb.held_to(row.measurement).baseline
        if baseline is not None and baseline.sessions:
            return dict(baseline.sessions[max(baseline.sessions)].facts)
    return {}
