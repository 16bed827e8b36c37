"""A server that is slow, wrong, rude or gone: each failure is named, nothing hangs or stays."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pytest_vdb.errors import (
    BadSetting,
    GenerationTimeout,
    InfraError,
    SourceError,
    VdbError,
)
from pytest_vdb.measure.clock import Alarm
from pytest_vdb.measure.serve import ServedSource, Server
from pytest_vdb.models.endpoint import EndpointSource
from pytest_vdb.models.sources import SERVE
from pytest_vdb.records import ModelSpec, Prompt
from tests.conftest import VIDEO_SERVER, Control, Seen, tell

CALL = {"num_frames": 5, "height": 32, "width": 32, "num_inference_steps": 2}
CAT = Prompt("cat", "a cat")


@pytest.fixture
def source(server: Server) -> Iterator[EndpointSource]:
    source = open_endpoint(server.url)
    yield source
    source.close()


def open_endpoint(url: str, **options: Any) -> EndpointSource:
    chosen = {"poll_interval": 0.01, "request_timeout": 1.0, **options}
    return EndpointSource(ModelSpec("served", "endpoint", url, options=chosen))


def methods(seen: Seen) -> list[str]:
    return [one["method"] for one in seen()]


# ---------------------------------------------------------------------- what may be repeated


@pytest.mark.parametrize("trouble", ["get-500", "get-503", "get-close", "get-hang"])
def test_a_look_is_repeated(trouble: str, control: Control, server: Server) -> None:
    source = open_endpoint(server.url, request_timeout=0.5)
    control(modes={trouble: 2}, seconds=0.8)
    output = source.generate(CAT, 0, CALL)
    assert output.frames.shape == (5, 32, 32, 3)
    assert len(source.retried) == 2
    assert all(note.startswith("GET /v1/videos/video_") for note in source.retried)
    source.close()


def test_an_end_that_was_seen_late_has_no_time(control: Control, source: EndpointSource) -> None:
    """The job ends while looks fail: when, nobody knows, so nothing is said."""
    control(modes={"get-429": 2})  # each asks for a second
    output = source.generate(CAT, 0, {**CALL, "num_inference_steps": 1, "num_frames": 1})
    assert output.seconds is None
    assert output.frames.shape == (1, 32, 32, 3)
    assert source.generate(CAT, 0, CALL).seconds is not None


def test_a_busy_servers_wait_is_not_in_the_time(
    control: Control, source: EndpointSource, seen: Seen
) -> None:
    control(modes={"post-429": 1})  # "Retry-After: 1"
    start = time.perf_counter()
    output = source.generate(CAT, 0, CALL)
    elapsed = time.perf_counter() - start
    assert output.seconds is not None
    assert output.queue is not None
    assert output.seconds + output.queue < elapsed - 1
    assert source.retried == ["POST /v1/videos: HTTP 429 as asked: 429"]
    assert methods(seen).count("POST") == 2


@pytest.mark.parametrize("trouble", ["post-500", "post-close", "post-hang", "post-503"])
def test_a_post_that_may_have_made_a_job_is_not_repeated(
    trouble: str, control: Control, seen: Seen, server: Server
) -> None:
    source = open_endpoint(server.url, job_timeout=0.5)
    control(modes={trouble: 1}, seconds=0.8)
    with pytest.raises(SourceError if trouble == "post-500" else InfraError):
        source.generate(CAT, 0, CALL)
    assert methods(seen).count("POST") == 1
    assert source.retried == []
    source.close()


def test_a_download_that_breaks_off_is_repeated(
    control: Control, source: EndpointSource, seen: Seen
) -> None:
    control(modes={"cut-off": 1})
    assert source.generate(CAT, 0, CALL).frames.shape == (5, 32, 32, 3)
    (note,) = source.retried
    assert note.endswith("the answer ended too early")


# ---------------------------------------------------------------------- what is wrong, in words


@pytest.mark.parametrize(
    ("modes", "call", "kind", "words"),
    [
        ({}, {"num_frames": 500}, SourceError, r"HTTP 400 num_frames must be at most 100\\x07;"),
        ({"fail": 1}, {}, SourceError, r"the job failed: NaN\\x1b\[31m in step 3"),
        ({"post-garbage": 1}, {}, SourceError, "describes no video job"),
        ({"post-huge": 1}, {}, SourceError, "more than 1048576 bytes"),
        ({"post-404": 1}, {}, SourceError, r"OpenAI video API \(/v1/videos\)"),
        ({"post-401": 1}, {}, BadSetting, "VDB_API_KEY"),
        ({"post-429": 9}, {}, InfraError, "HTTP 429 as asked: 429; the server is overloaded"),
        ({"get-garbage": 9}, {}, SourceError, "describes no video job"),
        ({"get-404": 9}, {}, InfraError, "no longer knows a job .* was the server restarted"),
        ({"get-500": 9}, {}, InfraError, "does not answer GET .*: 3 times: HTTP 500 as asked"),
        ({"get-close": 9}, {}, InfraError, "3 times: Remote end closed connection"),
        ({"truncate": 1}, {}, SourceError, "the server's video cannot be decoded"),
        ({"cut-off": 9}, {}, InfraError, "3 times: the answer ended too early"),
        ({"redirect": 9}, {}, SourceError, "redirects .* more than 3 times"),
        ({"redirect-away": 9}, {}, SourceError, "192.0.2.1/video.mp4, which is another server"),
    ],
)
def test_every_failure_is_named(
    modes: dict[str, int],
    call: dict[str, Any],
    kind: type[VdbError],
    words: str,
    control: Control,
    source: EndpointSource,
) -> None:
    control(modes=modes)
    with pytest.raises(kind, match=words) as info:
        source.generate(CAT, 0, {**CALL, **call})
    assert str(info.value).isprintable()
    control()
    source.generate(CAT, 0, CALL)  # and the next one runs


def test_a_redirect_inside_the_server_is_followed(control: Control, source: EndpointSource) -> None:
    control(modes={"redirect": 1})
    assert source.generate(CAT, 0, CALL).frames.shape == (5, 32, 32, 3)


def test_nothing_listens() -> None:
    with pytest.raises(InfraError, match=r"does not answer GET /health: 3 times: .*refused.*serve"):
        open_endpoint("http://127.0.0.1:9")


def test_something_listens_and_says_nothing() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        with pytest.raises(InfraError, match=r"no answer within 0\.1 s"):
            open_endpoint(f"http://127.0.0.1:{port}", request_timeout=0.1, retries=0)


def test_one_of_many_fails_and_the_others_are_there(
    control: Control, source: EndpointSource
) -> None:
    control(modes={"fail": 1})
    outputs, _ = source.generate_many([(CAT, seed) for seed in range(3)], CALL, 2)
    assert sorted(type(one).__name__ for one in outputs) == ["Output", "Output", "SourceError"]


# ---------------------------------------------------------------------- what never ends


def test_a_job_that_stays_queued_ends_and_is_deleted(
    control: Control, server: Server, seen: Seen
) -> None:
    source = open_endpoint(server.url, job_timeout=0.4)
    control(modes={"stay-queued": 1}, seconds=0.9)
    with pytest.raises(GenerationTimeout, match=r"still 'queued' after 0\.4 s; raise job_timeout"):
        source.generate(CAT, 0, CALL)
    assert methods(seen)[-1] == "DELETE"
    source.close()


@pytest.mark.parametrize("where", ["stay-queued", "get-hang"])
def test_the_runners_time_limit_ends_a_job(
    where: str, control: Control, server: Server, seen: Seen
) -> None:
    """Also amid a read: the limit is no failed look, which would be repeated."""
    source = open_endpoint(server.url, request_timeout=10.0)
    control(modes={where: 1}, seconds=1.5)
    with pytest.raises(GenerationTimeout, match="too slow"), Alarm(0.6, lambda: "too slow"):
        source.generate(CAT, 0, CALL)
    deadline = time.monotonic() + 5
    while "DELETE" not in methods(seen) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert methods(seen).count("DELETE") == 1  # not the last one: a look may arrive after it
    assert source.retried == []
    source.close()


def test_the_runners_time_limit_ends_many_jobs(
    control: Control, source: EndpointSource, seen: Seen
) -> None:
    control(modes={"stay-queued": 1}, seconds=1.5)
    with pytest.raises(GenerationTimeout, match="too slow"), Alarm(0.6, lambda: "too slow"):
        source.generate_many([(CAT, seed) for seed in range(6)], CALL, 3)
    deadline = time.monotonic() + 5
    while methods(seen).count("DELETE") < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (methods(seen).count("POST"), methods(seen).count("DELETE")) == (3, 3)
    assert not [t for t in threading.enumerate() if t.name.startswith("vdb-endpoint")]


# ---------------------------------------------------------------------- a server of our own


def command(*words: str) -> str:
    return f"{sys.executable} {VIDEO_SERVER} {{port}} {' '.join(words)}"


def gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + 5
    while left := [pid for pid in pids if psutil.pid_exists(pid)]:
        if time.monotonic() > deadline:
            return not left
        time.sleep(0.05)
    return True


def test_a_server_is_ended_with_all_its_children(tmp_path: Path) -> None:
    spec = ModelSpec("served", "endpoint", SERVE + command(str(tmp_path)))
    source = ServedSource(spec, tmp_path / "server.log")
    try:
        assert source.server.load > 0
        assert source.server.alive
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        assert all(psutil.pid_exists(pid) for pid in pids)
    finally:
        source.close()
    assert gone(pids)


def test_a_server_that_dies_leaves_its_last_words(tmp_path: Path) -> None:
    spec = ModelSpec("served", "endpoint", SERVE + command(str(tmp_path)))
    source = ServedSource(spec, tmp_path / "server.log")
    try:
        tell(source.server.url, modes={"post-die": 1})
        words = r"it has ended, its last lines:\n  \| listening"
        with pytest.raises(InfraError, match=words):
            source.generate(CAT, 0, CALL)
        (one,), _ = source.generate_many([(CAT, 0)], CALL, 1)
        assert isinstance(one, InfraError)
        assert "its last lines" in str(one)
    finally:
        source.close()
    assert gone([int(pid) for pid in (tmp_path / "pids").read_text().split()])


def test_a_server_that_cannot_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDEO_SERVER_DIES", "1")
    with (
        pytest.raises(SourceError, match=r"ended before it was ready(?s:.*)\| CUDA error: no kern"),
        Server(command(str(tmp_path)), tmp_path / "server.log"),
    ):
        pytest.fail("it is not ready")
    assert gone([int(pid) for pid in (tmp_path / "pids").read_text().split()])


def test_a_server_that_is_never_ready_is_ended(tmp_path: Path) -> None:
    sleeps = f"{sys.executable} -c 'import time; print(\"soon\"); time.sleep(600)' {{port}}"
    before = set(psutil.Process().children(recursive=True))
    with (
        pytest.raises(GenerationTimeout, match=r"not ready within 1 s; raise --vdb-timeout"),
        Server(sleeps, tmp_path / "server.log", startup=1),
    ):
        pytest.fail("it is not ready")
    assert set(psutil.Process().children(recursive=True)) == before


def test_a_server_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom pytest_vdb.measure.serve import Server\n"
        f"with Server({command(str(tmp_path))!r}, Path({str(tmp_path / 'log')!r})):\n"
        "    print('ready', flush=True)\n    time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert all(psutil.pid_exists(pid) for pid in pids)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert gone(pids)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("vllm serve model", r"does not say where the port goes: write \{port\}"),
        ("", "where the port goes"),
        ("no-such-program --port {port}", "no program 'no-such-program'"),
        ("serve 'x --port {port}", "No closing quotation"),
    ],
)
def test_a_command_that_cannot_be(typed: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=words):
        Server(typed, tmp_path / "log")
