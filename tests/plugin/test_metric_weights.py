"""--vdb-metric-weights, --vdb-metric-device: metrics with networks in a test, and without them."""

from __future__ import annotations

import shutil

import pytest

from pytest_vdb.metrics.catalog.consistency import EFFICIENTNET_LITE0
from pytest_vdb.metrics.weights import find, is_here

SHARED = """
def test_consistency(vdb):
    assert vdb.score("subject_consistency[efficientnet_lite0]").mean > 0.5
    assert vdb.score("semantic_consistency_worst_frame[efficientnet_lite0]").min > 0.1
"""
LACKING = """
def test_fit(vdb):
    assert vdb.score("lpips").max < 1

def test_other(vdb):
    assert vdb.score("sharpness").mean > 0
"""
needed = pytest.mark.skipif(not is_here(EFFICIENTNET_LITE0), reason=f"{EFFICIENTNET_LITE0.install}")


@needed
def test_scores_of_a_network_are_stored_and_gated_with_its_digest(suite):
    suite.write(SHARED)
    suite.run("--vdb-update").assert_outcomes(passed=1)
    (path,) = suite.baselines
    assert EFFICIENTNET_LITE0.sha256 in path.read_text()
    assert set(suite.states("--vdb-missing=fail").values()) == {"IDENTICAL"}


@needed
def test_other_weights_than_the_baseline_s_are_not_compared(suite):
    suite.write(SHARED)
    suite.run("--vdb-update").assert_outcomes(passed=1)

    def exchange(data):
        (workload,) = data["workloads"].values()
        for stored in workload["measurements"].values():
            stored["provenance"]["weights"] = "efficientnet_lite0 " + "0" * 64

    suite.edit_baseline(exchange)
    result = suite.run("--vdb-missing=fail")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*NO_BASELINE*another definition of subject_consistency*"])


@needed
def test_the_folder_comes_first_and_a_wrong_file_in_it_is_refused(suite):
    suite.write(SHARED)
    folder = suite.root / "nets" / "efficientnet_lite0"
    folder.mkdir(parents=True)
    name = EFFICIENTNET_LITE0.files[0]
    shutil.copy(find(EFFICIENTNET_LITE0).path, folder / name)
    suite.run("--vdb-metric-weights=nets").assert_outcomes(passed=1)
    (folder / name).write_bytes(b"other weights")
    result = suite.run("--vdb-metric-weights=nets")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*is not the file that efficientnet_lite0 is defined by*"])


def test_missing_weights_fail_what_asserts_them_and_nothing_else(suite):
    suite.write(LACKING)
    suite.run("--vdb-update")
    result = suite.run()
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*lpips*alexnet*--vdb-metric-weights=DIR*"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_device_that_cannot_be_is_refused(suite):
    suite.write(LACKING)
    result = suite.run("--vdb-metric-device=tpu")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--vdb-metric-device*tpu*cuda:0*"])
