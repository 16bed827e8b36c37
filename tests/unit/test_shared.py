"""The store of shared videos: entries whole or not at all, one process at a time, no costs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_vdb.measure.runner import Job, Tally
from pytest_vdb.measure.samples import frames_sha256
from pytest_vdb.measure.shared import ENTRY, VideoStore
from pytest_vdb.names import digest
from pytest_vdb.records import ModelSpec, Prompt, Run, Sample, Workload

WORKLOAD = Workload((Prompt("cat", "a cat"), Prompt("dog", "a dog")), (0,), {})
MADE = {"worker": "gw0", "at": "2026-01-01T00:00:00Z", "commit": "1a2b", "run": "r"}
KEY, OTHER, THIRD = "a" * 64, "b" * 64, "c" * 64


def make(folder: Path, seed: int = 0, sound: float = 0.5) -> Run:
    """A run of `WORKLOAD` with files, latents, sound, and costs that nobody else may have."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for index, (prompt, number) in enumerate(WORKLOAD.jobs):
        random = np.random.default_rng([seed, index])
        frames = random.integers(0, 255, (3, 8, 8, 3)).astype(np.uint8)
        np.save(folder / f"{index}-frames.npy", frames)
        np.save(folder / f"{index}-latent.npy", random.random((4, 2), np.float32))
        np.save(folder / f"{index}-audio.npy", np.full((2, 9), sound, np.float32))
        samples.append(
            Sample(
                prompt.id,
                number,
                str(folder / f"{index}-frames.npy"),
                frames_sha256(frames),
                (3, 8, 8, 3),
                latent=str(folder / f"{index}-latent.npy"),
                latent_sha256="0" * 64,
                fps=8.0,
                nonfinite=1,
                audio=str(folder / f"{index}-audio.npy"),
                sampling_rate=16000,
                wall=0.5,
                cpu=0.4,
                memory={"allocated": 7},
                stages={"decode": 0.5},
                steps=(0.1,),
                energy={"gpu": 3.0},
            )
        )
    told = {"provides": frozenset({"latent"}), "hooked": True}
    return Run(tuple(samples), load=1.0, facts={"runner": "x"}, **told)


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, told: list[str]) -> VideoStore:
    return VideoStore(tmp_path / "store", told.append, stall=0.4)


def test_what_is_found_is_the_same_video_and_none_of_its_costs(
    store: VideoStore, tmp_path: Path, told: list[str]
) -> None:
    run = make(tmp_path / "run")
    assert store.find(KEY, WORKLOAD, tmp_path / "none") is None
    store.keep(KEY, run, MADE)
    found = store.find(KEY, WORKLOAD, tmp_path / "mine")
    assert found is not None
    assert found.made == MADE
    assert found.run.provides == {"latent"}
    assert found.run.hooked  # or a latent that a pipeline does not give would be missed
    assert (found.run.load, found.run.facts) == (None, {})
    for ours, theirs in zip(found.run.samples, run.samples, strict=True):
        assert Path(ours.frames).parent == tmp_path / "mine"
        assert np.array_equal(np.load(ours.frames), np.load(theirs.frames))
        assert np.array_equal(np.load(str(ours.latent)), np.load(str(theirs.latent)))
        assert np.array_equal(np.load(str(ours.audio)), np.load(str(theirs.audio)))
        same = ("key", "frames_sha256", "shape", "fps", "nonfinite", "latent_sha256")
        assert ours.sampling_rate == theirs.sampling_rate
        assert all(getattr(ours, name) == getattr(theirs, name) for name in same)
        assert (ours.wall, ours.cpu, ours.steps) == (None, None, ())
        assert (ours.memory, ours.stages, ours.energy) == ({}, {}, {})
    assert told == []


def test_what_differs_is_told_of_frames_and_of_sound(store: VideoStore, tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    assert store.differs(KEY, run) is None
    store.keep(KEY, run, MADE)
    assert store.differs(KEY, make(tmp_path / "again")) is False
    assert store.differs(KEY, make(tmp_path / "frames", seed=1)) is True
    assert store.differs(KEY, make(tmp_path / "sound", sound=0.25)) is True
    silent = [replace(sample, audio=None, sampling_rate=None) for sample in run.samples]
    assert store.differs(KEY, replace(run, samples=tuple(silent))) is True


def test_the_first_entry_of_a_key_stays(store: VideoStore, tmp_path: Path) -> None:
    store.keep(KEY, make(tmp_path / "one"), MADE)
    store.keep(KEY, make(tmp_path / "two", seed=1), {**MADE, "worker": "gw1"})
    found = store.find(KEY, WORKLOAD, tmp_path / "mine")
    assert found is not None
    assert found.made["worker"] == "gw0"
    assert [path.name for path in store.root.iterdir()] == [KEY]


def test_what_is_left_of_an_entry_makes_room_for_a_whole_one(
    store: VideoStore, tmp_path: Path
) -> None:
    store.keep(KEY, make(tmp_path / "one"), MADE)
    (store.root / KEY / ENTRY).unlink()
    assert store.find(KEY, WORKLOAD, tmp_path / "mine") is None
    store.keep(KEY, make(tmp_path / "two"), MADE)
    assert store.find(KEY, WORKLOAD, tmp_path / "mine") is not None


def body(edit: Callable[[dict[str, object]], None]) -> Callable[[Path], None]:
    """Change what ``entry.json`` says, and its hash with it, as who forges one would."""

    def change(folder: Path) -> None:
        whole = json.loads((folder / ENTRY).read_text())
        edit(whole["body"])
        whole["sha256"] = digest(whole["body"])
        (folder / ENTRY).write_text(json.dumps(whole))

    return change


def a_file(folder: Path) -> Path:
    rows = json.loads((folder / ENTRY).read_text())["body"]["samples"]
    return folder / f"{rows[0]['files']['frames']}.npy"


def pickled(folder: Path) -> None:
    """A pickle with the name that its content has, in the place of the frames."""
    import hashlib

    array = np.empty(1, object)
    array[0] = print
    np.save(folder / "new.npy", array, allow_pickle=True)
    sha256 = hashlib.sha256((folder / "new.npy").read_bytes()).hexdigest()
    (folder / "new.npy").rename(folder / f"{sha256}.npy")
    body(lambda b: b["samples"][0]["files"].update(frames=sha256))(folder)  # type: ignore[index]


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut short": lambda f: a_file(f).write_bytes(a_file(f).read_bytes()[:-1]),
    "a bit": lambda f: a_file(f).write_bytes(a_file(f).read_bytes()[:-1] + b"\x00"),
    "gone": lambda f: a_file(f).unlink(),
    "half an entry": lambda f: (f / ENTRY).write_text((f / ENTRY).read_text()[:200]),
    "no entry of ours": lambda f: (f / ENTRY).write_text("[]"),
    "other words": lambda f: (f / ENTRY).write_text(
        (f / ENTRY).read_text().replace('"fps": 8.0', '"fps": 9.0')
    ),
    "other samples": body(lambda b: b["samples"].pop()),  # type: ignore[attr-defined]
    "another shape": body(lambda b: b["samples"][0].update(shape=[3, 8, 4, 3])),  # type: ignore[index]
    "a way out": body(
        lambda b: b["samples"][0]["files"].update(frames="../../secret")  # type: ignore[index]
    ),
    "a pickle": pickled,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_or_forged_entry_is_removed_and_says_so(
    store: VideoStore, tmp_path: Path, told: list[str], damage: str
) -> None:
    store.keep(KEY, make(tmp_path / "run", seed=3), MADE)
    (store.root / KEY).chmod(0o755)
    for path in (store.root / KEY).iterdir():  # a link of the run's own: break the store's alone
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    DAMAGE[damage](store.root / KEY)
    assert store.find(KEY, WORKLOAD, tmp_path / "mine") is None
    assert len(told) == 1
    assert "is damaged" in told[0]
    assert list(store.root.iterdir()) == []
    store.keep(KEY, make(tmp_path / "run"), MADE)
    assert store.find(KEY, WORKLOAD, tmp_path / "mine") is not None


def test_the_least_recently_used_goes_first(
    store: VideoStore, tmp_path: Path, told: list[str]
) -> None:
    run = make(tmp_path / "run")
    store.keep(KEY, run, MADE)
    size = sum(path.stat().st_size for path in (store.root / KEY).iterdir())
    store.limit = int(2.5 * size)
    store.keep(OTHER, run, MADE)
    time.sleep(0.02)
    assert store.find(KEY, WORKLOAD, tmp_path / "mine") is not None
    store.keep(THIRD, run, MADE)
    assert sorted(path.name for path in store.root.iterdir()) == [KEY, THIRD]
    store.limit = size // 2
    store.keep(OTHER, run, MADE)
    assert OTHER not in [path.name for path in store.root.iterdir()]
    assert "more than --vdb-reuse-size allows" in told[-1]


PHASES: tuple[dict[str, Any], ...] = (
    {"event": "started"},
    {"event": "loaded", "seconds": 1.0},
    {"event": "code", "facts": {}},
    {"event": "warm", "seconds": 1.0},
    {"event": "served"},
    {"event": "done", "throughput": None},
)
"""What a runner hears of a job, but for its videos."""


def test_one_generates_and_the_other_waits_for_it(store: VideoStore, tmp_path: Path) -> None:
    """Longer than `stall`, as long as something is heard now and then: no video has to be done."""
    order: list[str] = []
    inside = threading.Event()
    job = Job(ModelSpec("ours", "factory", "ours:build"), WORKLOAD, str(tmp_path))
    store.stall = 1.0

    def hold() -> None:
        with store.alone(KEY, lambda: None):
            inside.set()
            tally = Tally(job, lambda done, total: store.alive(KEY))
            for event in PHASES:
                time.sleep(0.25)
                tally(event)
            order.append("generated")

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(10)
    waited: list[str] = []
    with store.alone(KEY, lambda: waited.append("released")):
        order.append("read")
    thread.join(10)
    assert order == ["generated", "read"]
    assert waited == ["released"]


def test_nobody_waits_for_who_is_not_heard_of(store: VideoStore, told: list[str]) -> None:
    go, inside = threading.Event(), threading.Event()

    def hang() -> None:
        with store.alone(KEY, lambda: None):
            inside.set()
            go.wait(20)

    thread = threading.Thread(target=hang)
    thread.start()
    assert inside.wait(10)
    start = time.monotonic()
    with store.alone(KEY, lambda: None):
        assert 0.3 < time.monotonic() - start < 5
    go.set()
    thread.join(10)
    assert told == [
        "nothing was heard for 0 s of the worker that generates the same videos, so this one "
        "generates by itself"
    ]


def test_a_folder_that_cannot_be_is_a_note(tmp_path: Path, told: list[str]) -> None:
    (tmp_path / "file").write_text("")
    store = VideoStore(tmp_path / "file" / "store", told.append)
    with store.alone(KEY, lambda: None):
        store.keep(KEY, make(tmp_path / "run"), MADE)
    assert store.find(KEY, WORKLOAD, tmp_path / "mine") is None
    assert any("cannot be locked" in line for line in told)
    assert any("were not kept for reuse" in line for line in told)
