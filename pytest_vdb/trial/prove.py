"""``--vdb-prove``: faults put into a test's own videos and measurements, and who notices them.

Nothing is generated and no test's body runs again: its comparisons (`comparison.Trace`) and the
gate's rules are evaluated on what the faults leave of the measurements. Light until called.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vdb.errors import Insane, VdbError
from pytest_vdb.records import Json, Kind, Measurement, Sample, State
from pytest_vdb.trial.asserted import Asserted, asserted, shown
from pytest_vdb.trial.regenerate import fresh, regenerated

if TYPE_CHECKING:
    import numpy as np

    from pytest_vdb.bench import Bench
    from pytest_vdb.verdicts import TestRun

VIDEO_FAULTS = {
    "black": "every frame black",
    "frozen": "the first frame for the whole length",
    "noise": "white noise of 12 grey levels",
    "shuffled": "the frames in another order",
    "blur": "a blur of 1.5 px",
}
"""Of `metrics.faults`, those that every test of videos is tried with."""

OF_FRAMES = ("frames", "prompt", "reference", "set", "own_set")
QUALITY = (Kind.SCORE, Kind.DISTANCE)
SANITY = "sanity checks"


@dataclass(frozen=True)
class Mutant:
    """What a fault leaves: every touched measurement, and the sanity check's complaint if any."""

    name: str
    detail: str
    measurements: Mapping[str, Measurement]
    insane: bool = False


def prove(run: TestRun) -> dict[str, Json]:
    """A passed test's entry ``prove`` in ``--vdb-json`` (docs/json.md).

    Raises what metrics raise that cannot be computed on the intact videos either.
    """
    if run.failing or run.vdb.error is not None:
        return {"skipped": "the test did not pass: nothing is proven of it"}
    trace = run.vdb.trace
    assert trace is not None
    root = run.vdb._bench.session.config.rootpath
    rows, loose = asserted(trace)
    untried: dict[str, str] = {}
    mutants = list(_mutants(run, untried))
    assertions = [_assertion(row, mutants, root) for row in rows]
    rules = _rules(run, mutants)
    killed = {name for row in (*assertions, *rules) for name in row["kills"]}
    return {
        "faults": [
            {
                "name": mutant.name,
                "detail": mutant.detail,
                "noticed": mutant.name in killed,
                "seen_by": [] if mutant.name in killed else _seen_by(run, mutant.name),
            }
            for mutant in mutants
        ],
        "not_tried": untried,
        "assertions": assertions,
        "rules": rules,
        "untraced": [
            {"file": shown(place.file, root), "line": place.line, "text": text, "why": why}
            for place, text, why in loose
        ],
    }


# ------------------------------------------------------------------ who notices


def _assertion(row: Asserted, mutants: list[Mutant], root: Path) -> dict[str, Json]:
    missing = next((m for m in row.comparison.measurements if m.missing), None)
    before = row.comparison.value({})
    values = {mutant.name: row.comparison.value(mutant.measurements) for mutant in mutants}
    return {
        "file": shown(row.comparison.place.file, root),
        "line": row.line,
        "text": row.text,
        "comparison": str(row.comparison),
        "kills": [
            mutant.name
            for mutant in mutants
            if row.comparison.holds(mutant.measurements) is not row.comparison.held
        ],
        "unit": row.comparison.left.measurement.unit,
        "value": before,
        "values": {name: value for name, value in values.items() if value != before},
        "note": f"{missing.missing}: {missing.reason}" if missing else "",
    }


def _rules(run: TestRun, mutants: list[Mutant]) -> list[dict[str, Json]]:
    """The plugin's own: sanity checks of videos, and the gate's verdict of each measurement."""
    rules: list[dict[str, Json]] = []
    if any(measurement.kind in QUALITY for measurement in run.vdb.touched.values()):
        kills = [mutant.name for mutant in mutants if mutant.insane]
        rules.append({"name": SANITY, "kills": kills, "note": ""})
    for row in run.rows:
        name, verdict = row.measurement.name, row.verdict
        if row.measurement.missing:
            continue
        kills = [m.name for m in mutants if _convicts(run, row.measurement, m.measurements[name])]
        note = ""
        if row.measurement.kind is Kind.DISTANCE:
            note = "a distance convicts nobody: only an assertion does"
        elif verdict.state in (State.NO_BASELINE, State.NOT_APPLICABLE):
            note = f"{verdict.state}: {verdict.reason}"
        elif not run.vdb.stored(row.measurement):
            note = "judged beside the base alone, which is not tried"
        rules.append({"name": name, "kills": kills, "note": note})
    return rules


def _convicts(run: TestRun, intact: Measurement, changed: Measurement) -> bool:
    """Whether the gate fails the test for ``changed``, which it passed for ``intact``."""
    from pytest_vdb.gate import judge

    if changed == intact:
        return False
    verdict = judge(
        changed,
        run.vdb.stored(changed),
        tolerance=run.tolerance(changed),
        guard_m=run.settings.guard_m,
        calibration=run.calibration(changed),
    )
    if verdict.state is State.NO_BASELINE:
        return False  # that says nothing of the fault
    return run.settings.consequences.of(verdict, changed.kind) in ("fail", "error")


def _seen_by(run: TestRun, fault: str) -> list[str]:
    """Metrics without networks that claim to see ``fault``: what to assert or gate instead."""
    name = fault.replace(" ", "_")
    metrics = run.vdb._bench.session.metrics
    own = (s for s in metrics if not s.networks and s.needs in OF_FRAMES)
    return [
        spec.name
        for spec in own
        if name in spec.sees
        and spec.name not in run.vdb.touched
        and not spec.name.startswith("shapes_")  # they read the one model's scenes
    ]


# ------------------------------------------------------------------ what is wrong


def _mutants(run: TestRun, untried: dict[str, str]) -> Iterator[Mutant]:
    """``untried`` gets the names of faults that could not be made, and why."""
    yield from _of_videos(run)
    if run.settings.prove_generate:
        yield from _of_models(run, untried)
    for kind in (Kind.LATENCY, Kind.MEMORY, Kind.ENERGY):
        yield from _of_figures(run, kind)


def _of_figures(run: TestRun, kind: Kind) -> Iterator[Mutant]:
    """Every figure of one kind worse by twice the tightest tolerance, and by a factor of 2."""
    touched = run.vdb.touched
    mine = {n: m for n, m in touched.items() if m.kind is kind and not m.missing}
    if not mine:
        return
    gated = [share for m in mine.values() if (share := _share(run, m)) is not None]
    if gated:
        by = 2 * min(gated)
        worse = {**touched, **{name: _worse(m, 1 + by) for name, m in mine.items()}}
        yield Mutant(f"{kind.value} past tolerance", f"+{100 * by:.3g}%", worse)
    worse = {**touched, **{name: _worse(m, 2) for name, m in mine.items()}}
    yield Mutant(f"{kind.value} doubled", "x2", worse)


def _share(run: TestRun, m: Measurement) -> float | None:
    """The tolerance of a figure as a share of it; None where nothing is compared."""
    from pytest_vdb.gate import rules

    tolerance = run.tolerance(m)
    level = max(m.numbers)
    if tolerance.off or not level:
        return None
    share = tolerance.value if tolerance.relative else tolerance.value / level
    if m.kind is Kind.MEMORY:  # some bytes are always free
        share = max(share, rules.slack_of(m) / level)
    return share


def _worse(m: Measurement, factor: float) -> Measurement:
    by = factor if m.direction == "lower" else 1 / factor
    return replace(m, values=tuple(replace(v, value=v.value * by) for v in m.values))


def _of_videos(run: TestRun) -> Iterator[Mutant]:
    """The faults of `VIDEO_FAULTS`, and each video in the place of another."""
    bench, metrics, scores = run.vdb._bench, run.vdb._bench.session.metrics, _scores(run)
    if not scores:
        return
    intact = bench.videos
    if any(metrics.find(name).needs in OF_FRAMES for name in scores):
        from pytest_vdb.metrics import faults

        for name, detail in VIDEO_FAULTS.items():
            folder = Path(tempfile.mkdtemp(prefix=f"prove-{name}-", dir=bench.session.scratch))
            try:
                samples = [_spoiled(bench, s, faults.FAULTS[name], folder) for s in intact.samples]
                yield from _scored(run, name, detail, _with(bench, samples))
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    seeds = len(run.vdb.workload.seeds) > 1
    other = "seed of its prompt" if seeds else "prompt"
    samples = [_another(sample, intact.samples, same_prompt=seeds) for sample in intact.samples]
    name = "wrong seed" if seeds else "wrong prompt"
    yield from _scored(run, name, f"the video of another {other}", _with(bench, samples))


def _of_models(run: TestRun, untried: dict[str, str]) -> Iterator[Mutant]:
    """What the model generates when it is made worse."""
    if not _scores(run):
        return
    for name, detail, other in regenerated(run.vdb._bench):
        if isinstance(other, str):
            untried[name] = other
        else:
            yield from _scored(run, name, detail, other)


def _scores(run: TestRun) -> list[str]:
    return [m.name for m in run.vdb.touched.values() if m.kind in QUALITY and not m.missing]


def _spoiled(
    bench: Bench, sample: Sample, fault: Callable[[np.ndarray], np.ndarray], folder: Path
) -> Sample:
    import numpy as np

    from pytest_vdb.measure.samples import frames_sha256

    frames = fault(bench.frames(sample))
    path = folder / f"{len(os.listdir(folder))}.npy"
    try:
        np.save(path, frames)
    except OSError as error:
        raise VdbError(f"--vdb-prove: {path} was not written: {error.strerror}") from None
    return replace(sample, frames=str(path), frames_sha256=frames_sha256(frames))


def _another(sample: Sample, samples: tuple[Sample, ...], *, same_prompt: bool) -> Sample:
    """The next of ``samples`` after ``sample``, of the same size, under the name of ``sample``."""
    here = samples.index(sample)
    for other in (*samples[here + 1 :], *samples[:here]):
        if other.shape == sample.shape and (other.prompt == sample.prompt) is same_prompt:
            return replace(other, prompt=sample.prompt, seed=sample.seed)
    return sample


def _scored(run: TestRun, name: str, detail: str, other: Bench) -> Iterator[Mutant]:
    """The touched scores of ``other``'s videos; nothing where these are the run's own."""
    vdb = run.vdb
    pairs = zip(other.run.samples, vdb._bench.videos.samples, strict=True)
    if all(ours.frames_sha256 == intact.frames_sha256 for ours, intact in pairs):
        return
    any_fault = {fault for fault, _ in other._faults}
    found = {s: other.score(s, vdb.references(s), any_fault) for s in _scores(run)}
    try:
        other.sane(vdb._allow)
        insane = False
    except Insane:
        insane = True
    yield Mutant(name, detail, {**vdb.touched, **found}, insane)


def _with(bench: Bench, samples: list[Sample]) -> Bench:
    """``bench`` with other videos."""
    other = fresh(bench)
    other._run = replace(bench.videos, samples=tuple(samples))
    with bench.session.charged("metrics"):
        other._faults = other._find_faults(other._run)
    return other


# ------------------------------------------------------------------ the suite


def by_model(tests: Iterable[Mapping[str, Json]]) -> dict[str, Json]:
    """Of each model, how many of the faults that its tests were tried with one of them noticed.

    ``tests`` are entries of ``--vdb-json``. ``score`` is None where no fault could be tried.
    """
    proofs: dict[str, list[Json]] = {}
    for test in tests:
        if test.get("prove") is not None:
            proofs.setdefault(test["model"]["name"], []).append(test["prove"])
    return {model: _together(found) for model, found in proofs.items()}


def _together(proofs: list[Json]) -> dict[str, Json]:
    """One model's: a fault is noticed, and an assert can fail, where it is so in any test."""
    faults: dict[str, dict[str, Json]] = {}
    fails: dict[str, bool] = {}
    for proof in proofs:
        for fault in proof.get("faults", ()):
            if fault["noticed"] or fault["name"] not in faults:
                faults[fault["name"]] = fault
        for row in proof.get("assertions", ()):
            if not row["note"]:
                where = f"{row['file']}:{row['line']} {row['comparison']}"
                fails[where] = fails.get(where, False) or bool(row["kills"])
    noticed = sum(fault["noticed"] for fault in faults.values())
    return {
        "faults": len(faults),
        "noticed": noticed,
        "score": noticed / len(faults) if faults else None,
        "survivors": [fault for fault in faults.values() if not fault["noticed"]],
        "never_fail": [where for where, can in fails.items() if not can],
    }


def shortfalls(models: Mapping[str, Json], least: float) -> list[str]:
    """What ``--vdb-prove-min`` says of models whose tests notice too little."""
    wrong = []
    for model, proof in models.items():
        if proof["score"] is None:
            wrong.append(f"--vdb-prove-min={least:g}: no fault could be tried on {model}")
        elif proof["score"] < least:
            wrong.append(
                f"--vdb-prove-min={least:g}: the tests of {model} notice {proof['noticed']} of "
                f"{proof['faults']} faults ({proof['score']:.2f}); nothing notices: "
                + ", ".join(fault["name"] for fault in proof["survivors"])
            )
    return wrong or ([] if models else [f"--vdb-prove-min={least:g}: no test was proven"])
