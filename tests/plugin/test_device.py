"""--vdb-device, --vdb-dtype"""

import pytest
import torch

pytestmark = pytest.mark.usefixtures("engine")

BODY = "def test_quality(vdb):\n    assert vdb.score('sharpness').mean > 0"


@pytest.mark.parametrize("flag", ["--vdb-device=gpu", "--vdb-device=cuda:first"])
def test_no_device(suite, flag):
    suite.write(BODY)
    result = suite.run(flag)
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: --vdb-device: *auto, cpu, cuda or cuda:0"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_device_that_is_not_there_is_said_so(suite):
    suite.write(BODY)
    result = suite.run("--vdb-device=cuda", "--vdb-runner=inprocess")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*test_quality*"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    assert result.parseoutcomes().get("passed") is None


def test_dtype_belongs_to_the_workload(suite):
    suite.write(BODY)
    suite.run("--vdb-update")
    result = suite.run("--vdb-dtype=bfloat16")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*the workload changed (dtype float32 → bfloat16)*"])


def test_an_unknown_dtype_is_said_so(suite):
    suite.write(BODY)
    result = suite.run("--vdb-dtype=float33")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: --vdb-dtype: 'float33' is not one of float32, *"])
