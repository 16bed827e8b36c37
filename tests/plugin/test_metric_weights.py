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
# `cpu:0` stands for an accelerator: a device that is not called cpu.
WATCHED = """
import gc, weakref
import pytest_vdb.session as session
from pytest_vdb.measure.inprocess import InProcess
from pytest_vdb.metrics.engine import Extractor

resolve, run, module = session.resolve_device, InProcess.run, Extractor.module
session.resolve_device = lambda text: "cpu:0" if text == "cuda:7" else resolve(text)
networks = []

def seen(self, network):
    found = module(self, network)
    networks.append(weakref.ref(found))
    return found

def generating(self, *args):
    gc.collect()
    print("RESIDENT", sum(network() is not None for network in networks), "OF", len(networks))
    return run(self, *args)

Extractor.module, InProcess.run = seen, generating

def pytest_unconfigure():
    session.resolve_device, InProcess.run, Extractor.module = resolve, run, module
"""
TWICE = (
    SHARED
    + """
@pytest.mark.vdb(seeds=[7])
def test_timed_afterwards(vdb):
    assert vdb.latency.median > 0
"""
)
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
def test_networks_leave_the_device_before_a_model_generates(suite):
    suite.write(TWICE)
    (suite.root / "conftest.py").write_text(WATCHED)
    command = ("--vdb-gate=off", "--vdb-metric-device=cuda:7", "--vdb-metric-batch=5", "-s")
    result = suite.run(*command)
    result.assert_outcomes(passed=2)
    found = [line.split() for line in result.outlines if "RESIDENT" in line]
    (none, before), (still, after) = [(words[-3], words[-1]) for words in found]
    assert (none, before) == ("0", "0")
    assert still == "0"
    assert int(after) > 0


@needed
def test_another_dtype_is_another_definition_and_rows_are_kept_in_a_folder(suite):
    suite.write(SHARED)
    suite.run("--vdb-update", "--vdb-metric-cache=rows").assert_outcomes(passed=1)
    assert len(list((suite.root / "rows").glob("*.npy"))) == 2, "one of each video"
    result = suite.run("--vdb-metric-dtype=bfloat16", "--vdb-missing=fail")
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
