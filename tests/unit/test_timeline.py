"""Memory over time: what is read, how it becomes slices, and that a generation has it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pytest_vdb.measure.execute import Generation
from pytest_vdb.measure.runner import Job, Tally
from pytest_vdb.measure.timeline import SLICES, SPANS, Sampler, shortened, sizes, slices, timeline
from pytest_vdb.models.open import open_source
from pytest_vdb.records import ModelSpec, Prompt, Timeline, Workload

SIZE = {"num_frames": 5, "height": 32, "width": 32, "max_sequence_length": 64}
BYTES = 2**27


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ([(0.0, 5)], (5, 5, 5, 5)),
        ([(0.0, 1), (1.5, 9), (1.6, 2)], (1, 9, 2, 2)),
        ([(0.0, 7), (1.0, 2)], (7, 2, 2, 2)),
        ([(2.5, 3), (3.5, 4)], (3, 3, 3, 4)),
        ([(0.0, 0), (4.0, 8)], (0, 0, 0, 8)),
    ],
    ids=["constant", "a short peak", "at a border", "before the first", "at the end"],
)
def test_a_slice_has_the_most_that_was_held_in_it(held, expected):
    assert slices(held, 4.0, 4) == expected


def test_no_peak_is_lost_in_slices():
    random = np.random.default_rng(0)
    times, found = np.sort(random.random(5000)), random.integers(0, 10**9, 5000)
    held = [*zip(times.tolist(), found.tolist(), strict=True)]
    assert max(slices(held, 1.0)) == max(size for _, size in held)


def test_spans_are_merged_and_bounded():
    few = [(0.0, "denoise"), (0.1, "denoise"), (0.5, "decode")]
    assert shortened(few, 1.0) == ((0.0, "denoise"), (0.5, "decode"))
    many = [(i / 1000, ("denoise", "other")[i % 2]) for i in range(500)] + [(0.5, "decode")]
    assert shortened(many, 1.0) == ((0.5, "decode"),)
    assert SPANS < SLICES


def test_nothing_read_is_no_timeline():
    assert timeline("p/0", {"resident": []}, [], 1.0) is None
    assert timeline("p/0", {"resident": [(0.0, 1)]}, [], 0.0) is None


def until(seen: Callable[[], bool]) -> None:
    """Wait for the sampler's thread, which a busy machine lets wait."""
    end = time.monotonic() + 30
    while not seen() and time.monotonic() < end:
        time.sleep(0.002)


def test_the_resident_set_is_seen_to_rise_and_fall():
    if not sizes("cpu")():
        pytest.skip("only Linux tells a process its resident set in /proc")
    with Sampler(sizes("cpu"), every=0.002) as sampler:
        held = np.ones(BYTES, np.uint8)
        seen = len(sampler.held["resident"])
        until(lambda: len(sampler.held["resident"]) >= seen + 2)  # the second began after it
        del held
    readings = [size for _, size in sampler.held["resident"]]
    peak = max(readings)
    assert peak - readings[0] > 0.9 * BYTES
    assert peak - readings[-1] > 0.9 * BYTES
    assert sampler.seconds > 0
    assert not sampler.failed


def test_a_reading_that_fails_ends_the_series_and_not_the_block():
    told = iter([{"resident": 1}, {"resident": 2}])
    with Sampler(lambda: next(told), every=0.001) as sampler:
        until(lambda: bool(sampler.failed))
    assert [size for _, size in sampler.held["resident"]] == [1, 2]
    assert sampler.failed.startswith("StopIteration")
    assert not [one for one in threading.enumerate() if one.name == "vdb-memory"]


def test_an_error_of_the_block_passes_and_ends_the_thread():
    with pytest.raises(ZeroDivisionError), Sampler(sizes("cpu")):
        _ = 1 / 0
    assert not [one for one in threading.enumerate() if one.name == "vdb-memory"]


def test_a_traced_generation_tells_its_memory_over_time(tmp_path: Path):
    spec = ModelSpec("tiny-wan", "factory", "pytest_vdb.models.embedded:tiny_wan", dtype="float32")
    call = {"num_inference_steps": 2, **SIZE}
    workload = Workload((Prompt("fox", "a fox"),), (0,), call, "float32", {})
    job = Job(spec, workload, str(tmp_path))
    event = json.loads(json.dumps(Generation(job, open_source(spec)).traced()))
    tally = Tally(job)
    tally(event)
    found = tally.run("inprocess").timeline
    assert found is not None
    assert Timeline.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert found.sample == "fox/0"
    assert all(len(one) == SLICES for one in found.bytes.values())
    # the same profile, by time and by stage
    assert max(found.bytes["allocated"]) == event["cpu_peak"]
    names = [name for _, name in found.stages]
    assert {"text_encode", "denoise", "decode"} <= {*names}
    begins = [begin for begin, _ in found.stages]
    assert begins == sorted(begins)
    assert begins[0] == 0
    assert begins[-1] < found.seconds
