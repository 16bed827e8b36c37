"""The gate on real runs: the tables of docs/trials.md.

    python tools/gate_trials.py aa --runs 40 [--jobs 2] [--out DIR]
    python tools/gate_trials.py slow --runs 20
    python tools/gate_trials.py quality --runs 20
    python tools/gate_trials.py load
    python tools/gate_trials.py told            rewrite the page from what OUT holds

Each run is pytest on a git repository whose model is the embedded `shapes`: its base is the commit,
the change is in the working tree. Every number and verdict is read from `--vdb-json`; one run is
one line of OUT/<study>.jsonl, so a study that was stopped goes on where it was. One thread a
model; `--jobs` runs as many at a time, each on a core of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pages

TOOLS = Path(__file__).parent
PAGE = TOOLS.parent / "docs" / "trials.md"

MODEL = """
import time
import torch
from shapes_variants import VARIANTS, loaded

VARIANT = {variant!r}
SLOWER = {slower}  # seconds of extra work for each second in the transformer
LOAD = {load}


def build():
    time.sleep(LOAD)
    pipeline = loaded(torch.float32)
    VARIANTS[VARIANT](pipeline)
    if SLOWER:
        pipeline.transformer.register_forward_pre_hook(begin)
        pipeline.transformer.register_forward_hook(work)
    return pipeline


began = 0.0
matrix = torch.ones(96, 96)


def begin(module, arguments):
    global began
    began = time.perf_counter()


def work(module, arguments, output):
    done = time.perf_counter()
    until = done + SLOWER * (done - began)
    while time.perf_counter() < until:
        torch.mm(matrix, matrix)
"""
CONFTEST = """
def pytest_vdb_models():
    from pytest_vdb import ModelSpec
    from pytest_vdb.models.catalog import SHAPES

    how = {"call": SHAPES.call, "options": SHAPES.options}
    return [ModelSpec("shapes-under-test", "factory", "model:build", **how)]
"""
COST = """
import pytest

pytestmark = pytest.mark.vdb(prompts={prompts!r}, seeds=[0])


def test_cost(vdb):
    assert vdb.latency.median > 0
    assert vdb.latency.cpu.median > 0
    assert vdb.latency.stage("denoise").median > 0
    assert vdb.latency.stage("decode").median > 0
    assert vdb.memory.cpu_peak > 0


def test_quality(vdb):
    for name in {scores}:
        vdb.score(name)
"""
QUALITY = """
import pytest

# A black video fails the sanity checks; here the scores are to tell.
pytestmark = pytest.mark.vdb(
    prompts="shapes", seeds=[{seed}], num_inference_steps=6, allow=["black", "blank", "frozen"]
)


def test_quality(vdb):
    for name in {scores}:
        vdb.score(name)
"""
PROMPTS = [
    "a red circle moves left on a blue background",
    "a green square moves up on a white background",
]
SCORES = (
    *("shapes_adherence", "shapes_color", "shapes_background", "shapes_shape", "shapes_direction"),
    *("sharpness", "temporal_flickering", "motion_energy", "ssim"),
)
RED = ("weight noise 20 %", "a third of the steps", "guidance 1", "512 tokens")
GREEN = ("weight noise 1 %", "bf16", "attention in another order")
ALWAYS = ("weight noise 20 %", "a third of the steps", "weight noise 1 %")
"""Tried in every run; the others in the first five."""
TOLD = {"REGRESSION": "red", "PASS": "green", "IDENTICAL": "green", "IMPROVEMENT": "green"}

Line = Mapping[str, Any]


# ------------------------------------------------------------------ one run


class Repo:
    """A repository with the model under test, its base committed."""

    def __init__(self, root: Path, tests: str) -> None:
        self.root = root
        shutil.rmtree(root, ignore_errors=True)
        (root / "benchmarks").mkdir(parents=True)
        shutil.copy(TOOLS / "shapes_variants.py", root)
        (root / "conftest.py").write_text(CONFTEST)
        (root / "pytest.ini").write_text("[pytest]\n")
        (root / "benchmarks" / "test_it.py").write_text(tests)
        self.model()
        self.git("init", "--quiet")
        self.git("add", "-A")
        self.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "base")

    def git(self, *arguments: str) -> None:
        subprocess.run(["git", "-C", str(self.root), *arguments], check=True)

    def model(self, variant: str = "unbroken", slower: float = 0.0, load: float = 0.0) -> None:
        text = MODEL.format(variant=variant, slower=slower, load=load)
        (self.root / "model.py").write_text(text)

    def run(self, *flags: str) -> dict[str, Any]:
        """What `--vdb-json` says of a run."""
        file = self.root / "run.json"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "benchmarks"]
        command += ["--vdb-model=shapes-under-test", f"--vdb-json={file}", *flags]
        env = {k: v for k, v in os.environ.items() if k != "CI"} | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=self.root, env=env, capture_output=True, text=True)
        if not file.is_file():
            raise SystemExit(f"{' '.join(command)}\n{done.stdout[-3000:]}{done.stderr[-2000:]}")
        found: dict[str, Any] = json.loads(file.read_text())
        file.unlink()
        return found


def verdicts(run: Line) -> dict[str, Any]:
    return {m["name"]: m["verdict"] for test in run["tests"] for m in test["measurements"]}


def trial(run: Line) -> Any:
    return next((test["beside"] for test in run["tests"] if test.get("beside")), None)


def kept(run: Line) -> dict[str, Any]:
    """What of a run the page needs."""
    small = {
        name: {key: verdict[key] for key in ("state", "effect", "reason")}
        for name, verdict in verdicts(run).items()
    }
    return {"verdicts": small, "trial": trial(run), "exit": run["exit"]}


# ------------------------------------------------------------------ the studies


def aa(folder: Path, number: int) -> dict[str, Any]:
    """The same code on both sides; nothing is stored, so everything is judged beside the base."""
    return kept(Repo(folder, COST.format(prompts=PROMPTS, scores=SCORES)).run("--vdb-against=HEAD"))


def slow(folder: Path, number: int) -> dict[str, Any]:
    """Extra work in the transformer that makes a video 10 % slower."""
    repo = Repo(folder, COST.format(prompts=PROMPTS, scores=SCORES))
    stages = {m["name"]: m for t in repo.run()["tests"] for m in t["measurements"]}
    values = {
        k: median(v["value"] for v in m["samples"]) for k, m in stages.items() if m["samples"]
    }
    share = values["latency.denoise"] / values["latency"]
    repo.model(slower=0.1 / share)
    return {**kept(repo.run("--vdb-against=HEAD", "-k", "cost")), "share": share}


def quality(folder: Path, number: int) -> dict[str, Any]:
    """Every variant against a baseline of the same seed."""
    repo = Repo(folder, QUALITY.format(seed=number, scores=SCORES))
    repo.run("--vdb-update")
    found = {}
    for variant in (*RED, *GREEN) if number < 5 else ALWAYS:
        repo.model(variant)
        found[variant] = kept(repo.run())
    return found


def load(folder: Path, number: int) -> dict[str, Any]:
    """A model whose load takes a minute."""
    repo = Repo(folder, COST.format(prompts=PROMPTS, scores=SCORES))
    repo.model(load=60.0)
    repo.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-am", "slow load")
    repo.model(load=60.0, slower=(0.0, 0.3)[number % 2])
    return {**kept(repo.run("--vdb-against=HEAD", "-k", "cost")), "slower": number % 2}


STUDIES = {"aa": aa, "slow": slow, "quality": quality, "load": load}


def work(study: str, numbers: Sequence[int], out: Path) -> None:
    for number in numbers:
        line = {"number": number, **STUDIES[study](out / f"{study}-{number}", number)}
        with (out / f"{study}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        shutil.rmtree(out / f"{study}-{number}")
        print(study, number, brief(line), file=sys.stderr, flush=True)


def brief(line: Line) -> str:
    parts = line if "verdicts" not in line else {"": line}
    return "; ".join(
        f"{name} " + ", ".join(f"{k} {v['state']}" for k, v in part["verdicts"].items())
        for name, part in parts.items()
        if isinstance(part, dict)
    )


# ------------------------------------------------------------------ telling it


def lines(out: Path, study: str) -> list[dict[str, Any]]:
    file = out / f"{study}.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def count(states: Sequence[str]) -> str:
    return ", ".join(f"{n} {state}" for state, n in Counter(states).most_common())


def beside_rows(found: list[dict[str, Any]]) -> Iterator[Sequence[str]]:
    yield ("measurement", "verdicts", "median change", "from", "to")
    for name in found[0]["verdicts"]:
        of = [line["verdicts"][name] for line in found if name in line["verdicts"]]
        effects = sorted(v["effect"] for v in of if v["effect"] is not None)
        told = ("–",) * 3
        if effects:
            told = tuple(f"{100 * e:+.1f} %" for e in (median(effects), effects[0], effects[-1]))
        yield (f"`{name}`", count([v["state"] for v in of]), *told)


def quality_rows(found: list[dict[str, Any]]) -> Iterator[Sequence[str]]:
    yield ("variant", "must be", "runs", "is", "scores that convict", "median change of adherence")
    for variant in (*RED, *GREEN):
        of = [line[variant]["verdicts"] for line in found if variant in line]
        red = [[n for n, v in run.items() if v["state"] == "REGRESSION"] for run in of]
        convicting = Counter(name for names in red for name in names)
        told = ", ".join(f"{name} {n}" for name, n in convicting.most_common()) or "–"
        effect = median(run["shapes_adherence"]["effect"] or 0.0 for run in of)
        is_red = sum(map(bool, red))
        yield (
            variant,
            "red" if variant in RED else "green",
            str(len(of)),
            f"red {is_red}, green {len(of) - is_red}",
            told,
            f"{100 * effect:+.1f} %",
        )


def load_rows(found: list[dict[str, Any]]) -> Iterator[Sequence[str]]:
    yield ("change", "verdict on `latency`", "loads", "minutes side by side")
    for line in found:
        change = "+ 30 % in the transformer" if line["slower"] else "none"
        ran = line["trial"]
        minutes = f"{ran['seconds'] / 60:.1f}"
        yield (change, line["verdicts"]["latency"]["state"], str(ran["loads"]), minutes)


ROWS = {"aa": beside_rows, "slow": beside_rows, "quality": quality_rows, "load": load_rows}


def tell(out: Path) -> None:
    for study, rows in ROWS.items():
        if found := lines(out, study):
            text = f"{len(found)} runs.\n\n{pages.table(rows(found))}"
            pages.write(PAGE, study, text)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("study", choices=(*STUDIES, "told"))
    parser.add_argument("--runs", type=int, default=2, metavar="N")
    parser.add_argument("--jobs", type=int, default=1, metavar="N")
    parser.add_argument("--out", type=Path, default=Path("build/gate-trials"), metavar="DIR")
    parser.add_argument("--only", type=int, nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    out = arguments.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    if arguments.study == "told":
        tell(out)
        return 0
    if arguments.only is not None:
        work(arguments.study, arguments.only, out)
        return 0
    done = {line["number"] for line in lines(out, arguments.study)}
    left = [number for number in range(arguments.runs) if number not in done]
    jobs = []
    for job in range(arguments.jobs):
        mine = [str(number) for number in left[job :: arguments.jobs]]
        command = [sys.executable, __file__, arguments.study, f"--out={out}", "--only", *mine]
        cores = sorted(os.sched_getaffinity(0))
        pin = ["taskset", "-c", str(cores[job % len(cores)])] if arguments.jobs > 1 else []
        jobs.append(subprocess.Popen([*pin, *command]))
    return max(job.wait() for job in jobs)


if __name__ == "__main__":
    sys.exit(main())
