"""--vdb-store and --vdb-baselines as URLs"""

import http.server
import json
import shutil
import socket
import threading
from functools import partial

import pytest

from pytest_vdb.cli import main
from pytest_vdb.records import Environment

BENCH = """
import pytest

def test_quality(vdb):
    assert vdb.score("temporal_flickering").mean > 0.5
    assert vdb.score("ssim").min > 0.5
"""


@pytest.fixture
def repo(pytester, monkeypatch, draw, tmp_path):
    """A suite of recorded clips with its baseline, and a cache of its own."""
    monkeypatch.setenv("CI", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (pytester.path / "benchmarks").mkdir()
    (pytester.path / "benchmarks/test_bench.py").write_text(BENCH)
    draw(pytester.path / "clips")
    assert run(pytester, "--vdb-update", "--vdb-run-source=base").ret == 0
    return pytester


def run(pytester, *args):
    command = ["-p", "no:cacheprovider", "benchmarks", "--vdb-videos=clips", *args]
    return pytester.runpytest_inprocess(*command, "--vdb-json=run.json")


def states(pytester):
    tests = json.loads((pytester.path / "run.json").read_text())["tests"]
    return {m["name"]: m["verdict"]["state"] for test in tests for m in test["measurements"]}


SAME = {"temporal_flickering": "IDENTICAL", "ssim": "IDENTICAL"}


def test_baselines_are_pushed_and_read_over_http_and_then_from_the_cache(repo, tmp_path, capsys):
    shared = tmp_path / "shared"
    media = repo.path / "baselines/media"
    assert main(["push", str(repo.path / "baselines"), f"file://{shared}", "--files"]) == 0
    assert "2 media sent, 0 were there, 1 baseline files sent" in capsys.readouterr().out
    assert main(["push", str(repo.path / "baselines"), f"file://{shared}", "--files"]) == 0
    assert "0 media sent, 2 were there, 0 baseline files sent" in capsys.readouterr().out

    here = repo.path / "baselines"
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(shared))
    handler.func.log_message = lambda *_: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://user:secret@127.0.0.1:{server.server_port}"
    plain = url.replace("user:secret@", "")
    try:
        moved = shutil.move(here, tmp_path / "moved")
        result = run(repo, f"--vdb-baselines={plain}")
        assert result.ret == 0, result.stdout.str()
        assert states(repo) == SAME
        result.stdout.fnmatch_lines([f"vdb: ours on cpu; baselines {plain} (*"])
        shutil.move(moved, here)
    finally:
        server.shutdown()
        server.server_close()

    # Offline: the files are in the repository, the media in the cache.
    kept = shutil.move(media, tmp_path / "kept")
    assert run(repo, f"--vdb-store={plain}/media").ret == 0
    assert states(repo) == SAME
    one = sorted((tmp_path / "cache/pytest-vdb/media").glob("*/*"))[0]
    one.unlink()
    result = run(repo, f"--vdb-store={plain}/media")
    assert result.ret == 1
    missing = f"*cannot be reached*Of 2 reference media*1 are in the cache*{one.stem[:12]}*"
    result.stdout.fnmatch_lines([missing])
    # An unreachable server holds no baseline that could be trusted.
    result = run(repo, f"--vdb-baselines={url}")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*cannot be reached*never taken from a cache*"])
    result.stdout.no_fnmatch_line("*secret*")

    # An altered medium is no reference, wherever it comes from.
    altered = tmp_path / "kept" / one.stem[:2] / one.name
    altered.write_bytes(altered.read_bytes()[:-1])
    result = run(repo, f"--vdb-store=file://{kept}")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*does not match its name*"])


def test_an_update_brings_media_to_the_store(repo, tmp_path):
    store = tmp_path / "store"
    shutil.rmtree(repo.path / "baselines")
    flags = ("--vdb-update", "--vdb-run-source=base", f"--vdb-store=file://{store}")
    assert run(repo, *flags).ret == 0
    assert len(list(store.glob("*/*.webp"))) == 2
    assert not (repo.path / "baselines/media").exists()
    assert run(repo, f"--vdb-store=file://{store}").ret == 0
    assert states(repo) == SAME


def test_what_cannot_be_written_or_opened_is_a_usage_error(repo, tmp_path):
    result = run(repo, "--vdb-update", "--vdb-run-source=base", "--vdb-baselines=memory://x")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*vdb push --files*"])
    result = run(repo, "--vdb-store=nosuch://x")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*nosuch://x cannot be opened*"])


def test_a_push_says_what_is_lost(repo, tmp_path, capsys):
    lost = sorted((repo.path / "baselines/media").glob("*/*"))[0]
    lost.unlink()
    assert main(["push", str(repo.path / "baselines"), "memory://pushed", "--files"]) == 2
    said = capsys.readouterr()
    assert "1 media sent" in said.out
    assert lost.stem[:12] in said.err
    assert "no baseline file was sent" in said.err
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}"
    assert main(["push", str(repo.path / "baselines"), closed]) == 2
    assert "read only" in capsys.readouterr().err


def test_a_near_machines_baseline_serves_and_says_so(repo):
    """The stored file as a pool of machines with the same software would have written it."""
    [path] = (repo.path / "baselines").glob("*/*/*.json")
    data = json.loads(path.read_text())
    data["environment"]["pool"] = "lab"
    key = Environment(data["environment"]).key
    path.unlink()
    target = path.parents[1] / key / path.name
    target.parent.mkdir()
    target.write_text(json.dumps(data))
    result = run(repo)
    assert result.ret == 0, result.stdout.str()
    assert states(repo) == SAME
    label = f"{key} (same CPU model; tolerance doubled)"
    result.stdout.fnmatch_lines([f"NEAR MACHINE: held to {label} (temporal_flickering, ssim)"])
    tests = json.loads((repo.path / "run.json").read_text())["tests"]
    flickering, ssim = (m["verdict"] for m in tests[0]["measurements"])
    assert flickering["against"] == ssim["against"] == label
    assert flickering["tolerance"] == "4%"
    assert run(repo, "--vdb-require").ret == 1
