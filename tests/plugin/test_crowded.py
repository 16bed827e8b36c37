"""--vdb-crowded: latency beside other workers"""

from pytest_vdb.environment import cpu_count
from tests.conftest import LEAN

BENCH = "def test_speed(vdb):\n    assert vdb.latency.median < 100"
# a pipeline that wants every core leaves none for a second worker
CONFTEST = f"""
def pytest_vdb_models():
    from pytest_vdb import ModelSpec
    size = {{"height": 32, "width": 32, "num_frames": 5, "num_inference_steps": 1}}
    options = {{"num_threads": {cpu_count()}}}
    return [ModelSpec("wide", "factory", "model_under_test:build", call=size, options=options)]
"""


def test_refused_unless_asked_for(suite, engine):
    suite.write(BENCH)
    (suite.root / "conftest.py").write_text(CONFTEST)
    command = [*LEAN, "benchmarks", "--vdb-model=wide", "-n2"]
    result = suite.pytester.runpytest_inprocess(*command)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Unmeasured: latency*2 workers share*--vdb-crowded*"])
    suite.pytester.runpytest_inprocess(*command, "--vdb-crowded").assert_outcomes(passed=1)
    suite.pytester.runpytest_inprocess(*command[:-1]).assert_outcomes(passed=1)
