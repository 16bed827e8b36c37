"""The CPU allocator's peak against allocations whose size is known."""

import pytest
import torch

from pytest_vdb.measure.memory import cpu_allocator_peak

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
