"""``--vdb-serve``: a real server in a process of its own, gated like any other model."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.plugin.conftest import SIZE, Suite

SERVER = Path(__file__).parents[1] / "video_server.py"
BODY = """
def test_speed(vdb):
    assert vdb.latency.median < 60
    assert vdb.throughput.headline > 0
    assert vdb.latency.queue.mean < 60

def test_memory(vdb):
    assert vdb.memory.peak < 1

def test_quality(vdb):
    assert vdb.score("motion_energy").min > 0
    assert vdb.score("ssim").min > 0.9
"""


def run(suite: Suite, *args: str) -> pytest.RunResult:
    command = f"{sys.executable} {SERVER} {{port}}"
    return suite.pytester.runpytest_inprocess(
        "-p", "no:cacheprovider", "benchmarks", "--vdb-model=tiny-wan", "-rs",
        f"--vdb-serve={command}", *args,
    )  # fmt: skip


def test_a_served_model_is_gated_like_any_other(
    suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the first run all but its latency is stored: it is looked at too seldom."""
    monkeypatch.setenv("VIDEO_SERVER_DRAWS", "1")
    # Long enough to be seen leaving the queue, also by a client that is kept waiting.
    suite.write(BODY, f"prompts=['a red fox', 'a blue boat'], num_inference_steps=16, {SIZE}")
    coarse = ["--vdb-set=poll_interval=0.5", "--vdb-tolerance=latency=5%"]
    result = run(suite, "--vdb-update", *coarse)
    result.assert_outcomes(passed=1, skipped=1, failed=1)
    result.stdout.fnmatch_lines(["*UNMEASURED latency*quarter of the tolerance*poll_interval=*"])
    # The server says nothing of its memory.
    result.stdout.fnmatch_lines(["*not applicable: memory.peak*reports no memory*"])
    result = run(suite)
    result.assert_outcomes(passed=2, skipped=1)
    result.stdout.fnmatch_lines(["*ssim*IDENTICAL*"])


def test_a_server_that_does_not_start_fails_with_its_last_words(
    suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDEO_SERVER_DIES", "1")
    suite.write("def test_speed(vdb):\n    assert vdb.latency.median < 60\n")
    command = f"{sys.executable} {SERVER} {{port}} {suite.root}"
    result = suite.pytester.runpytest_inprocess(
        "-p", "no:cacheprovider", "benchmarks", "--vdb-model=tiny-wan", f"--vdb-serve={command}"
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*SourceError: the server (--vdb-serve*", "*no kernel image*"])


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--vdb-serve=server --port 80"], "*{port}*"),
        (["--vdb-serve=server {port}", "--vdb-weights=random"], "*loads its own weights*"),
        (["--vdb-serve=server {port}", "--vdb-model=tiny-ltx"], "*name one --vdb-model*"),
    ],
)
def test_a_wrong_combination_ends_the_run(suite: Suite, args: list[str], words: str) -> None:
    suite.write(BODY)
    result = suite.run(*args)
    assert result.ret == 4
    result.stderr.fnmatch_lines([words])
