"""A served model, asked over real HTTP: a server in a process of its own that really generates."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pytest_vdb.errors import BadSetting, SourceError
from pytest_vdb.measure.serve import ServedSource, Server
from pytest_vdb.models.endpoint import EndpointSource
from pytest_vdb.models.server_report import memory_of, read_options, stages_of, too_coarse
from pytest_vdb.models.sources import Output
from pytest_vdb.models.video_api import Address, encode_form, retry_after, said
from pytest_vdb.models.video_api import Reply as HttpReply
from pytest_vdb.records import ModelSpec, Prompt
from tests.conftest import Control, Seen

CALL = {"num_frames": 5, "height": 32, "width": 32, "num_inference_steps": 2}
CAT, DOG = Prompt("cat", "a cat"), Prompt("dog", "a dog")


@pytest.fixture
def source(server: Server) -> Iterator[EndpointSource]:
    source = open_endpoint(server.url)
    yield source
    source.close()


def open_endpoint(url: str, **options: Any) -> EndpointSource:
    return EndpointSource(
        ModelSpec("served", "endpoint", url, options={"poll_interval": 0.01, **options})
    )


@pytest.fixture(scope="module")
def directly() -> np.ndarray:
    """The cat of seed 0 without any server, as uint8."""
    import torch

    from pytest_vdb.models.embedded import tiny_wan

    with torch.inference_mode():
        generator = torch.Generator("cpu").manual_seed(0)
        video = tiny_wan()("a cat", generator=generator, output_type="np", **CALL).frames[0]
    return (video * 255).round().astype(np.uint8)


# ---------------------------------------------------------------------- a video


@pytest.mark.parametrize("dialect", ["openai", "sglang", "vllm-omni"])
def test_every_dialect_gives_the_models_own_video(
    dialect: str, control: Control, source: EndpointSource, directly: np.ndarray
) -> None:
    control(dialect=dialect)
    output = source.generate(CAT, 0, {**CALL, "fps": 12.0})
    assert output.frames.dtype == np.uint8
    assert np.array_equal(output.frames, directly)
    assert output.fps == 12
    assert not np.array_equal(source.generate(CAT, 1, CALL).frames, directly)


def test_a_server_of_ours_has_a_load(served: ServedSource, directly: np.ndarray) -> None:
    assert served.server.load > 0.5  # it imported torch
    assert "load" in served.provides
    assert np.array_equal(served.generate(CAT, 0, CALL).frames, directly)
    (output,), _ = served.generate_many([(CAT, 0)], CALL, 1)
    assert isinstance(output, Output)
    assert np.array_equal(output.frames, directly)


def test_a_form_is_tried_once_and_then_remembered(
    control: Control, source: EndpointSource, seen: Seen
) -> None:
    control(dialect="vllm-omni")
    source.generate(CAT, 0, CALL)
    source.generate(CAT, 0, CALL)
    posts = [one["fields"] for one in seen() if one["method"] == "POST"]
    asked = {"prompt": "a cat", "seed": 0, "size": "32x32"}
    asked |= {"num_frames": 5, "num_inference_steps": 2}
    assert posts == [asked, *[{k: str(v) for k, v in asked.items()}] * 2]


def test_the_servers_own_words_for_arguments(
    control: Control, source: EndpointSource, seen: Seen
) -> None:
    """Diffusers' names become the API's; unknown ones pass; None means: as the server likes."""
    control()
    call = {"frame_rate": 16.0, "guidance_scale": 1.5, "negative_prompt": "dull", "flow_shift": 3}
    source.generate(DOG, 7, {**CALL, **call, "boundary_ratio": None})
    (post,) = [one for one in seen() if one["method"] == "POST"]
    assert post["fields"] == {
        "prompt": "a dog",
        "seed": 7,
        "size": "32x32",
        "fps": 16,
        "num_frames": 5,
        "num_inference_steps": 2,
        "guidance_scale": 1.5,
        "negative_prompt": "dull",
        "flow_shift": 3,
    }


def test_a_conditioning_image_is_uploaded(
    control: Control, source: EndpointSource, seen: Seen, tmp_path: Path
) -> None:
    control(dialect="sglang")  # which takes a form with an image alone
    image = tmp_path / "cat.png"
    Image.new("RGB", (8, 8), "red").save(image)
    source.generate(Prompt("cat", "a cat", image=str(image)), 0, CALL)
    (post,) = [one for one in seen() if one["method"] == "POST"]
    assert post["files"] == {"input_reference": image.stat().st_size}


def test_a_server_that_answers_with_the_video(server: Server, directly: np.ndarray) -> None:
    """/v1/videos/sync: nothing is polled, and the stages come in headers."""
    source = open_endpoint(f"{server.url}/v1/videos/sync")
    output = source.generate(CAT, 0, CALL)
    assert np.array_equal(output.frames, directly)
    assert output.seconds is not None
    assert sum(output.stages.values()) == pytest.approx(output.seconds)
    assert output.stages["denoise"] > 0 < output.stages["decode"]
    assert (output.queue, output.memory, source.resolution) == (None, {}, 0.0)
    source.close()


# ---------------------------------------------------------------------- times


def test_the_queue_is_no_part_of_the_service(control: Control, source: EndpointSource) -> None:
    control(modes={"stay-queued": 2}, seconds=0.3)
    output = source.generate(CAT, 0, CALL)
    assert output.queue is not None
    assert output.seconds is not None
    assert output.seconds < 0.6 <= output.queue
    control(modes={"slow": 1}, seconds=0.6)
    slow = source.generate(CAT, 0, CALL)
    assert slow.queue is not None
    assert slow.seconds is not None
    assert slow.queue < 0.6 <= slow.seconds


def test_a_server_without_a_word_about_its_queue(control: Control, source: EndpointSource) -> None:
    """sglang says "queued" until the end: all of it is service, and of crowded jobs nothing."""
    control(dialect="sglang")
    output = source.generate(CAT, 0, CALL)
    assert output.queue is None
    assert output.seconds is not None
    outputs, _ = source.generate_many([(CAT, 0), (CAT, 1)], CALL, 2)
    assert [one.seconds for one in outputs if isinstance(one, Output)] == [None, None]


def test_throughput_counts_the_time_until_the_last_is_served(
    control: Control, source: EndpointSource, directly: np.ndarray
) -> None:
    control(modes={"slow": 4}, seconds=0.3)  # the server works on one job at a time
    heard: list[float] = []
    outputs, wall = source.generate_many(
        [(CAT, 0), (DOG, 0), (CAT, 1), (CAT, 0)], CALL, 2, lambda: heard.append(time.perf_counter())
    )
    assert len(heard) == 4
    videos = [one for one in outputs if isinstance(one, Output)]
    assert [np.array_equal(one.frames, directly) for one in videos] == [True, False, False, True]
    assert wall >= 4 * 0.3
    queues = [one.queue for one in videos]
    assert sum(queue or 0 for queue in queues) >= 0.4  # behind each other
    services = [one.seconds for one in videos if one.seconds is not None]
    assert len(services) == 4
    assert 4 * 0.3 - 0.1 <= sum(services) <= wall + 0.1  # with their queues it would be twice that


@pytest.mark.parametrize("together", [1, 3])
def test_concurrency_is_what_is_in_flight(
    together: int, control: Control, source: EndpointSource, seen: Seen
) -> None:
    control()
    source.generate_many([(CAT, seed) for seed in range(5)], CALL, together)
    assert max(one.get("open", 0) for one in seen()) == together


def test_the_resolution_is_the_time_between_two_looks(
    control: Control, server: Server, source: EndpointSource, seen: Seen
) -> None:
    coarse = open_endpoint(server.url, poll_interval=0.2)
    assert coarse.resolution == 0.2
    control(modes={"slow": 1}, seconds=0.5)
    output = coarse.generate(CAT, 0, CALL)
    assert output.seconds is not None
    assert output.queue is not None
    looks = [one for one in seen() if one["method"] == "GET" and one["path"].count("/") == 3]
    assert 2 <= len(looks) <= (output.seconds + output.queue) / 0.2 + 1
    assert coarse.resolution >= 0.2
    coarse.close()
    assert source.resolution == 0.01


def test_too_coarse_names_the_interval_that_would_do() -> None:
    assert too_coarse(0.1, 0.4) is None
    assert too_coarse(0.0, 0.0) is None  # the server gave the video without polling
    reason = too_coarse(0.1, 0.39)
    assert reason is not None
    assert "over a quarter of the tolerance (0.39 s)" in reason
    assert "poll_interval=0.09" in reason
    assert too_coarse(0.1, 0.0) is not None


# ---------------------------------------------------------------------- what the server tells


def test_stages_and_memory_come_from_the_server_alone(
    control: Control, source: EndpointSource
) -> None:
    assert source.provides == {"latency", "throughput", "quality"}
    control(dialect="vllm-omni")
    output = source.generate(CAT, 0, CALL)
    assert output.seconds is not None
    assert {"denoise", "decode"} <= set(output.stages) <= {"denoise", "decode", "other"}
    # Its start may be seen late; "forward", which is around the others, would double the sum.
    assert output.seconds <= sum(output.stages.values()) * 1.001 < output.seconds + 0.05
    assert output.memory == {}  # 0.0 is "not measured"
    assert source.provides == {"latency", "throughput", "quality", "stages"}
    control(memory=True)
    assert source.generate(CAT, 0, CALL).memory["reserved"] > 100 * 2**20
    assert source.provides == {"latency", "throughput", "quality", "stages", "memory"}


@pytest.mark.parametrize(
    ("told", "stages"),
    [
        (
            {"WanPipeline.text_encoder.forward": 1, "vae.encode": 2, "X.diffuse": 3, "decode": 1},
            {"text_encode": 1, "image_encode": 2, "denoise": 3, "decode": 1, "other": 3},
        ),
        ({"text_encoder.forward": 1, "tokenizer.forward": 1}, {"text_encode": 2, "other": 8}),
        ({"diffuse": 11}, {}),  # longer than the job itself
        ({"stage_0_gen_ms": 4000.0, "forward": 9}, {}),
        ({"diffuse": float("nan")}, {}),
        ({"diffuse": "3"}, {}),
        ({}, {}),
        (None, {}),
        ([1], {}),
    ],
)
def test_stages_of(told: Any, stages: dict[str, float]) -> None:
    assert stages_of({"stage_durations": told}, 10.0) == stages
    assert stages_of({"stage_durations": told}, None) == {}


def test_stages_may_be_longer_than_a_job_that_was_seen_late() -> None:
    told = {"stage_durations": {"diffuse": 3.0, "vae.decode": 1.0}}
    assert stages_of(told, 3.9, slack=0.2) == {"denoise": 3.0, "decode": 1.0}
    assert stages_of(told, 3.9, slack=0.05) == {}


@pytest.mark.parametrize("told", [0, 0.0, None, -1, "12", True, float("nan"), float("inf")])
def test_memory_that_was_not_measured_is_none(told: Any) -> None:
    assert memory_of({"peak_memory_mb": told}) == {}
    assert memory_of({}) == {}
    assert memory_of({"peak_memory_mb": 1.5}) == {"reserved": 1572864}


# ---------------------------------------------------------------------- what people type


@pytest.mark.parametrize(
    ("location", "create"),
    [
        ("http://h:1", "/v1/videos"),
        ("http://h:1/", "/v1/videos"),
        ("http://h:1/v1", "/v1/videos"),
        ("http://h:1/v1/videos/", "/v1/videos"),
        ("http://h:1/v1/videos/sync", "/v1/videos/sync"),
        ("http://h:1/behind/a/proxy/v1", "/behind/a/proxy/v1/videos"),
    ],
)
def test_addresses(location: str, create: str) -> None:
    address = Address.of(location)
    assert (address.origin, address.create) == ("http://h:1", create)
    assert Address.of("https://h").origin == "https://h:443"
    assert Address.of("http://[::1]:5").origin == "http://[::1]:5"


@pytest.mark.parametrize(
    "location",
    ["", "h:1", "ftp://h:1", "file:///etc/passwd", "http://", "http://h:99999", "http://h:1?a=b"],
)
def test_what_is_no_address(location: str) -> None:
    with pytest.raises(BadSetting, match=r"such as http://127\.0\.0\.1:8000"):
        Address.of(location)


def test_a_password_in_a_url_is_refused_and_not_shown() -> None:
    with pytest.raises(BadSetting, match="VDB_API_KEY") as info:
        Address.of("http://me:secret@h:1")
    assert "secret" not in str(info.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"poll_interval": 0}, r"poll_interval=0: give a number of seconds from 0\.001"),
        ({"poll_interval": "1"}, "a number of seconds"),
        ({"poll_interval": float("nan")}, "a number of seconds"),
        ({"concurrency": 0}, "a whole number from 1"),
        ({"concurrency": 1.5}, "a whole number from 1"),
        ({"retries": True}, "a whole number from 0"),
        ({"vae_tiling": True}, "does nothing to a server"),
    ],
)
def test_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadSetting, match=message):
        read_options(options)
    assert read_options({"retries": 0})["retries"] == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"seed": 1}, "'seed' of model 'served' is set by the plugin"),
        ({"input_reference": "x"}, "set by the plugin"),
        ({"height": 32}, "width and height together"),
        ({"height": 32, "width": 32, "size": "1x1"}, "or size="),
    ],
)
def test_calls_that_cannot_be(call: dict[str, Any], message: str, source: EndpointSource) -> None:
    with pytest.raises(SourceError, match=message):
        source.generate(CAT, 0, call)


def test_a_key_is_sent_and_never_shown(
    control: Control, source: EndpointSource, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VDB_API_KEY", "sk-secret")
    control(modes={"post-401": 1})
    with pytest.raises(BadSetting, match="set VDB_API_KEY to a key") as info:
        source.generate(CAT, 0, CALL)
    assert "sk-secret" not in str(info.value)
    assert next(one["key"] for one in seen() if one["method"] == "POST") == "Bearer sk-secret"
    monkeypatch.setenv("VDB_API_KEY", "sk-secret\n")
    with pytest.raises(BadSetting, match="without line ends") as info:
        source.generate(CAT, 0, CALL)
    assert "sk-secret" not in str(info.value)


# ---------------------------------------------------------------------- the wire


def reply(body: bytes, **headers: str) -> HttpReply:
    return HttpReply(400, headers, body, 0.0, 0.0)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": {"message": "too many"}}', "too many"),
        (b'{"detail": "too many"}', "too many"),
        (b'{"error": "too\\n many"}', "too many"),
        (
            b'{"detail": [{"loc": ["body", "fps"], "msg": "must be whole"}]}',
            "body.fps: must be whole",
        ),
        (b"<h1>Bad Gateway</h1>", "<h1>Bad Gateway</h1>"),
        (b"\x1b[31mred\xff", "\\x1b[31mred\N{REPLACEMENT CHARACTER}"),
        (b"[" * 100_000, "[" * 500 + " ..."),
        (b'{"error": ' * 50 + b"1" + b"}" * 50, '{"error": ' * 45 + "1" + "}" * 45),
        (b"", ""),
    ],
)
def test_an_errors_words_in_any_dialect(body: bytes, words: str) -> None:
    assert said(reply(body)) == words


def test_retry_after() -> None:
    assert retry_after(reply(b"", **{"retry-after": "3"}), 0.1) == 3
    assert retry_after(reply(b"", **{"retry-after": "86400"}), 0.1) == 60
    assert retry_after(reply(b"", **{"retry-after": "Fri, 01 Jan 2027 00:00:00 GMT"}), 0.1) == 0.1
    assert retry_after(reply(b""), 0.1) == 0.1


def test_a_form_cannot_be_broken_out_of() -> None:
    body, kind = encode_form({'a"\r\nX: 1\r\n\r\n': "b\r\n--c", "d": [1, {"e": True}]})
    boundary = kind.partition("boundary=")[2].encode()
    assert body.count(b"--" + boundary) == 3
    assert b'name="a\\"X: 1"\r\n\r\nb\r\n--c\r\n' in body
    assert b'name="d"\r\n\r\n[1, {"e": true}]\r\n' in body
