"""Base and candidate side by side: pairs of processes that take turns in short blocks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from statistics import median

from pytest_vdb.errors import GenerationTimeout, NoBase, OutOfMemory, VdbError
from pytest_vdb.measure.child import ChildProcess
from pytest_vdb.measure.code import STACK
from pytest_vdb.measure.execute import BLOCK_SECONDS
from pytest_vdb.measure.runner import Job
from pytest_vdb.parallel.lease import Lease
from pytest_vdb.records import Run, Sample, State, Verdict
from pytest_vdb.trial.base import Side

STEPS = "num_inference_steps"
PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Pair:
    """What the blocks of one process of each side showed: a sample a block.

    ``every`` holds the same runs, base first, with every generation of every block.
    """

    base: Run
    candidate: Run
    every: tuple[Run, ...] = ()


@dataclass
class Trial:
    """One workload of one model on two sides; pairs of processes are added as they are asked for.

    ``steps`` caps the denoise steps of a block: a run is then told as the mean step times the
    workload's own number, plus everything else. ``budget`` gives the seconds that are left for
    side-by-side runs; ``announce`` hears what more pairs will take. A trial that fails keeps the
    pairs that it has, and says why there are no more in ``failure``. ``same_code`` says that both
    sides are meant to load the same code, as a calibration does. ``most`` pairs may be run; None
    leaves it to `PATIENCE`. ``ratios`` holds what was judged, by measurement: each pair's blocks as
    ln(candidate / base).
    """

    job: Job
    base: Side
    candidate: Side
    steps: int
    expected: Run
    budget: Callable[[], float | None] = lambda: None
    announce: Callable[[str], None] = lambda line: None
    same_code: bool = False
    most: int | None = None
    pairs: list[Pair] = field(default_factory=list)
    ratios: dict[str, list[list[float]]] = field(default_factory=dict)
    failure: str = ""
    loads: int = 0
    seconds: float = 0.0
    _deadline: float | None = None
    _refused: NoBase | None = None
    apart: bool = False
    """Whether the sides did not fit on one lease, and have one each that they swap."""

    def reach(self, count: int) -> bool:
        """Whether there are ``count`` pairs, after running those that are missing."""
        missing = count - len(self.pairs)
        if missing <= 0 or self.failure:
            return missing <= 0
        if self._refused is not None:
            raise self._refused  # what cannot be run once cannot be run again
        estimate, left = self.estimate(missing), self.budget()
        if left is not None and estimate > left:
            self.failure = (
                f"{missing} more process pairs beside {self.base.label} take about "
                f"{minutes(estimate)}, and --vdb-budget leaves {minutes(max(left, 0))}"
            )
            return False
        self.announce(
            f"{self.base.label} beside {self.job.model.name}: {2 * missing} loads, about "
            f"{minutes(estimate)}"
        )
        start = time.monotonic()
        self._deadline = None if left is None else start + left
        try:
            while len(self.pairs) < count:
                self.pairs.append(self._pair(len(self.pairs)))
        except NoBase as error:
            self._refused = error
            raise
        except VdbError as error:
            self.failure = f"{type(error).__name__}: {error}"
        finally:
            self.seconds += time.monotonic() - start
        return not self.failure

    def judge(
        self, name: str, read: Callable[[Run], list[float]], rule: Callable[..., Verdict]
    ) -> Verdict | str:
        """What ``rule`` (`gate.rules.interleaved`) says after each look, until it can tell.

        ``read`` gives the seconds of ``name`` in a run's blocks. Text is why there is no verdict.
        Where pairs end before the last look, the rule is asked again for all that it will get.
        """
        from pytest_vdb.gate import rules

        verdict: Verdict | None = None
        for count in self.looks:
            if not self.reach(count):
                break
            pairs = [(read(pair.base), read(pair.candidate)) for pair in self.pairs[:count]]
            if not all(a and b for a, b in pairs):
                return f"{name} is not measured side by side"
            self.ratios[name] = [rules.block_ratios(a, b) for a, b in pairs]
            asked = partial(rule, self.ratios[name], level=median(v for a, _ in pairs for v in a))
            verdict = asked(last=count == self.looks[-1])
            if verdict.state is not State.INCONCLUSIVE:
                return verdict
        if verdict is None:
            return f"not run side by side: {self.failure}"
        if self.failure:
            verdict = asked(last=True)
            verdict = replace(verdict, reason=f"{verdict.reason}; {self.failure}")
        return verdict

    @cached_property
    def looks(self) -> list[int]:
        """After how many pairs the rule is asked, in turn."""
        from pytest_vdb.gate.rules import LOOKS

        if (most := self.most) is None:
            most = LOOKS[-1] if self.estimate(LOOKS[-1]) <= PATIENCE else LOOKS[0]
        return [count for count in LOOKS if count <= most] or [most]

    def estimate(self, pairs: int) -> float:
        """Seconds that ``pairs`` more take, by those before or else by the candidate's own run."""
        if self.pairs:
            return pairs * self.seconds / len(self.pairs)
        from pytest_vdb.gate.rules.interleaved import BLOCKS

        walls = [sample.wall for sample in self.expected.samples if sample.wall is not None]
        each = median(walls) * self._share if walls else 0.0
        block = max(each, BLOCK_SECONDS)
        startup = 5.0 + (self.expected.load or 0.0)  # Python and its libraries, about
        return pairs * 2 * (startup + (self.expected.first_call or each) + (BLOCKS + 1) * block)

    @property
    def code(self) -> dict[str, dict[str, str]]:
        """Packages whose version or place differ, by side, once a pair has run."""
        if not self.pairs:
            return {}
        sides = {"base": self.pairs[0].base, "candidate": self.pairs[0].candidate}
        facts = {side: code_of(run.facts) for side, run in sides.items()}
        names = sorted({*facts["base"], *facts["candidate"]})
        differ = [n for n in names if facts["base"].get(n) != facts["candidate"].get(n)]
        kept = [n for n in names if n in differ or n in STACK]
        return {side: {n: of[n] for n in kept if n in of} for side, of in facts.items()}

    # ------------------------------------------------------------------ one pair

    def _pair(self, index: int) -> Pair:
        try:
            pair = self._blocks(index)
        except OutOfMemory:
            if self.apart or not self._devices:
                raise
            self.apart = True
            pair = self._blocks(index)
        if not self.same_code:
            check_code(self.base, code_of(pair.base.facts), code_of(pair.candidate.facts))
        return pair

    def _blocks(self, index: int) -> Pair:
        """Two processes, loaded in turn, that generate block by block: AB BA AB …"""
        from pytest_vdb.gate.rules.interleaved import BLOCKS

        with ExitStack() as stack:
            runners = self._runners(stack, index)
            order = ("base", "candidate") if index % 2 == 0 else ("candidate", "base")
            blocks: dict[str, list[Run]] = {"base": [], "candidate": []}
            for block in range(BLOCKS + 1):
                for side in order if block % 2 == 0 else order[::-1]:
                    blocks[side].append(self._block(side, index, runners[side]))
        timed = {side: (runs[0], runs[1:]) for side, runs in blocks.items()}  # after the warm-up
        told = {side: self._told(*runs) for side, runs in timed.items()}
        return Pair(**told, every=tuple(self._every(*runs) for runs in timed.values()))

    def _block(self, side: str, index: int, runner: ChildProcess) -> Run:
        of = self.base if side == "base" else self.candidate
        call = self.job.workload.call
        if self._share < 1:
            call = {**call, STEPS: self.steps}
        job = replace(
            self.job,
            model=of.model(self.job.model),
            workload=replace(self.job.workload, call=call),
            folder=str(Path(self.job.folder, f"beside-{index}-{side}")),
            path=of.path,
            late=of.late,
            block=True,
            timeout=self._limit(),
        )
        loads = runner.loads
        try:
            return runner.run(job)
        except VdbError as error:
            self._limit()  # it may have been stopped for the budget's sake
            raise type(error)(f"{of.label}: {error}") from None
        finally:
            self.loads += runner.loads - loads

    def _limit(self) -> float | None:
        """Seconds that a load or a generation may take; GenerationTimeout past the budget."""
        if self._deadline is None:
            return self.job.timeout
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise GenerationTimeout("--vdb-budget is spent; what was finished before counts")
        return left if self.job.timeout is None else min(left, self.job.timeout)

    def _runners(self, stack: ExitStack, index: int) -> dict[str, ChildProcess]:
        """A runner a side: both on one lease, or on its halves, which they swap each time."""
        kind = self.job.device.partition(":")[0]
        count = self._devices * (2 if self.apart else 1)
        lease = stack.enter_context(Lease(count, wait=WAIT, kind=kind))
        parts = {"base": lease, "candidate": lease}
        if self.apart:
            halves = lease.halves()
            first = index % 2
            parts = {"base": halves[first], "candidate": halves[1 - first]}
        env = environment(Path(self.job.folder, "plugin"))
        if kind == "cpu":
            env |= {name: value for name, value in KEEP_MEMORY.items() if name not in os.environ}
        runners = {}
        for side, part in parts.items():
            of = self.base if side == "base" else self.candidate
            runner = ChildProcess(keep=True, python=of.python, env=env, cwd=of.cwd, lease=part)
            runners[side] = stack.enter_context(closing(runner))
        return runners

    @property
    def _devices(self) -> int:
        return ChildProcess().count(self.job)

    @property
    def _share(self) -> float:
        """The share of the workload's denoise steps that a block makes."""
        asked = self.job.workload.call.get(STEPS)
        return self.steps / asked if isinstance(asked, int) and asked > self.steps else 1.0

    def _told(self, first: Run, blocks: list[Run]) -> Run:
        """One run with the fastest generation of each block, told at the workload's own steps."""
        fastest = [min(run.samples, key=lambda s: s.wall or 0.0) for run in blocks]
        return self._at_steps(first, fastest)

    def _every(self, first: Run, blocks: list[Run]) -> Run:
        """One run with all generations of all blocks, told alike."""
        return self._at_steps(first, [sample for run in blocks for sample in run.samples])

    def _at_steps(self, first: Run, samples: list[Sample]) -> Run:
        if self._share < 1:
            samples = [at_steps(sample, self.job.workload.call[STEPS]) for sample in samples]
        return replace(first, samples=tuple(samples), first_call=None)


def check_code(base: Side, ours: Mapping[str, str], theirs: Mapping[str, str]) -> None:
    """Raise NoBase where the base runs the candidate's code, which compares a thing with itself.

    ``ours`` and ``theirs`` are version and place by package, of the base and of the candidate:
    nothing that both loaded differs, or a tree's side took a package from the candidate's own.
    """
    shared = [name for name in ours if name in theirs]
    if all(ours[name] == theirs[name] for name in shared):
        code = "; ".join(f"{name} {ours[name]}" for name in shared)
        raise NoBase(
            f"--vdb-against: {base.label} and the candidate load the same code ({code}): name a "
            "ref, folder or requirement whose code this model is made of"
        )
    for name, place in ours.items():
        if base.owns(path := Path(place.rpartition(" ")[2])):
            continue
        raise NoBase(
            f"--vdb-against: {base.label} loaded {name} from the change's own tree ({path}): it is "
            "put on the path from there in a way that does not follow sys.path; install the "
            "repository where the gate runs as a copy, or not at all"
        )


WAIT = 1800.0
"""Seconds to wait for free devices."""

KEEP_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),  # the most that glibc takes
}
"""For the processes of a pair on a CPU, unless the user says otherwise: glibc keeps freed memory.

By default it hands large buffers back or keeps them as the heap's layout has it, which address
randomisation decides anew for each process: 0 to 7,900 page faults for each VAE decode of `shapes`,
and 54 to 77 ms, in processes of one code. A process pair is no place for a coin toss of that size.
"""

PATIENCE = 300.0
"""Seconds that 8 process pairs may take for as many to be run where nobody asked for a number."""


def at_steps(sample: Sample, steps: int) -> Sample:
    """``sample`` as it would be with ``steps`` denoise steps: the mean one so many times.

    The mean, since some steps may do more than others: those with guidance, or of another expert.
    """
    if not sample.steps or sample.wall is None or "denoise" not in sample.stages:
        return sample
    denoise = sample.stages["denoise"] / len(sample.steps) * steps
    wall = sample.wall - sample.stages["denoise"] + denoise
    longer = wall / sample.wall
    return replace(
        sample,
        wall=wall,
        cpu=None if sample.cpu is None else sample.cpu * longer,
        stages={**sample.stages, "denoise": denoise},
        energy={meter: joules * longer for meter, joules in sample.energy.items()},
    )


def environment(folder: Path) -> dict[str, str]:
    """What a child of any interpreter needs to import this plugin, and nothing else of ours."""
    link = folder / PACKAGE.name
    if not link.is_symlink():
        folder.mkdir(parents=True, exist_ok=True)
        link.symlink_to(PACKAGE, target_is_directory=True)
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(folder)}


def minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def code_of(facts: Mapping[str, str]) -> dict[str, str]:
    """Packages by name, of a run's facts."""
    return {k.removeprefix("code."): v for k, v in facts.items() if k.startswith("code.")}
