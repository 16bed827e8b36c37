"""What NVML may say of a GPU, and whether it may be timed then."""

import pytest

from pytest_vdb.errors import InfraError
from pytest_vdb.measure.preflight import Reading, await_fit, check, complaints
from pytest_vdb.parallel.lease import Lease

REST = Reading("GPU-1", (), 0, 0x01)  # at rest, and held back by that alone


@pytest.mark.parametrize(
    ("reading", "said"),
    [
        (REST, []),
        (Reading("GPU-1", (), 3, 0x00), []),
        (Reading("GPU-1", (), 0, 0x06), []),  # a power cap, and clocks that somebody set
        (Reading("GPU-1"), []),  # a virtual GPU that tells nothing
        (Reading("GPU-1", (812, 31), 100, 0), ["processes [31, 812] compute there"]),
        (Reading("GPU-1", (), 97, 0), ["it is 97 % busy with a process that is not shown"]),
        (Reading("GPU-1", None, 10, 0), ["it is 10 % busy with a process that is not shown"]),
        (
            Reading("GPU-1", (), 0, 0x21),
            ["its clocks are held back by heat (software thermal slowdown)"],
        ),
        (
            Reading("GPU-1", (7,), 60, 0x88),
            [
                "processes [7] compute there",
                "its clocks are held back by a hardware slowdown (heat, or power that fails) and "
                "the power supply (hardware power brake)",
            ],
        ),
    ],
)
def test_what_speaks_against_timing(reading, said):
    assert complaints(reading) == said


def test_trouble_may_pass():
    """The driver shows a dead process for a moment."""
    seen = iter([[Reading("GPU-1", (9,), 40, 0), REST], [REST, REST]])
    await_fit(lambda: next(seen), patience=60)
    assert next(seen, None) is None


def test_trouble_that_stays_is_the_machines_and_says_what_to_do():
    hot = Reading("GPU-2", (), 0, 0x40)
    with pytest.raises(InfraError) as caught:
        await_fit(lambda: [REST, hot], patience=0)
    assert "GPU-2: its clocks are held back by heat" in str(caught.value)
    assert "GPU-1" not in str(caught.value)
    assert "--vdb-crowded" in str(caught.value)


def test_cores_are_not_looked_at_and_a_gpu_that_is_gone_is_not_fit(tmp_path):
    with Lease(1, ["cpu0"], folder=tmp_path, kind="cpu") as cores:
        check(cores)
    with Lease(1, ["GPU-gone"], folder=tmp_path) as lease, pytest.raises(InfraError, match="gone"):
        check(lease)
