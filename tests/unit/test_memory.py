"""The CPU allocator's peak against allocations whose size is known, whole and by stage."""

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from pytest_vdb.measure.memory import cpu_allocator_peak, cpu_allocator_peaks
from pytest_vdb.measure.stages import StageClock
from pytest_vdb.models.embedded import tiny_wan

COUNT = 10_000_000  # float32: 40 MB
BYTES = 4 * COUNT


def at_once() -> None:
    first, second = torch.empty(COUNT), torch.empty(COUNT)
    del first, second


def one_after_another() -> None:
    for _ in range(2):
        held = torch.empty(COUNT)
        del held


def test_tensors_that_live_at_once_add_up():
    assert cpu_allocator_peak(at_once) == pytest.approx(2 * BYTES, rel=1e-4)


def test_tensors_one_after_another_do_not():
    assert cpu_allocator_peak(one_after_another) == pytest.approx(BYTES, rel=1e-4)


def test_what_was_allocated_before_does_not_count():
    before = torch.ones(COUNT)
    assert cpu_allocator_peak(lambda: before.add_(1)) < 0.01 * BYTES


def test_a_temporary_inside_an_operator_counts():
    matrix = torch.ones(1000, 1000)
    # The transpose is a view and the sum makes one 4 MB tensor, multiplied into another one.
    assert cpu_allocator_peak(lambda: (matrix + matrix.T) * 2) == pytest.approx(8e6, rel=1e-3)


def test_a_call_that_allocates_nothing_peaks_at_zero():
    assert cpu_allocator_peak(lambda: None) == 0


def test_an_error_of_the_call_passes():
    with pytest.raises(ZeroDivisionError):
        cpu_allocator_peak(lambda: 1 / 0)


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return tiny_wan()


@pytest.fixture(scope="module")
def generate(pipeline: Any) -> Callable[[], None]:
    """A short video of ``pipeline``; not the first one."""
    size = {"num_frames": 5, "height": 64, "width": 64, "max_sequence_length": 64}

    @torch.inference_mode()
    def short() -> None:
        generator = torch.Generator().manual_seed(0)
        pipeline("a fox", generator=generator, num_inference_steps=2, output_type="np", **size)

    short()
    return short


def test_the_peak_of_the_whole_is_that_of_a_stage(
    pipeline: Any, generate: Callable[[], None]
) -> None:
    alone = cpu_allocator_peak(generate)
    clock = StageClock(pipeline)

    def timed_as_ever() -> None:
        with clock:
            generate()

    for call in (generate, timed_as_ever):
        peak, stages = cpu_allocator_peaks(call, clock)
        assert peak == pytest.approx(alone, rel=1e-3)
        assert {"text_encode", "denoise", "decode", "other"} == stages.keys()
        assert max(stages.values()) == peak
        assert stages["decode"] == peak  # the VAE works in pixels
    assert clock.stages == {}


def test_memory_that_a_stage_takes_counts_in_that_stage(
    pipeline: Any, generate: Callable[[], None]
) -> None:
    def take(*_: Any) -> None:
        torch.empty(COUNT)

    usual = cpu_allocator_peaks(generate, StageClock(pipeline))[1]
    hook = pipeline.text_encoder.register_forward_hook(take)
    try:
        stages = cpu_allocator_peaks(generate, StageClock(pipeline))[1]
    finally:
        hook.remove()
    assert stages["text_encode"] == pytest.approx(BYTES, rel=0.01)
    for name in ("denoise", "decode"):
        assert stages[name] == pytest.approx(usual[name], rel=0.01)


def test_the_profiler_prints_nothing() -> None:
    code = (
        "import torch; from pytest_vdb.measure.memory import cpu_allocator_peak; "
        "print(cpu_allocator_peak(lambda: torch.ones(1000)))"
    )
    env = {k: v for k, v in os.environ.items() if k != "KINETO_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "4000"
    assert "USDT" not in done.stderr
