"""--vdb-model"""

BODY = "def test_quality(vdb):\n    assert vdb.score('sharpness').mean > 0"


def test_unknown_name_ends_before_collection_with_the_nearest(suite):
    suite.write(BODY)
    result = suite.pytester.runpytest_inprocess("benchmarks", "--vdb-model=tiny-wam")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: *tiny-wam*did you mean 'tiny-wan'*"])
    result.stderr.no_fnmatch_line("*Traceback*")


def test_the_embedded_model_is_the_default(suite):
    suite.write(BODY.replace("vdb)", "vdb, vdb_pipeline)"))
    result = suite.pytester.runpytest_inprocess("benchmarks", "-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*test_quality?shapes? PASSED*"])
    # Its configuration is in its folder, so random weights need nothing else.
    result = suite.pytester.runpytest_inprocess("benchmarks", "--vdb-weights=random", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*not applicable: sharpness*random weights*"])


def test_every_test_runs_once_a_model(suite):
    suite.write(BODY + "\n\ndef test_plain():\n    pass\n")
    result = suite.run("--vdb-model=tiny-ltx", "--co", "-q")
    result.stdout.fnmatch_lines(
        ["*test_quality?model_under_test-build?", "*test_quality?tiny-ltx?", "*test_plain"]
    )


def test_the_same_model_twice_is_refused(suite):
    suite.write(BODY)
    result = suite.run("--vdb-model=model_under_test:build")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*asked for twice*"])


def test_a_hook_adds_names(suite):
    suite.write(BODY)
    (suite.root / "conftest.py").write_text(
        "def pytest_vdb_models():\n"
        "    from pytest_vdb import ModelSpec\n"
        "    return [ModelSpec('ours', 'factory', 'model_under_test:build')]\n"
    )
    result = suite.pytester.runpytest_inprocess("benchmarks", "--vdb-model=ours")
    result.assert_outcomes(passed=1)


def test_collecting_loads_no_model(suite):
    suite.model("raise SystemExit('loaded')")
    suite.write(BODY)
    assert suite.run("--co").ret == 0


def test_a_model_that_cannot_be_imported_says_where_it_was_looked_for(suite):
    suite.write(BODY)
    result = suite.pytester.runpytest_inprocess("benchmarks", "--vdb-model=no_such_module:build")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*SourceError*no_such_module*", "0 models, 0 videos on cpu; *"])
