"""examples/see-it-fail, as its README section tells"""

import shutil
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples/see-it-fail"


def test_green_then_red(pytester, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    shutil.copytree(
        EXAMPLE, pytester.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("baselines")
    )
    pytester.runpytest_inprocess("--vdb-update").assert_outcomes(passed=2)
    pytester.runpytest_inprocess("--vdb-missing=fail").assert_outcomes(passed=2)
    monkeypatch.setenv("NOISE", "0.1")
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*assert ssim.min > 0.9*", "  sharpness *INCONCLUSIVE"])
