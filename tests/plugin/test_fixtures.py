"""The fixtures."""


def test_vdb_pipeline_is_the_one_that_generates(suite):
    suite.write(
        "def test_live(vdb, vdb_pipeline):\n"
        "    assert type(vdb_pipeline).__name__ == 'WanPipeline'\n"
        "    vdb_pipeline.marked = True\n"
        "    assert vdb.score('sharpness').mean > 0\n"
        "def test_same(vdb_pipeline):\n"
        "    assert vdb_pipeline.marked\n"
    )
    suite.run().assert_outcomes(passed=2)


def test_vdb_pipeline_of_a_child_process_is_refused(suite):
    suite.write("def test_live(vdb_pipeline):\n    pass")
    result = suite.run("--vdb-runner=child")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*vdb_pipeline needs a pipeline in this process*"])


def test_a_fixture_asked_for_by_name_says_how_to_ask(suite):
    suite.write("def test_live(request):\n    request.getfixturevalue('vdb')")
    result = suite.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*make it an argument of the test*"])


def test_vdb_baseline_is_what_is_stored(suite):
    suite.write(
        "def test_stored(vdb, vdb_baseline):\n"
        "    assert vdb.score('sharpness').mean > 0\n"
        "    if vdb_baseline['quality'] is not None:\n"
        "        assert list(vdb_baseline['quality'].measurements) == ['sharpness']\n"
        "        print('SEEN')\n"
    )
    suite.run("--vdb-update").assert_outcomes(passed=1)
    suite.run("-s").stdout.fnmatch_lines(["*SEEN*"])


def test_one_generation_serves_all_tests_of_a_workload(suite):
    suite.model("import pathlib\npathlib.Path('loads').open('a').write('x')")
    suite.write(
        "def test_a(vdb):\n    assert vdb.score('sharpness').mean > 0\n"
        "def test_b(vdb):\n    assert vdb.latency.median < 100\n"
        "@pytest.mark.vdb(num_frames=9)\ndef test_c(vdb):\n    assert vdb.latency.median < 100\n"
    )
    suite.run().assert_outcomes(passed=3)
    assert (suite.root / "loads").read_text() == "x"


def test_a_swallowed_error_fails_all_the_same(suite):
    suite.model("raise RuntimeError('broken on purpose')")
    suite.write(
        "def test_a(vdb):\n"
        "    try:\n        vdb.latency.median\n    except Exception:\n        pass\n"
    )
    result = suite.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*broken on purpose*"])
