"""The command that runs one test again."""

import pytest

from pytest_vdb.report.again import command, flags, of

TEST = "benchmarks/test_it.py::test_speed[wan]"


@pytest.mark.parametrize(
    ("arguments", "flags"),
    [
        (["benchmarks", "--vdb-model=wan", "-n4", "-k", "speed"], "--vdb-model=wan"),
        (["--vdb-model", "wan", "--vdb-base", "main", "x"], "--vdb-model wan --vdb-base main"),
        (["--vdb-json=a.json", "--vdb-update", "--vdb-html", "page", "--vdb-csv=a.csv"], ""),
        (
            ["--vdb-set", "prompt=a b; rm", "--vdb-crowded"],
            "--vdb-set 'prompt=a b; rm' --vdb-crowded",
        ),
        (["--vdb-model"], "--vdb-model ''"),
        (["--vdb-model=", "benchmarks"], "--vdb-model="),
        (["--vdb-store=https://me:secret@x/y?key=1"], "--vdb-store=https://x/y"),
        (["--vdb-set=prompt=http://me:secret@[x"], "--vdb-set=prompt=http://..."),
        (["--vdb-serve", "serve --api-key=secret"], "--vdb-serve=..."),
    ],
    ids=["equals", "spaces", "writes", "quoted", "cut short", "empty", "URL", "no URL", "server"],
)
def test_it_has_the_flags_that_decide_what_runs(arguments, flags):
    assert command(arguments, TEST) == f"pytest '{TEST}' {flags}".rstrip()


def test_what_a_run_says_of_its_flags_says_no_more_when_it_is_read_again():
    given = ["x", "--vdb-model=wan", "--vdb-serve", "run --key=secret", "--vdb-json", "a.json"]
    kept = [*flags(given)]
    assert kept == ["--vdb-model=wan", "--vdb-serve=..."]
    assert [*flags(kept)] == kept
    assert of({"flags": kept}, TEST) == command(given, TEST)


@pytest.mark.parametrize(
    ("run", "nodeid"),
    [
        ({}, TEST),
        ({"flags": None}, TEST),
        ({"flags": "--vdb-model=wan"}, TEST),
        ({"flags": [1]}, TEST),
        ({"flags": []}, "--pdbcls=os:system"),
        ({"flags": []}, "@options.txt"),
    ],
    ids=["an older run", "none", "a text", "a number", "an option for a test", "a file of options"],
)
def test_a_run_that_does_not_tell_has_no_command(run, nodeid):
    assert of(run, nodeid) == ""


def test_what_a_run_says_of_others_flags_is_left_out():
    assert of({"flags": ["-p", "evil", "--vdb-base-setup=rm -rf ~", "; rm"]}, TEST) == (
        f"pytest '{TEST}' --vdb-base-setup=..."
    )
