"""How the gate answers to a broken pipeline: the table of docs/shapes.md.

    python tools/shapes_study.py [--seeds N] [--print]
    python tools/shapes_study.py --prompts 2 --seeds 1 --only "no text" bf16     a quick look

Writes a small repository whose model is the embedded `shapes`, stores its baseline, and runs pytest
once for each variant of tools/shapes_variants.py. Every number and verdict is read from
`--vdb-json`. A run's JSON is one line of OUT/runs.jsonl, so that a study that was stopped goes on
where it was; another model, other prompts, seeds, variants or another state of the package need
another OUT. The whole study rewrites the block of docs/shapes.md, a quick look prints it. The exit
status is 1 where a verdict is not what it must be: see `surprises`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pages
import shapes_variants

import pytest_vdb
from pytest_vdb import prompts
from pytest_vdb.models.folder import digest
from pytest_vdb.scenes import read

TOOLS = Path(__file__).parent
PAGE = TOOLS.parent / "docs" / "shapes.md"

ATTRIBUTES = ("color", "background", "shape", "direction")
SCORES = (
    *(f"shapes_{name}" for name in (*ATTRIBUTES, "adherence")),
    *("sharpness", "temporal_flickering", "motion_energy", "ssim"),
)
CONFTEST = """
def pytest_vdb_models():
    from pytest_vdb import ModelSpec
    from pytest_vdb.models.catalog import CATALOG

    shapes = next(spec for spec in CATALOG if spec.name == "shapes")
    how = {{"call": shapes.call, "options": shapes.options}}
    return [ModelSpec("shapes-under-test", "factory", "shapes_variants:build", **how)]
"""
TESTS = """
import pytest

pytestmark = pytest.mark.vdb(prompts={prompts!r}, num_seeds={seeds})
# A black video fails test_sanity, and has its scores all the same.
measured = pytest.mark.vdb(allow=["black", "blank", "frozen"])


def test_sanity(vdb):
    assert vdb.samples


@measured
def test_speed(vdb):
    assert vdb.latency.cpu.median > 0


@measured
def test_quality(vdb):
    for name in {scores}:
        vdb.score(name)
"""
HEAD = (
    *("variant", *ATTRIBUTES, "adherence", "its change (95 %)", "SSIM", "CPU time"),
    *("verdicts", "tests that fail"),
)

WORSE = 0.02  # the default tolerance of a score

Run = Mapping[str, Any]  # what --vdb-json writes


def main(argv: Sequence[str] | None = None) -> int:
    arguments = options().parse_args(argv)
    suite = [prompt.text for prompt in prompts.load("shapes", Path())]
    chosen = "shapes" if arguments.prompts is None else spread(suite, arguments.prompts)
    study = Study(arguments.out, chosen, arguments.seeds)
    names = ["unbroken", *(arguments.only or shapes_variants.VARIANTS)]
    for name in ("baseline", *dict.fromkeys(names)):
        if name not in study.runs:
            study.add(name)
        told = line(name, study.runs[name], study.runs["baseline"])
        print(told, file=sys.stderr, flush=True)
    text = block(study.runs, study.key["weights"])
    if arguments.print or arguments.only or arguments.prompts is not None:
        print(text)
    else:
        pages.write(PAGE, "study", text)
    wrong = list(surprises(study.runs))
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    return int(bool(wrong))


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--prompts", type=int, metavar="N", help="N prompts of the suite (all)")
    parser.add_argument("--seeds", type=int, default=4, metavar="N", help="a prompt (4)")
    parser.add_argument(
        "--only", nargs="+", metavar="VARIANT", choices=tuple(shapes_variants.VARIANTS)
    )
    parser.add_argument("--out", type=Path, default=Path("build/shapes-study"), metavar="DIR")
    parser.add_argument("--print", action="store_true", help="print the block; leave the page")
    return parser


def spread(suite: Sequence[str], count: int) -> list[str]:
    """``count`` of the suite's prompts, from all over it."""
    if not 1 <= count <= len(suite):
        raise SystemExit(f"--prompts={count}: the suite has 1 to {len(suite)}")
    return [suite[i * len(suite) // count] for i in range(count)]


class Study:
    """The repository under test, and what its runs wrote; ``runs`` by variant."""

    def __init__(self, out: Path, chosen: str | list[str], seeds: int) -> None:
        self.key = {"prompts": chosen, "seeds": seeds, **digests()}
        self.lines, self.repository = out / "runs.jsonl", out / "repository"
        self.runs: dict[str, Run] = {}
        if self.lines.exists():
            first, *rest = map(json.loads, self.lines.read_text(encoding="utf-8").splitlines())
            if first != self.key:
                raise SystemExit(
                    f"{out} holds a study of another model or state of the package, or of other "
                    "prompts, seeds or variants; remove it, or give another --out"
                )
            self.runs = {entry["variant"]: entry["run"] for entry in rest}
        else:
            shutil.rmtree(self.repository, ignore_errors=True)
            self.repository.mkdir(parents=True)
            self._append(self.key)
        tests = TESTS.format(prompts=chosen, seeds=seeds, scores=SCORES)
        (self.repository / "pytest.ini").write_text("[pytest]\n")
        (self.repository / "conftest.py").write_text(CONFTEST.format())
        (self.repository / "test_shapes.py").write_text(tests)

    def add(self, name: str) -> None:
        """Run pytest on one variant; on the unbroken pipeline, storing it, for ``"baseline"``."""
        update: tuple[str, ...] = ()
        if name == "baseline":
            shutil.rmtree(self.repository / "baselines", ignore_errors=True)
            update = ("--vdb-update", "--vdb-update-mode=all")
        variant = "unbroken" if name == "baseline" else name
        self.runs[name] = run(self.repository, variant, *update)
        if update and failing(self.runs[name]) not in ("", "sanity"):
            raise SystemExit(f"no baseline was stored: {verdicts(self.runs[name])}")
        self._append({"variant": name, "run": self.runs[name]})

    def _append(self, entry: Mapping[str, Any]) -> None:
        with self.lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def digests() -> dict[str, str]:
    """Of the weights, the variants, the package with its suite, and what it stands on."""
    package = Path(pytest_vdb.__file__).parent
    files = (path for end in ("py", "jsonl") for path in sorted(package.rglob(f"*.{end}")))
    code = b"".join(path.read_bytes() for path in (*files, TOOLS / "shapes_variants.py"))
    stack = ", ".join(f"{name} {version(name)}" for name in ("torch", "diffusers", "transformers"))
    weights = digest(shapes_variants.FOLDER)
    return {"weights": weights, "code": sha256(code).hexdigest(), "stack": stack}


def surprises(runs: Mapping[str, Run]) -> Iterator[str]:
    """What no gate that works would say.

    The same code again is IDENTICAL, bf16 is no REGRESSION, and what lowers adherence by more than
    its tolerance is one.
    """
    if "unbroken" in runs and states(runs["unbroken"], SCORES) != {"IDENTICAL"}:
        yield "the unbroken pipeline is not IDENTICAL to its own baseline"
    if "bf16" in runs and (failing(runs["bf16"]) or "REGRESSION" in states(runs["bf16"], SCORES)):
        yield "bf16 is no regression, and the gate takes it for one"
    for name in {*runs} - {"baseline"}:
        fall = -(measurement(runs[name], "shapes_adherence")["verdict"]["effect"] or 0.0)
        if fall > WORSE and "REGRESSION" not in states(runs[name], SCORES):
            yield f"{name}: adherence falls by {fall:.1%}, and the gate convicts nothing"


def run(repository: Path, variant: str, *flags: str) -> Run:
    """What a pytest process of its own writes about a variant. Stops where it did not measure."""
    drop = ("CI", "PYTEST_ADDOPTS")
    environment = {name: value for name, value in os.environ.items() if name not in drop}
    environment |= {"VARIANT": variant, "PYTHONPATH": str(TOOLS), "OMP_NUM_THREADS": "1"}
    command = ["-m", "pytest", "-q", "--vdb-model=shapes-under-test", "--vdb-json=run.json"]
    done = subprocess.run(
        [sys.executable, *command, "--vdb-device=cpu", *flags],
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode not in (0, 1):
        raise SystemExit(f"{variant}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return dict(json.loads((repository / "run.json").read_text(encoding="utf-8")))


# --------------------------------------------------------------------- from runs to the block


def block(runs: Mapping[str, Run], weights: str) -> str:
    """The Markdown between the marks: the baseline in words, then a row for each variant."""
    base = runs["baseline"]
    rows = [line(name, runs[name], base) for name in shapes_variants.VARIANTS if name in runs]
    head = [pages.line(HEAD), pages.line(["---"] * len(HEAD))]
    return "\n".join([about(base, weights), "", *head, *rows, ""])


def about(base: Run, weights: str) -> str:
    """The baseline: how many, how sure, what guessing scores, how long, on what."""
    workload = base["tests"][0]["workload"]
    texts, seeds = [prompt["text"] for prompt in workload["prompts"]], len(workload["seeds"])
    adherence = measurement(base, "shapes_adherence")
    error = shown(standard_error(adherence["samples"]))
    guesses = constant_answers(texts)
    guessing = ", ".join(f"{name} {guesses[name]:.2f}" for name in ATTRIBUTES)
    environment = base["environment"]["performance"]
    machine = ", ".join(str(environment[key]) for key in ("torch", "diffusers", "cpu"))
    insane = "; **videos fail the sanity checks**" if "sanity" in failing(base) else ""
    return (
        f"Baseline: {len(texts)} prompts × {seeds} seeds, {len(texts) * seeds} videos; adherence "
        f"{mean(base, 'shapes_adherence')}, standard error {error} over prompt means{insane}. "
        f"{shown(cpu_seconds(base), 2)} CPU seconds a video ({machine}). Always answering the most "
        f"frequent value would score {guessing}, {statistics.mean(guesses.values()):.2f} in the "
        f"mean. Weights `{weights[:12]}`."
    )


def line(name: str, run: Run, base: Run) -> str:
    """One row of the table."""
    scores = [mean(run, f"shapes_{attribute}") for attribute in (*ATTRIBUTES, "adherence")]
    time = f"× {shown(cpu_seconds(run) / cpu_seconds(base), 2)}"
    judged = [verdicts(run), failing(run) or "none"]
    return pages.line([name, *scores, change(run), mean(run, "ssim"), time, *judged])


def measurement(run: Run, name: str) -> Mapping[str, Any]:
    """What the run says of ``name``; an UNMEASURED one without samples where it is absent."""
    found = (m for test in run["tests"] for m in test["measurements"] if m["name"] == name)
    return next(found, {"samples": [], "verdict": {"state": "UNMEASURED", "effect": None}})


def mean(run: Run, name: str) -> str:
    samples = measurement(run, name)["samples"]
    return shown(statistics.mean(s["value"] for s in samples) if samples else math.nan)


def shown(value: float, digits: int = 3) -> str:
    """A number, or a dash for what was not measured."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def change(run: Run) -> str:
    """The paired change of adherence and its interval, in points, as its verdict gives them."""
    verdict = measurement(run, "shapes_adherence")["verdict"]
    if verdict["effect"] is None:
        return "–"
    unit = verdict["baseline"] if verdict["relative"] else 1.0
    ends = verdict["interval"]
    between = f" ({ends[0] * unit:+.3f} to {ends[1] * unit:+.3f})" if ends else ""
    return f"{verdict['effect'] * unit:+.3f}{between}"


def cpu_seconds(run: Run) -> float:
    """Median over videos; NaN where nothing was measured."""
    samples = measurement(run, "latency.cpu")["samples"]
    return statistics.median(s["value"] for s in samples) if samples else math.nan


def verdicts(run: Run) -> str:
    """The measurements by verdict, but for those that pass; one word where all of them do."""
    found: dict[str, list[str]] = {}
    for name in (*SCORES, "latency.cpu"):
        found.setdefault(measurement(run, name)["verdict"]["state"], []).append(short(name))
    told = {k: v for k, v in found.items() if k not in ("PASS", "IDENTICAL")}
    if told:
        worst_first = sorted(told.items(), reverse=True)  # as the alphabet has it
        return "; ".join(f"{state}: {', '.join(names)}" for state, names in worst_first)
    return "IDENTICAL" if states(run, SCORES) == {"IDENTICAL"} else "PASS"


def states(run: Run, names: Sequence[str]) -> set[str]:
    return {measurement(run, name)["verdict"]["state"] for name in names}


def short(name: str) -> str:
    return "CPU time" if name == "latency.cpu" else name.removeprefix("shapes_")


def failing(run: Run) -> str:
    """The tests that did not pass, without their common prefix."""
    lost = (test["nodeid"] for test in run["tests"] if test["outcome"] != "passed")
    return ", ".join(node.rpartition("::test_")[2].partition("[")[0] for node in lost)


def standard_error(samples: Sequence[Mapping[str, Any]]) -> float:
    """Of the mean, over prompt means: the seeds of a prompt are no replicates. NaN for one."""
    by_prompt: dict[str, list[float]] = {}
    for sample in samples:
        by_prompt.setdefault(sample["prompt"], []).append(sample["value"])
    means = [statistics.mean(values) for values in by_prompt.values()]
    return statistics.stdev(means) / len(means) ** 0.5 if len(means) > 1 else math.nan


def constant_answers(texts: Sequence[str]) -> dict[str, float]:
    """By attribute: the share of the prompts that ask for its most frequent value."""
    asked = [vars(read(text)) for text in texts]
    counts = {name: Counter(scene[name] for scene in asked) for name in ATTRIBUTES}
    return {name: max(count.values()) / len(texts) for name, count in counts.items()}


if __name__ == "__main__":
    sys.exit(main())
