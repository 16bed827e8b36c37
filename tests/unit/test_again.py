"""The command that runs one test again."""

import pytest

from pytest_vdb.report.again import command

TEST = "benchmarks/test_it.py::test_speed[wan]"


@pytest.mark.parametrize(
    ("arguments", "flags"),
    [
        (["benchmarks", "--vdb-model=wan", "-n4", "-k", "speed"], "--vdb-model=wan"),
        (["--vdb-model", "wan", "--vdb-base", "main", "x"], "--vdb-model wan --vdb-base main"),
        (["--vdb-json=a.json", "--vdb-update", "--vdb-html", "page", "--vdb-shard=1/2"], ""),
        (
            ["--vdb-set", "prompt=a b; rm", "--vdb-crowded"],
            "--vdb-set 'prompt=a b; rm' --vdb-crowded",
        ),
        (["--vdb-model"], "--vdb-model ''"),
        (["--vdb-store=https://me:secret@x/y?key=1"], "--vdb-store=https://x/y"),
        (["--vdb-serve", "serve --api-key=secret"], "--vdb-serve=..."),
    ],
    ids=["equals", "spaces", "writes", "quoted", "cut short", "URL", "server"],
)
def test_it_has_the_flags_that_decide_what_runs(arguments, flags):
    assert command(arguments, TEST) == f"pytest '{TEST}' {flags}".rstrip()
