"""Whatever a test asserts, the baseline's videos and recorded ones are decoded once."""

from __future__ import annotations

METRICS = """
import pytest

@pytest.mark.parametrize("names", [("psnr", "mad"), ("p99_difference", "psnr_worst_frame")])
def test_distances(vdb, names):
    for name in names:
        assert vdb.score(name).min > -1
"""
COUNTED = """
from pytest_vdb.models import clips

original = clips.Stream.frames

def counted(stream):
    print("DECODED", stream.path.name)
    return original.fget(stream)

clips.Stream.frames = property(counted)

def pytest_unconfigure():
    clips.Stream.frames = original
"""


def test_a_reference_is_decoded_once_for_all_tests(suite):
    suite.write(METRICS)
    suite.store("--vdb-reference=lossless")
    (suite.root / "conftest.py").write_text(COUNTED)
    result = suite.run("--vdb-missing=fail", "-s")
    result.assert_outcomes(passed=2)
    decoded = [line.split()[-1] for line in result.outlines if "DECODED" in line]
    assert len(decoded) == len(set(decoded)) == 2, "one of each video"
