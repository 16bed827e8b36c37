"""Where a process that hangs leaves its traceback."""

import os

import pytest

from pytest_vdb import hang

SHOW = """
import os
from pytest_vdb import hang

def test_log(request):
    descriptor = hang.log(request.config)
    if descriptor is not None:
        os.write(descriptor, b"last words")
"""


@pytest.mark.parametrize(
    ("args", "heard"),
    [
        ([], "last words"),
        (["-pno:faulthandler"], "last words"),
        (["-s"], "last words"),
        (["-ofaulthandler_timeout=600"], ""),
    ],
    ids=["captured", "without-pytests", "not-captured", "pytests-own"],
)
def test_it_is_the_terminals_unless_pytest_watches_itself(
    pytester: pytest.Pytester, capfd: pytest.CaptureFixture[str], args: list[str], heard: str
) -> None:
    pytester.makepyfile(SHOW)
    result = pytester.runpytest_inprocess("-pno:cacheprovider", *args)
    result.assert_outcomes(passed=1)
    assert capfd.readouterr().err == heard


def test_it_is_closed_with_pytest(pytester: pytest.Pytester) -> None:
    config = pytester.parseconfigure()
    descriptor = hang.log(config)
    assert descriptor is not None
    os.fstat(descriptor)
    config._ensure_unconfigure()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
