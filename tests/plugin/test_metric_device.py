"""``--vdb-metric-device=cluster``: a real Ray computes the same scores as this process."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import pytest_vdb.clustered
import pytest_vdb.measure.cluster  # pytester forgets what an inner run imports
import pytest_vdb.scorers.fan
from pytest_vdb.environment import cpu_count
from pytest_vdb.errors import InfraError
from pytest_vdb.metrics.catalog.consistency import EFFICIENTNET_LITE0
from pytest_vdb.metrics.engine import Extractor
from pytest_vdb.metrics.weights import is_here
from pytest_vdb.models.clips import write_webp
from pytest_vdb.parallel.cluster import Cluster
from pytest_vdb.parallel.ledger import TRIES, Need
from pytest_vdb.scorers.fan import Scorers
from pytest_vdb.scorers.on_node import Scorer
from tests.conftest import LEAN, ended

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install pytest-vdb[ray]"),
    pytest.mark.usefixtures("joined"),
]

FOUR = "prompts=['a red fox', 'a blue boat'], num_seeds=2, num_inference_steps=2"
SCORED = """
def test_quality(vdb):
    for name in ("marked", "marked_set", "ssim", "subject_consistency[efficientnet_lite0]"):
        if name not in vdb_left_out:
            vdb.score(name)
"""
MARKED = """
import os, signal, time
import numpy as np
from pytest_vdb import Kind, MetricSpec
from pytest_vdb.metrics.features import Feature
from pytest_vdb.metrics.weights import Network

def middle(rows):
    return float(rows.mean())

def levels(video):
    return np.stack([frame.mean(axis=(0, 1)) for frame in video.frames()])

def rows(video):
    with open("scored.txt", "a") as file:
        file.write(f"{os.getpid()}\\n")
    if os.getpid() != HERE:
        CHANGE
    return levels(video)

def load(path):
    raise RuntimeError("no such operator")

MARKED = Feature("marked", rows, of="video")
OTHER = Feature("other", levels, of="video")
NETWORK = Network("network", ("network.bin",), load, "https://example.org", "MIT")
LOADED = Feature("loaded", levels, of="video", network=NETWORK)

def spec(name, needs, feature=MARKED):
    return MetricSpec(
        name, "level", "higher", Kind.SCORE, needs, "1", (0, 255), "a test's", "its mean level",
        middle, features=(feature,),
    )

def pytest_vdb_metrics():
    others = [spec("other", "frames", OTHER), spec("loaded", "frames", LOADED)]
    return [spec("marked", "frames"), spec("marked_set", "own_set"), *others]
"""
DIES_ONCE = """
        second = open("scored.txt").read().count(str(os.getpid())) > 1
        if second and not os.path.exists("killed.txt"):
            open("killed.txt", "w").write(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.3)"""
OTHERS = ("ssim", "subject_consistency[efficientnet_lite0]")
THERE = ("--vdb-cluster=local", "--vdb-metric-device=cluster")


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """An actor a core."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def scored(suite: Any, change: str, *left_out: str) -> None:
    """A suite that scores a feature which does ``change`` on the cluster."""
    suite.write(f"vdb_left_out = {left_out!r}\n{SCORED}", FOUR)
    suite.engine()
    marked = MARKED.replace("HERE", str(os.getpid())).replace("CHANGE", change.strip())
    (suite.root / "conftest.py").write_text(marked)


def scorers(suite: Any) -> list[int]:
    """The processes that computed `MARKED`, a video each."""
    return [int(line) for line in (suite.root / "scored.txt").read_text().splitlines()]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.skipif(cpu_count() < 2, reason="needs two cores")
def test_the_same_scores_also_where_a_scorer_is_killed(suite: Any) -> None:
    """The model's actors, which fill the machine, make room; each result is kept once."""
    scored(suite, DIES_ONCE, *([] if is_here(EFFICIENTNET_LITE0) else OTHERS[1:]))
    suite.store()
    suite.engine("seed += 9")  # so that no score is that of equal videos
    (suite.root / "scored.txt").unlink()
    here = suite.json()
    assert scorers(suite) == [os.getpid()] * 4
    (suite.root / "scored.txt").unlink()

    there = suite.json(*THERE)

    ours, theirs = (run["tests"][0]["measurements"] for run in (here, there))
    assert [m["samples"] for m in ours] == [m["samples"] for m in theirs]
    assert [len(m["samples"]) for m in ours] == [4, 1, 4, 4][: len(ours)]
    assert [m["verdict"]["state"] for m in ours] == [m["verdict"]["state"] for m in theirs]
    kept = {m["name"] for m in theirs if m["provenance"]["device"] == "cpu"}
    assert kept == {"marked_set"}, "nothing of it was left to compute, there or here"
    assert {m["provenance"]["device"] for m in theirs} == {"cpu", "cpu on a Ray cluster"}
    killed, pids = int((suite.root / "killed.txt").read_text()), scorers(suite)
    assert os.getpid() not in pids, "nothing was computed here"
    assert len({*pids}) in (2, 3)
    assert 4 < len(pids) <= 6, "all four, and again what the dead one held"
    assert all(ended(pid) for pid in {*pids, killed})


def test_a_scorer_that_hangs_is_killed(suite: Any) -> None:
    scored(suite, "time.sleep(600)", "marked_set", *OTHERS)
    result = suite.run(*THERE, "--vdb-actors=1", "--vdb-timeout=6s")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["UNMEASURED marked. *took longer than 6 s on actor 1; raise --vdb-timeout*"]
    )
    assert ended(scorers(suite)[0])


def test_ctrl_c_ends_the_scorers(suite: Any) -> None:
    scored(suite, f"os.kill({os.getpid()}, signal.SIGINT); time.sleep(600)", *OTHERS)
    command = ["benchmarks", "--vdb-model=model_under_test:build", *THERE, "--vdb-actors=1"]
    result = suite.pytester.inline_run("-p", "no:cacheprovider", *command, no_reraise_ctrlc=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    [pid] = scorers(suite)
    assert ended(pid)


def test_without_room_this_process_computes(suite: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    from pytest_vdb.scorers import fan

    @ray.remote(num_cpus=cpu_count())
    class Others:
        def here(self) -> None: ...

    scored(suite, "raise AssertionError('not there')", *OTHERS)
    suite.store()
    (suite.root / "scored.txt").unlink()
    monkeypatch.setattr(fan, "ROOM", 1.0)
    compute = fan.Scorers.compute
    others: list[Any] = []

    def crowded(self: Any, *args: Any) -> str:
        others.append(Others.remote())  # it takes what the model's actors gave back
        ray.get(others[0].here.remote())
        return compute(self, *args)

    monkeypatch.setattr(fan.Scorers, "compute", crowded)
    result = suite.run(*THERE, "--vdb-json=run.json")
    ray.kill(others[0])
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["vdb: marked is computed here and not on a local Ray*no actor*"])
    assert scorers(suite) == [os.getpid()] * 4
    run = json.loads((suite.root / "run.json").read_text())
    assert {m["provenance"]["device"] for m in run["tests"][0]["measurements"]} == {"cpu"}


def test_what_fails_there_is_unmeasured_and_not_tried_here(suite: Any) -> None:
    """Nor is it a traceback, be it the actor's or this process's with what came back."""
    scored(suite, "raise RuntimeError('no memory')")
    names = ("marked", "loaded", "other")
    suite.write("".join(f"def test_{n}(vdb):\n    vdb.score('{n}').mean\n\n" for n in names))
    weights = suite.root / "nets" / "network"
    weights.mkdir(parents=True)
    (weights / "network.bin").write_bytes(b"weights")
    (suite.root / "full").touch()
    where = ("--vdb-metric-weights=nets", "--vdb-metric-cache=full")

    result = suite.run(*THERE, "--vdb-actors=1", *where)

    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        [
            "UNMEASURED marked. *RuntimeError: no memory*",
            "UNMEASURED loaded. *actor 1 raised RuntimeError: no such operator*",
            "UNMEASURED other. *raised FileExistsError: *full*",
        ]
    )
    assert os.getpid() not in scorers(suite)


def test_who_dies_with_its_node_is_no_try(joined: Cluster) -> None:
    """Three deaths on nodes that live are the machines' fault, whatever else was lost before."""
    fan = pytest_vdb.scorers.fan._Fan(Scorers(joined, Extractor(), print), "marked", [], None)
    fan.places = []
    actor = fan.crew.engage(Scorer, Need(0), joined.alive()[0], {}, [])
    for _ in range(TRIES):
        fan._replace(replace(actor, node="one that is gone"), "its node died")
    for _ in range(TRIES - 1):
        fan._replace(actor, "killed")
    with pytest.raises(InfraError, match=r"compute marked died before they were ready; .*killed"):
        fan._replace(actor, "killed")


LEAVES = """
import os

def test_scored(vdb):
    assert vdb.score("marked").mean > 0
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64, "nobody else gets in"

def test_gone(vdb):
    import ray
    ray.shutdown()  # what its head's death comes to
    try:
        vdb.score("other")
    finally:
        assert not ray.is_initialized(), "nor is another one started"
"""


def test_recorded_videos_alone_are_scored_there_until_it_goes_away(
    suite: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process of its own, which nothing has connected before."""
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    scored(suite, "pass")
    suite.write(LEAVES)
    (suite.root / "clips").mkdir()
    frames = np.full((3, 32, 32, 3), 99, np.uint8)
    frames[:, ::2] = np.arange(3, dtype=np.uint8)[:, None, None, None]
    write_webp(suite.root / "clips" / "a.webp", frames, 8, lossless=True)
    (suite.root / "clips" / "prompts.jsonl").write_text('{"file": "a.webp", "prompt": "grey"}')

    command = [*LEAN, "benchmarks", "--vdb-videos=clips", *THERE, "--vdb-actors=1"]
    result = suite.pytester.runpytest_subprocess(*command, "--vdb-json=run.json", timeout=120)

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["INFRA_ERROR other. A local Ray cluster went away: *"])
    tests = json.loads((suite.root / "run.json").read_text())["tests"]
    [score] = next(t["measurements"] for t in tests if "scored" in t["nodeid"])
    assert score["provenance"]["device"] == "cpu on a Ray cluster"
