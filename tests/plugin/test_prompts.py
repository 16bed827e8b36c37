"""@pytest.mark.vdb(prompts=...): suites by tag, files and their errors."""

import pytest

FAST = "num_inference_steps=2"


@pytest.mark.parametrize(("limit", "failed"), [(64, 1), (512, 0)])
def test_a_model_that_drops_the_end_of_long_prompts_is_caught(suite, limit, failed):
    """The limit is the encoder's, in tokens; those of the tiny models are bytes."""
    suite.write(
        f"@pytest.mark.vdb(max_sequence_length={limit})\n"
        "def test_the_end_of_a_prompt_counts(vdb):\n"
        "    videos = {sample.frames_sha256 for sample in vdb.samples}\n"
        "    assert len(videos) == len(vdb.samples)\n",
        f"prompts='long:pair:1', {FAST}",
    )
    suite.run().assert_outcomes(failed=failed, passed=1 - failed)


def test_a_csv_file_by_tag(suite):
    (suite.root / "mine.csv").write_text('prompt,tags\n"a fox, running",night\na cat,day\n')
    suite.write(
        "def test_workload(vdb):\n"
        "    assert [p.text for p in vdb.workload.prompts] == ['a fox, running']",
        f"prompts='mine.csv:night', {FAST}",
    )
    suite.run().assert_outcomes(passed=1)


def test_a_wrong_line_is_named_at_collection(suite):
    (suite.root / "mine.csv").write_text("prompt,image\na fox,../fox.png\n")
    suite.write("def test_workload(vdb):\n    pass", f"prompts='mine.csv', {FAST}")
    result = suite.run("--co")
    assert result.ret == 2
    result.stdout.fnmatch_lines(["*mine.csv, line 2: image '../fox.png' leads to*put it beside*"])
    result.stdout.no_fnmatch_line("*Traceback*")
