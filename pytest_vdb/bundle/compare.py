"""A run and its re-run: what came out the same, what the gate lets stand, and what did not.

Where machine and software are the same, videos and scores must be equal, bit for bit. Elsewhere
scores are held to the gate's own rules. Costs are held to them where the machine is the same, and
shown beside each other where it is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pytest_vdb.baseline.identity import PERFORMANCE, difference
from pytest_vdb.baseline.run import RunRow
from pytest_vdb.gate import StoredSession, judge
from pytest_vdb.gate.policy import Tolerance, tolerance_for
from pytest_vdb.records import (
    REPORTED,
    Json,
    Kind,
    Measurement,
    State,
    Verdict,
    Workload,
    definition,
)
from pytest_vdb.statistic import summarize
from pytest_vdb.units import show

GUARD_M = 200
"""Comparisons that the rules correct for: the default of ``vdb_guard_m``."""
FACTS = (
    *("device", "cpu", "gpus", "architecture", "torch", "diffusers", "transformers", "numpy"),
    *("torchmetrics", "pytest-vdb"),
)
"""Facts of an environment that move bits. Where one differs, nobody promises equal ones."""
CODEC = "pillow"
"""What writes previews and lossless videos: of another version, equal frames are other files."""


class Outcome(StrEnum):
    """What became of one thing that the bundle says. ``DIFFERS`` alone is red."""

    SAME = "the same"
    HOLDS = "holds"
    OPEN = "open"
    SKIPPED = "not compared"
    DIFFERS = "DIFFERS"


@dataclass(frozen=True)
class Finding:
    """``what`` of test ``nodeid`` and what became of it; ``why`` in words."""

    nodeid: str
    what: str
    outcome: Outcome
    why: str


@dataclass(frozen=True)
class Side:
    """One of the two runs: its JSON (docs/json.md) and its measurements."""

    run: Mapping[str, Json]
    rows: Sequence[RunRow]

    def test(self, nodeid: str) -> Mapping[str, Json] | None:
        return next((test for test in self.run["tests"] if test["nodeid"] == nodeid), None)

    def measurements(self, nodeid: str) -> dict[str, Measurement]:
        of = (row.measurement for row in self.rows if row.nodeid == nodeid)
        return {measurement.name: measurement for measurement in of}

    @property
    def facts(self) -> Mapping[str, str]:
        facts: Mapping[str, str] = self.run["environment"]["facts"]
        return facts

    def package(self, name: str) -> str:
        """``name==version`` of an installed package, or an empty string."""
        lines: list[str] = self.run["kept"]["packages"]
        return next((line for line in lines if line.lower().startswith(f"{name}==")), "")


def differing(old: Side, new: Side) -> list[str]:
    """Facts that differ between two environments and may move bits: ``torch 2.12 → 2.13``."""
    return [
        f"{name} {old.facts.get(name) or 'none'} → {new.facts.get(name) or 'none'}"
        for name in FACTS
        if old.facts.get(name) != new.facts.get(name)
    ]


def compare(old: Side, new: Side, *, by_rule: bool = False) -> Iterator[Finding]:
    """Findings of every test of ``old``, in its order; ``by_rule``: never bit for bit."""
    elsewhere = by_rule or bool(differing(old, new))
    for test in old.run["tests"]:
        nodeid = test["nodeid"]
        if not test["workload"]:
            why = "it broke before it got to its workload, in the bundle already"
            yield Finding(nodeid, "the test", Outcome.SKIPPED, why)
            continue
        other = new.test(nodeid)
        if other is None or not other["workload"]:
            failure = ((other or {}).get("failure") or {}).get("text", "")
            why = f"it did not get to its workload here: {failure or 'it was not run'}"
            yield Finding(nodeid, "the test", Outcome.DIFFERS, why)
            continue
        if test["workload"]["hash"] != other["workload"]["hash"]:
            yield Finding(nodeid, "workload", Outcome.DIFFERS, _changed(test, other))
            continue
        yield from _of_test(old, new, test, other, elsewhere)


def _changed(test: Mapping[str, Json], other: Mapping[str, Json]) -> str:
    ours, theirs = (Workload.from_json(one["workload"]) for one in (other, test))
    return f"another one here: {difference(ours, [theirs]) or 'prompts, by id or image'}"


def _of_test(
    old: Side, new: Side, test: Mapping[str, Json], other: Mapping[str, Json], elsewhere: bool
) -> Iterator[Finding]:
    nodeid = test["nodeid"]
    quality, performance = (
        test["environments"][name] == other["environments"][name]
        for name in ("quality", "performance")
    )
    exact = quality and not elsewhere
    if not quality:
        was, now = (one["environments"]["quality"] for one in (test, other))
        why = f"{was} → {now}, so the gate's rules decide"
        yield Finding(nodeid, "environment", Outcome.SKIPPED, why)
    yield _weights(test, other)
    codec = old.package(CODEC) == new.package(CODEC)
    yield _videos(test, other, exact=exact, codec=codec)
    here = new.measurements(nodeid)
    for name, measurement in old.measurements(nodeid).items():
        if not measurement.values:
            continue
        found = here.get(name)
        if found is None or not found.values:
            if measurement.kind is Kind.DISTANCE and not exact:
                why = "a baseline of another environment has no video to compare with here"
                yield Finding(nodeid, name, Outcome.SKIPPED, why)
                continue
            why = _lacking(other, name)
            yield Finding(nodeid, name, Outcome.DIFFERS, f"it was not measured here: {why}")
        elif (was := _meaning(measurement)) != (now := _meaning(found)):
            why = f"another measurement here: {was} → {now}"
            yield Finding(nodeid, name, Outcome.DIFFERS, why)
        elif measurement.kind in PERFORMANCE:
            same = performance and old.facts.get("cpu") == new.facts.get("cpu")
            yield Finding(nodeid, name, *_cost(measurement, found, same=same))
        else:
            yield Finding(nodeid, name, *_score(measurement, found, exact=exact))


def _meaning(measurement: Measurement) -> str:
    """What its values are: of another kind, they would be held to another rule, or to none."""
    m = measurement
    return f"{m.kind.value} in {m.unit}, {m.direction} is better, told by its {m.headline}"


def _lacking(test: Mapping[str, Json], name: str) -> str:
    for entry in test["measurements"]:
        if entry["name"] == name:
            return str(entry["verdict"]["reason"])
    return (test.get("failure") or {}).get("text", "") or "the test did not ask for it"


def _weights(test: Mapping[str, Json], other: Mapping[str, Json]) -> Finding:
    old, new = test["kept"]["weights"], other["kept"].get("weights", {"known": [], "why": "lost"})
    if old["known"] == new["known"]:
        said = (Outcome.SAME, "") if old["known"] else (Outcome.SKIPPED, old["why"] or "none known")
        return Finding(test["nodeid"], "weights", *said)
    was, now = (", ".join(one["known"]) or f"unknown ({one['why']})" for one in (old, new))
    return Finding(test["nodeid"], "weights", Outcome.DIFFERS, f"{was} → {now}")


def _videos(
    test: Mapping[str, Json], other: Mapping[str, Json], *, exact: bool, codec: bool
) -> Finding:
    """Frames and latents by their hashes."""
    old, new = test["kept"]["media"], other["kept"].get("media", {})
    roles = {"frames", "latent"} | ({"video", "preview"} if codec else set())
    differ = [key for key, media in old.items() if _of(media, roles) != _of(new.get(key), roles)]
    nodeid, n = test["nodeid"], len(old)
    if not n:
        return Finding(nodeid, "videos", Outcome.SKIPPED, "the bundle has none of this test")
    if not differ and old.keys() == new.keys():
        return Finding(nodeid, "videos", Outcome.SAME, f"{n} of {n}, bit for bit")
    why = f"{len(differ)} of {n} are other videos, such as {(differ or sorted(new))[0]}"
    if exact or old.keys() != new.keys():
        return Finding(nodeid, "videos", Outcome.DIFFERS, why)
    return Finding(nodeid, "videos", Outcome.SKIPPED, f"{why}; their scores decide")


def _of(media: Mapping[str, str] | None, roles: set[str]) -> dict[str, str] | None:
    return None if media is None else {k: v for k, v in media.items() if k in roles}


def _score(old: Measurement, new: Measurement, *, exact: bool) -> tuple[Outcome, str]:
    n = len(old.values)
    if definition(old.provenance) != definition(new.provenance):
        was, now = (
            " ".join(filter(None, (one.provenance.version, one.provenance.weights)))
            for one in (old, new)
        )
        return Outcome.DIFFERS, f"another definition here: {was} → {now}"
    if old.by_key == new.by_key:
        return Outcome.SAME, f"{n} value{'s' * (n > 1)}, bit for bit; {_headline(new)}"
    changed = f"{_headline(old)} → {_headline(new)}"
    if exact or old.by_key.keys() != new.by_key.keys():
        differ = sum(old.by_key.get(key) != value for key, value in new.by_key.items())
        return Outcome.DIFFERS, f"{differ} of {n} values are others here: {changed}"
    if old.kind is Kind.DISTANCE:
        return Outcome.SKIPPED, f"a distance shows and convicts nobody: {changed}"
    return _judged(old, new, changed)


def _cost(old: Measurement, new: Measurement, *, same: bool) -> tuple[Outcome, str]:
    changed = f"{_headline(old)} → {_headline(new)}"
    if not same:
        return Outcome.SKIPPED, f"this is another machine: {changed}"
    return _judged(old, new, changed)


def _judged(old: Measurement, new: Measurement, changed: str) -> tuple[Outcome, str]:
    """The gate's verdict on ``new`` with ``old`` for its baseline.

    A better score is another score. A cost that is lower here is no false claim, unless it is of
    another size.
    """
    tolerance = _tolerance(new)
    verdict = judge(new, [StoredSession(old.by_key)], tolerance=tolerance, guard_m=GUARD_M)
    lower = verdict.state is State.IMPROVEMENT and old.kind in PERFORMANCE
    if verdict.state is State.NOT_APPLICABLE:
        return Outcome.SKIPPED, f"{changed}; {_uncompared(tolerance, new)}"
    if old.kind in PERFORMANCE and _far(verdict, tolerance):
        return Outcome.DIFFERS, f"{changed}: more than twice the tolerance of {tolerance}"
    if verdict.state in (State.PASS, State.IDENTICAL) or lower:
        return Outcome.HOLDS, f"{changed}, {'better' if lower else f'within {tolerance}'}"
    if verdict.state is State.INCONCLUSIVE:
        return Outcome.OPEN, f"{changed}: {verdict.reason}"
    return Outcome.DIFFERS, f"{changed}: {verdict.reason}"


def _far(verdict: Verdict, tolerance: Tolerance) -> bool:
    """Whether the whole interval lies beyond twice the tolerance, on either side.

    One stored session cannot convict by the gate's rule, but a number of another size is none of
    this machine's.
    """
    if verdict.interval is None or not (verdict.relative and tolerance.relative):
        return False
    low, high = sorted(verdict.interval)
    return low > 2 * tolerance.value or high < 1 / (1 + 2 * tolerance.value) - 1


def _uncompared(tolerance: Tolerance, measurement: Measurement) -> str:
    device = measurement.provenance.device
    return f"no rule on {device}" if tolerance.off else "one number of a set has no spread"


def _tolerance(measurement: Measurement) -> Tolerance:
    """The default one: what a bundle says of its own tolerance counts for nothing."""
    told = measurement.provenance.version == REPORTED and measurement.kind is Kind.MEMORY
    device = REPORTED if told else measurement.provenance.device.partition(",")[0]
    return tolerance_for(measurement.name, measurement.kind, device, {})


def _headline(measurement: Measurement) -> str:
    value = summarize(measurement).get(measurement.headline)
    return "nothing" if value is None else show(value, measurement.unit)
