"""The line of progress in a real terminal: seen while it generates, and gone when it has."""

import os
import re
import subprocess
import sys
import threading

BENCH = """
def test_plain():
    pass

def test_one(vdb):
    assert vdb.score("sharpness").mean > 0

@pytest.mark.vdb(num_inference_steps=3)
def test_two(vdb):
    assert vdb.score("sharpness").mean > 0

@pytest.mark.xfail(reason="the second video fails")
@pytest.mark.vdb(num_inference_steps=4)
def test_three(vdb):
    vdb.score("sharpness")
"""
FAILS = 'if num_inference_steps == 4 and "boat" in prompt: raise RuntimeError("no boats")'
SOON = "import pytest_vdb.progress\npytest_vdb.progress.LONG = 0\n"
COLUMNS = 100


def screen(text: str) -> list[str]:
    """The lines that a terminal shows of ``text``, without their ends' spaces."""
    lines, row, column = [[]], 0, 0
    for part in re.findall(r"\x1b\[\d*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", text):
        lines += [[]] if row + 1 == len(lines) else []
        match part, part[-1]:
            case "\n", _:
                row += 1
            case "\r", _:
                column = 0
            case "\x1b[K", _:
                del lines[row][column:]
            case "\x1b[A", _:
                row -= 1
            case _, "C" if part[0] == "\x1b":
                column += int(part[2:-1])
            case _:
                lines[row] += " " * (column - len(lines[row]))
                lines[row][column : column + len(part)] = part
                column += len(part)
    return ["".join(line).rstrip() for line in lines]


def in_a_terminal(suite, *flags):
    """What a run writes to its terminal."""
    suite.engine(FAILS)
    suite.write(BENCH)
    (suite.root / "conftest.py").write_text(SOON)
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--color=no", "benchmarks"]
    with subprocess.Popen(
        [*command, "--vdb-model=model_under_test:build", *flags],
        cwd=suite.root,
        env={**os.environ, "COLUMNS": str(COLUMNS), "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        late = threading.Timer(120, process.kill)
        late.start()
        parts = []
        try:
            while part := os.read(ours, 4096):
                parts.append(part)
        except OSError:
            pass  # how Linux says that nobody has the other side any more
        late.cancel()
        assert process.wait(timeout=60) == 0
    os.close(ours)
    return b"".join(parts).decode()


def test_progress_leaves_the_screen_as_it_was(suite):
    text = in_a_terminal(suite)
    line = r"\rvdb: model_under_test:build: 1/2 videos, \d+ s left\x1b\[K"
    assert len(re.findall(line, text)) == 3
    assert text.count("\n\r\x1b[K") == 3  # and each is erased, that of the failure too
    shown = screen(text)
    assert f"{'benchmarks/test_bench.py ...x':{COLUMNS - 8}} [100%]" in shown
    assert not [line for line in shown if "videos, " in line]


def test_nothing_is_written_where_pytest_is_quiet(suite):
    assert "videos, " not in in_a_terminal(suite, "-q")
