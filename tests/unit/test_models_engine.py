"""Engines: what is asked of them, what is read of what they report, and what is refused."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pytest_vdb.errors import NoImage, SourceError
from pytest_vdb.models.embedded import tiny_wan
from pytest_vdb.models.engine import EngineSource
from pytest_vdb.models.open import open_source
from pytest_vdb.models.pipeline import PipelineSource
from pytest_vdb.models.sources import Output, Rank
from pytest_vdb.records import ModelSpec, Prompt

FOX = Prompt("fox", "a red fox runs through snow")
SIZE = {"num_frames": 5, "height": 32, "width": 32, "num_inference_steps": 2}
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 16, 8, 3), dtype=np.uint8)


@functools.cache
def wan() -> Any:
    return tiny_wan()


def wan_engine(prompt: str, *, seed: int, **arguments: Any) -> dict[str, Any]:
    """A real model behind a plain function, which times itself."""
    started = time.perf_counter()
    generator = torch.Generator().manual_seed(seed)
    video = wan()(prompt=prompt, generator=generator, output_type="np", **arguments).frames[0]
    return {"frames": video, "fps": 16, "seconds": time.perf_counter() - started}


def spec(**more: Any) -> ModelSpec:
    return ModelSpec("mine", "factory", "mine:build", **more)


def gives(result: Any, devices: int = 1, **attributes: Any) -> EngineSource:
    """An engine whose every video is ``result``; 20 ms a call, so that times can be right."""

    def engine(prompt: str, *, seed: int) -> Any:
        time.sleep(0.02)
        return result

    vars(engine).update(attributes)
    return EngineSource(spec(devices=devices), engine)


def video(result: Any, devices: int = 1) -> Output:
    return gives(result, devices).generate(FOX, 0, {})


# ---------------------------------------------------------------------- a call


def test_an_engines_video_is_that_of_its_model() -> None:
    source = EngineSource(spec(), wan_engine)
    output = source.generate(FOX, 3, SIZE)
    direct = PipelineSource(spec(), wan()).generate(FOX, 3, SIZE)
    assert np.array_equal(output.frames, direct.frames)
    assert output.fps == 16
    assert output.seconds is not None
    assert output.seconds > 0
    assert source.nbytes == 0


def test_a_method_generate_is_called_and_close_or_shutdown_ends_it() -> None:
    class Engine:
        nbytes = 7
        ended = 0

        def generate(self, prompt: str, seed: int, strength: float = 1.0) -> Any:
            return PIXELS

        def shutdown(self) -> None:
            Engine.ended += 1

        def __call__(self, request: object) -> None:
            raise AssertionError("not of the shape that is called")

    source = EngineSource(spec(), Engine())
    assert np.array_equal(source.generate(FOX, 0, {"strength": 0.5}).frames, PIXELS)
    assert source.nbytes == 7
    source.close()
    source.close()
    assert Engine.ended == 1
    with pytest.raises(SourceError, match="closed"):
        source.generate(FOX, 0, {})


def test_what_an_engine_raises_passes() -> None:
    def engine(prompt: str, seed: int) -> Any:
        raise KeyError("no such block")

    with pytest.raises(KeyError, match="no such block"):
        EngineSource(spec(), engine).generate(FOX, 0, {})


def test_an_image_goes_to_an_engine_that_takes_one() -> None:
    seen: list[object] = []

    def animate(prompt: str, image: str, *, seed: int) -> Any:
        seen.append(image)
        return PIXELS

    source = EngineSource(spec(), animate)
    source.generate(Prompt("fox", "a fox", image="/pictures/fox.png"), 0, {})
    assert seen == ["/pictures/fox.png"]
    with pytest.raises(NoImage, match="prompt 'fox' has none"):
        source.generate(FOX, 0, {})
    plain = gives(PIXELS)  # takes none, and generates from the text
    assert plain.generate(Prompt("fox", "a fox", image="/pictures/fox.png"), 0, {}).frames.size


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"step": 5}, r"takes no argument 'step': did you mean 'steps'"),
        ({"steps": 1, "seed": 1}, r"'seed' .*set by the plugin"),
        ({"steps": 1, "image": "x"}, r"'image' .*set by the plugin"),
        ({}, r"needs the argument 'steps'.*--vdb-set=steps="),
    ],
)
def test_a_wrong_argument_is_named(call: dict[str, Any], message: str) -> None:
    def engine(prompt: str, *, seed: int, steps: int) -> Any:
        return PIXELS

    with pytest.raises(SourceError, match=message):
        EngineSource(spec(), engine).generate(FOX, 0, call)


class Typed:
    """Of another shape, as engines with a request object have it."""

    def generate(self, request: object, *, log_queue: object = None) -> None:
        raise AssertionError


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (3, r"mine:build gave a int; .*DiffusionPipeline or an engine"),
        (Typed, r"class Typed: return an instance"),
        (Typed(), r"generate\(request.*takes no prompt and no seed by name"),
        (lambda prompt: None, r"takes no seed by name"),
    ],
)
def test_what_is_no_engine_is_told_what_is_needed(engine: Any, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        EngineSource(spec(), engine)


# ---------------------------------------------------------------------- what it provides


def test_nothing_is_provided_that_is_not_declared_or_reported() -> None:
    source = gives({"frames": PIXELS, "latent": torch.zeros(1, 2), "memory": {"allocated": 9}})
    assert source.provides == {"load", "latency", "quality"}
    source.generate(FOX, 0, {})
    assert source.provides == {"load", "latency", "quality", "latent", "memory"}
    assert "stages" in gives(PIXELS, provides=["stages"]).provides


def test_random_weights_have_no_quality() -> None:
    source = EngineSource(spec(weights="random"), wan_engine)
    assert "quality" not in source.provides


@pytest.mark.parametrize(
    ("words", "message"), [(["stage"], "did you mean 'stages'"), ("stages", "give a list of words")]
)
def test_an_unknown_word_is_refused(words: Any, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        gives(PIXELS, provides=words)


def test_an_engine_of_another_dtype_is_refused() -> None:
    with pytest.raises(SourceError, match=r"runs in torch.bfloat16, and float32 is asked for"):
        gives(PIXELS, dtype=torch.bfloat16)


# ---------------------------------------------------------------------- frames and sound


FLOATS = PIXELS.astype(np.float32) / 255


@pytest.mark.parametrize(
    "frames",
    [
        PIXELS,
        [Image.fromarray(p) for p in PIXELS],
        list(PIXELS),
        torch.from_numpy(PIXELS),
        torch.from_numpy(PIXELS).movedim(-1, 1),
        torch.from_numpy(PIXELS).movedim(-1, 1)[None],
        [t.movedim(-1, 0) for t in torch.from_numpy(PIXELS)],
        FLOATS,
        torch.from_numpy(FLOATS),
        torch.from_numpy(FLOATS).movedim(-1, 1),
    ],
    ids=lambda frames: f"{type(frames).__name__}-{getattr(frames, 'dtype', '')}",
)
def test_frames_of_every_form_become_channels_last(frames: Any) -> None:
    result = video(frames).frames
    assert result.shape == PIXELS.shape
    assert np.array_equal(result, PIXELS if result.dtype == np.uint8 else FLOATS)


def test_half_precision_becomes_float32() -> None:
    result = video(torch.from_numpy(FLOATS).to(torch.bfloat16))
    assert result.frames.dtype == np.float32


def test_nan_is_left_to_the_sanity_checks() -> None:
    broken = FLOATS.copy()
    broken[0, 0, 0, 0] = np.nan
    assert np.isnan(video(broken).frames).sum() == 1


async def late(prompt: str, seed: int) -> None: ...


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (FLOATS * 2 - 1, r"values from -1 to 1; give floats in \[0, 1\]"),
        (FLOATS * 255, "values from 0 to 255"),
        ("clip.mp4", "gave a str for frames"),
        ([], "gave a list for frames"),
        (PIXELS[0], r"shape \(16, 8, 3\); give one video"),
        (np.stack([PIXELS, PIXELS]), r"shape \(2, 4, 16, 8, 3\); give one video"),
        (torch.zeros(0, 3, 8, 8), r"shape \(0, 3, 8, 8\)"),
        ({"fps": 8}, "gave no frames"),
        ({"frames": None}, "gave no frames"),
        ({"frames": PIXELS, "second": 3}, "reports 'second': did you mean 'seconds'"),
        (Output(PIXELS, original="a.mp4"), "reports 'original'"),
    ],
    ids=str,
)
def test_frames_that_are_none_are_refused(frames: Any, message: str) -> None:
    with pytest.raises(SourceError, match=r"model 'mine', prompt 'fox', seed 0: .*" + message):
        video(frames)


def test_an_unawaited_coroutine_is_no_video() -> None:
    result = late("x", 0)
    with pytest.raises(SourceError, match="gave a coroutine for frames"):
        video(result)
    result.close()


def test_sound_and_latent_become_float32() -> None:
    sound = torch.linspace(-1, 1, 100, dtype=torch.bfloat16)
    latent = torch.ones(1, 4, 2, 2, dtype=torch.float16)
    output = video({"frames": PIXELS, "audio": sound, "sampling_rate": 100, "latent": latent})
    assert output.audio is not None
    assert output.audio.shape == (1, 100)
    assert output.audio.dtype == np.float32
    assert output.sampling_rate == 100
    assert output.latent is not None
    assert output.latent.dtype == np.float32


# ---------------------------------------------------------------------- times, memory, ranks


def test_a_whole_report_is_read() -> None:
    report = {
        "frames": PIXELS,
        "fps": np.float32(8),
        "seconds": 0.015,
        "queue": 0.0,
        "stages": {"text_encode": 0.001, "denoise": 0.01, "refine": 0.004},
        "steps": [0.005, 0.005],
        "memory": {"reserved": 5e3, "stage.decode": 10},
        "ranks": [
            {"seconds": 0.014, "memory": 2000, "energy": 1.5},
            {"seconds": 0.016, "memory": 3000, "energy": 2},
        ],
    }
    output = video(report, devices=2)
    assert output.fps == 8
    assert output.seconds == 0.016  # the slowest
    assert output.stages == report["stages"]
    assert output.steps == (0.005, 0.005)
    peaks = {"allocated": 3000, "rank.0": 2000, "rank.1": 3000, "reserved": 5000}
    assert output.memory == {**peaks, "stage.decode": 10}
    assert all(isinstance(size, int) for size in output.memory.values())
    assert output.ranks == (Rank(0.014, 2000, 1.5), Rank(0.016, 3000, 2.0))
    again = video(Output(PIXELS, seconds=0.015, ranks=output.ranks), devices=2)
    assert again.seconds == 0.016


RANK = {"seconds": 0.01, "memory": 100}


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ({"seconds": 15.0}, r"seconds=15.0; the call took 0.02"),  # milliseconds
        ({"seconds": 0}, "finite number above 0"),
        ({"seconds": float("nan")}, "finite number above 0"),
        ({"seconds": True}, "finite number above 0"),
        ({"seconds": "1 s"}, "finite number above 0"),
        ({"queue": 0.01}, "report seconds beside it"),
        ({"queue": -1, "seconds": 0.01}, "at least 0"),
        ({"fps": 0}, "finite number above 0"),
        ({"stages": {"denoise": 0.03}}, r"stages=.*0.03 s in all.*took 0.02.*overlap"),
        ({"stages": {"denoise": 0.006}, "seconds": 0.005}, r"took 0.005 s"),
        ({"stages": {"denoise": -0.1}}, r"stages\['denoise'\]=-0.1; .*at least 0"),
        ({"stages": {"De Noise": 0.01}}, "name a word such as text_encode"),
        ({"stages": {"cpu": 0.01}}, "not the name of another latency"),
        ({"stages": [0.01]}, "give a mapping"),
        ({"steps": [1.5, 1.5]}, r"steps=.*overlap"),
        ({"steps": 4}, "give a list of seconds"),
        ({"memory": {"allocated": 0}}, "finite number above 0"),
        ({"memory": {"vram": 5}}, "name allocated, reserved or stage"),
        ({"ranks": [RANK]}, "1 ranks.*devices=2"),
        ({"ranks": [RANK, {"seconds": 0.01}]}, "memory of rank 0 alone"),
        ({"ranks": [RANK, {"second": 0.01}]}, "did you mean 'seconds'"),
        ({"ranks": [RANK, {**RANK, "memory": 0}]}, r"ranks\[1\].memory=0"),
        ({"ranks": [RANK, {**RANK, "seconds": 9}]}, r"ranks\[1\].seconds=9.*call took"),
        ({"ranks": RANK}, "one mapping a rank"),
        ({"ranks": [1, 2]}, r"ranks\[0\]=1; give a mapping with energy, memory, seconds"),
        ({"audio": np.zeros(4, np.float32)}, "sampling_rate=None"),
        ({"audio": np.zeros(4, np.int16), "sampling_rate": 8}, r"audio='int16 \(4,\)'.*floats"),
    ],
    ids=str,
)
def test_a_report_that_cannot_be_right_is_refused(report: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=r"^model 'mine', prompt 'fox', seed 0: .*" + message):
        video({"frames": PIXELS, **report}, devices=2)


# ---------------------------------------------------------------------- behind module:function


ENGINES = """
import numpy as np

def plain():
    return lambda prompt, *, seed, **arguments: np.zeros((2, 8, 8, 3), np.uint8)

def placed(device, dtype, devices, sp_size=1):
    engine = plain()
    engine.seen = device, str(dtype), devices, sp_size
    return engine

class Closing:
    closed = False
    def generate(self, prompt, seed): ...
    def close(self): Closing.closed = True

def closing():
    return Closing()
"""


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Opens a function of a module of the user's own."""
    (tmp_path / "engines_for_vdb.py").write_text(ENGINES)
    monkeypatch.syspath_prepend(str(tmp_path))

    def opened(function: str, **more: Any) -> Any:
        return open_source(ModelSpec("mine", "factory", f"engines_for_vdb:{function}", **more))

    yield opened
    sys.modules.pop("engines_for_vdb", None)


def test_a_function_may_give_an_engine(at: Callable[..., Any]) -> None:
    source = at("plain", options={"num_threads": 1, "vae_tiling": False})
    assert isinstance(source, EngineSource)
    assert source.generate(FOX, 0, {"anything": 1}).frames.shape == (2, 8, 8, 3)


def test_a_function_gets_what_it_has_a_parameter_for(at: Callable[..., Any]) -> None:
    source = at("placed", dtype="bfloat16", devices=2, options={"sp_size": 2})
    assert source._engine.seen == ("cpu", "torch.bfloat16", 2, 2)


def test_an_option_that_would_do_nothing_is_refused(at: Callable[..., Any]) -> None:
    with pytest.raises(SourceError, match=r"cache=sea does nothing .*takes no 'cache'"):
        at("closing", options={"cache": "sea"})
    assert sys.modules["engines_for_vdb"].Closing.closed
