"""A generation in numbers: what is noted, how sizes come out, and that it leaves nothing behind."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from pytest_vdb.errors import BaselineError
from pytest_vdb.measure import trace as module
from pytest_vdb.measure.trace import LARGE, LIMIT, Tracer, conditions, project
from pytest_vdb.models.embedded import tiny_wan
from pytest_vdb.records import Sample
from pytest_vdb.traces import DIRECTIONS, Point, Trace, loads, weighed


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return tiny_wan()


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def generate(pipeline: Any, steps: int = 2, guidance: float = 5.0) -> Any:
    with torch.inference_mode():
        return pipeline(
            prompt="a red fox",
            num_frames=5,
            height=32,
            width=32,
            num_inference_steps=steps,
            max_sequence_length=64,
            output_type="np",
            guidance_scale=guidance,
            generator=torch.Generator("cpu").manual_seed(0),
        )


def traced(pipeline: Any, **how: Any) -> Trace:
    with Tracer(pipeline) as tracer:
        generate(pipeline, **how)
    return tracer.trace("fox/0")


def test_every_stage_and_step_is_noted_in_order(pipeline: Any) -> None:
    trace = traced(pipeline)
    parts = [(p.stage, p.step, p.part) for p in trace.points]
    one_step = ["transformer", "transformer", "guidance", "scheduler"]
    assert [part for *_, part in parts if "transformer." not in part] == [
        *("text_encoder", "text_encoder", "initial latents", "conditioning"),
        *one_step,
        *one_step,
        "vae",
    ]
    blocks = [(step, part) for _, step, part in parts if part.startswith("transformer.blocks")]
    assert blocks == [(1, f"transformer.blocks.{i}") for i in range(6)]
    assert [step for _, step, part in parts if part == "scheduler"] == [1, 2]
    assert parts[0][:2] == ("text_encode", 0)
    assert parts[-1][:2] == ("decode", 0)
    assert trace.dtypes == dict.fromkeys(("text_encoder", "transformer", "vae"), "float32")
    assert trace.versions["torch"] == torch.__version__


def test_it_repeats_changes_nothing_and_leaves_nothing(pipeline: Any) -> None:
    before = generate(pipeline).frames
    kind, entries = type(pipeline.scheduler), set(vars(pipeline.vae))
    once, again = traced(pipeline), traced(pipeline)
    assert once == again
    assert once.dumps() == again.dumps()
    assert np.array_equal(generate(pipeline).frames, before)
    assert type(pipeline.scheduler) is kind
    assert set(vars(pipeline.vae)) == entries
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in pipeline.transformer.blocks]
    assert hooks == [0] * 6


def test_without_guidance_there_is_no_point_for_it(pipeline: Any) -> None:
    parts = [p.part for p in traced(pipeline, guidance=1.0).points]
    assert "guidance" not in parts
    assert parts.count("transformer") == 2


def test_many_steps_are_thinned(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMIT", 40)
    trace = traced(pipeline, steps=12)
    assert len(trace.points) <= 40
    assert trace.every > 1
    steps = [p.step for p in trace.points if p.part == "scheduler"]
    assert steps == [1, *range(trace.every, 13, trace.every)]


def test_an_error_of_ours_ends_the_trace_alone(
    pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(tensors: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(module, "project", fail)
    trace = traced(pipeline)
    assert trace.points == ()
    assert "no room" in trace.reason


# ------------------------------------------------------------------ numbers


@pytest.mark.parametrize("size", [100, 20_000, 200_000])
@pytest.mark.parametrize("share", [1e-6, 1e-3, 0.3])
def test_the_distance_of_projections_is_that_of_the_tensors(size: int, share: float) -> None:
    """Within four standard errors (71 %) each, of changes in places or everywhere."""
    random = torch.Generator().manual_seed(size)
    x = torch.randn(size, generator=random, dtype=torch.float64)
    noise = torch.randn(size, generator=random, dtype=torch.float64)
    for change in (noise * x.norm() / noise.norm(), x, x * (torch.arange(size) < size // 10)):
        norm, _, a = project([x])
        _, _, b = project([x + share * change])
        assert norm == pytest.approx(float(x.norm()), rel=1e-5)
        seen = float(np.linalg.norm(np.subtract(a, b))) / DIRECTIONS**0.5
        true = share * float(change.norm())
        assert seen == pytest.approx(true, rel=0.71, abs=3e-7 * float(x.norm()))


def test_a_projection_does_not_depend_on_layout_or_packing() -> None:
    x = torch.randn(3, 40, 500, generator=torch.Generator().manual_seed(1))
    stored_otherwise = x.transpose(0, 2).contiguous().transpose(0, 2)
    assert project([x]) == project([stored_otherwise])
    assert project([x.bfloat16()]) == project([x.bfloat16().float()])
    assert project([x.half()]) == project([x.half().float()])


def test_values_that_are_not_finite_leave_no_norm() -> None:
    x = torch.ones(50)
    x[7] = torch.nan
    norm, _, projection = project([x])
    assert norm is None
    assert np.isfinite(projection).all()


def test_of_a_large_tensor_every_nth_value_counts() -> None:
    x = torch.zeros(2 * LARGE)
    x[1::2] = torch.inf  # not looked at
    x[::2] = 1.0
    assert project([x])[0] == pytest.approx(LARGE**0.5)


# ------------------------------------------------------------------ what is kept


def many(count: int) -> Trace:
    random = np.random.default_rng(0)
    points = (
        Point("denoise", i // 4, f"part {i % 4}", 0, (1, 16, 21, 60, 104), *numbers)
        for i, numbers in enumerate(
            (float(random.random()), int(random.integers(2**32)), random.standard_normal(16))
            for _ in range(count)
        )
    )
    kept = (p.__class__(**{**vars(p), "norm": float(f"{p.norm:.7g}")}) for p in points)
    return Trace("fox/0", tuple(kept), versions={"torch": "2.13.0"}, seconds={"decode": 0.25})


def test_the_largest_trace_has_less_than_20_kilobytes() -> None:
    assert len(many(LIMIT).dumps()) < 20 * 1024


def test_it_is_read_as_it_was_written(pipeline: Any) -> None:
    trace = traced(pipeline)
    assert loads(trace.dumps(), "here") == trace


# Named by hand: gzip writes the second into its bytes, and xdist's workers must agree on the ids.
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"no gzip", id="no gzip"),
        pytest.param(gzip.compress(b"{}"), id="no schema"),
        pytest.param(gzip.compress(b'{"schema": 9}'), id="another schema"),
        pytest.param(gzip.compress(b"[" * 100_000), id="too deep"),
        pytest.param(gzip.compress(b" " * 2**23), id="too large"),
        pytest.param(many(1).dumps()[:-9], id="cut short"),
        pytest.param(
            gzip.compress(
                gzip.decompress(many(1).dumps()).replace(b'"decode":0.25', b'"decode":1e999')
            ),
            id="infinite",
        ),
    ],
)
def test_what_is_no_trace_is_refused(content: bytes) -> None:
    with pytest.raises(BaselineError, match=r"here is no trace .*--vdb-update-mode=all"):
        loads(content, "here")


def test_costs_are_those_of_the_faster_half() -> None:
    samples = [
        Sample("fox", seed, "", "", (1, 1, 1, 3), stages={"decode": seconds}, memory={})
        for seed, seconds in enumerate((3.0, 1.0, 2.0, 9.0))
    ]
    trace = weighed(Trace("fox/0"), samples, {"decode": 5})
    assert trace.seconds == {"decode": 1.5}
    assert trace.memory == {"decode": 5}
    on_device = [Sample("a", 0, "", "", (1, 1, 1, 3), memory={"stage.decode": 7, "allocated": 9})]
    assert weighed(Trace("a/0"), on_device, {"decode": 5}).memory == {"decode": 7}
    assert trace.numbers.seconds == {}


def test_the_load_is_read_where_the_system_tells_it() -> None:
    found = conditions("cpu")
    assert all(value >= 0 for value in found.values())
    assert list(itertools.islice(found, 2)) in (["load"], [])
