"""Where the time of stages and steps lands, and that watching them leaves nothing.

Of every tiny twin: `test_models_twins.py`.
"""

from __future__ import annotations

import copy
import functools
import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pytest_vdb.errors import BadSetting
from pytest_vdb.measure.stages import GAP, StageClock, account, resolve
from pytest_vdb.models.catalog import CATALOG
from pytest_vdb.models.open import open_source
from pytest_vdb.models.pipeline import PipelineSource, captured_latent
from pytest_vdb.records import ModelSpec, Prompt
from tests.unit.conftest import state

TINY = [spec for spec in CATALOG if spec.name.startswith("tiny-")]
SLEEP = 0.15


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("picture") / "picture.png"
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)


class Model:
    """One loaded tiny model and one short call of it."""

    def __init__(self, spec: ModelSpec, picture: str) -> None:
        self.spec = spec
        self.source: Any = open_source(spec)
        self.pipeline = self.source.pipeline
        call = dict(spec.call)
        if "num_frames" in call:
            call["num_frames"] = 5
        if "num_inference_steps" in call and spec.name != "tiny-text2video-zero":
            call["num_inference_steps"] = 2  # that one starts from its last steps but two
        self.call = call
        still = picture if spec.task == "image-to-video" else None
        self.prompt = Prompt("fox", "a fox runs", image=still)

    def __call__(self) -> Any:
        return self.source.generate(self.prompt, 0, self.call)


@functools.cache
def model(name: str, picture: str) -> Model:
    return Model(next(spec for spec in TINY if spec.name == name), picture)


@pytest.fixture
def wan(picture: str) -> Model:
    return model("tiny-wan", picture)


@contextmanager
def dragging(module: torch.nn.Module) -> Iterator[None]:
    """Every call of ``module`` takes longer, by a forward hook of its own."""
    hook = module.register_forward_hook(lambda *_: time.sleep(SLEEP))
    try:
        yield
    finally:
        hook.remove()


# ------------------------------------------------------------------ where time lands


@pytest.mark.parametrize(
    ("component", "stage", "calls"),
    [
        ("text_encoder", "text_encode", 2),  # the prompt and the negative one
        ("transformer", "denoise", 4),  # twice a step, for guidance
        ("vae.decoder", "decode", 2),  # once a latent frame
    ],
)
def test_a_component_that_drags_drags_its_stage(
    wan: Model, component: str, stage: str, calls: int
) -> None:
    clock = StageClock(wan.pipeline)
    with clock:
        wan()
    usual = dict(clock.stages)
    with dragging(functools.reduce(getattr, component.split("."), wan.pipeline)), clock:
        wan()
    for name, seconds in clock.stages.items():
        expected = calls * SLEEP if name == stage else 0
        assert seconds - usual[name] == pytest.approx(expected, abs=0.9 * SLEEP), name


def test_a_conditioning_image_is_encoded_in_a_stage_of_its_own(picture: str) -> None:
    i2v = model("tiny-wan-i2v", picture)
    clock = StageClock(i2v.pipeline)
    with dragging(i2v.pipeline.vae.encoder), clock:
        i2v()
    assert clock.stages["image_encode"] > SLEEP
    assert clock.stages["decode"] < clock.stages["image_encode"]


def test_guidance_and_callbacks_between_steps_are_denoise(wan: Model) -> None:
    def slow(pipeline: Any, step: int, at: Any, given: dict[str, Any]) -> dict[str, Any]:
        time.sleep(SLEEP)
        return given

    clock = StageClock(wan.pipeline)
    with clock, torch.inference_mode():
        wan.pipeline(prompt="a", callback_on_step_end=slow, output_type="latent", **wan.call)
    assert clock.stages["denoise"] > SLEEP  # after the first of two steps
    assert clock.stages["other"] > SLEEP  # after the last
    assert clock.steps[0] < SLEEP < clock.steps[1]


def test_a_clock_is_used_again(wan: Model) -> None:
    clock = StageClock(wan.pipeline)
    with clock:
        wan()
    with clock:
        pass
    assert clock.stages.keys() == {"other"}
    assert clock.steps == ()
    assert clock.memory == {}
    with clock, pytest.raises(RuntimeError, match="running already"), clock:
        pass


# ------------------------------------------------------------------ nothing stays


@pytest.mark.parametrize("component", ["text_encoder", "transformer", "vae.decoder"])
def test_nothing_stays_after_an_exception(wan: Model, component: str) -> None:
    wan()
    before, clock = state(wan.pipeline), StageClock(wan.pipeline)

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    hook = functools.reduce(getattr, component.split("."), wan.pipeline).register_forward_hook(fail)
    try:
        with pytest.raises(ZeroDivisionError), clock:
            wan()
    finally:
        hook.remove()
    assert state(wan.pipeline) == before
    assert (clock.stages, clock.steps, clock.memory) == ({}, (), {})
    with clock:
        wan()
    assert len(clock.steps) == 2


def test_what_was_wrapped_before_stays_and_nests_in_any_order(wan: Model) -> None:
    wan()
    vae, plain = wan.pipeline.vae, wan().latent
    before, clock = state(wan.pipeline), StageClock(wan.pipeline)
    arguments = {"prompt": wan.prompt.text, "output_type": "np", **wan.call}

    def run() -> None:
        generator = torch.Generator().manual_seed(0)
        with torch.inference_mode():
            wan.pipeline(generator=generator, **arguments)

    with clock, captured_latent(wan.pipeline) as inside:
        run()
    assert state(wan.pipeline) == before
    with captured_latent(wan.pipeline) as outside:
        theirs = vars(vae)["decode"]
        with clock:
            run()
        assert vars(vae)["decode"] is theirs
    assert state(wan.pipeline) == before
    assert clock.stages["decode"] > 0
    for captured in (inside, outside):
        assert np.array_equal(captured[0].numpy(), plain)


def test_a_network_under_two_names_counts_once(wan: Model) -> None:
    wan.pipeline.refiner = wan.pipeline.transformer  # an attribute that is no component
    try:
        clock = StageClock(wan.pipeline)
        with clock:
            wan()
        assert len(clock.steps) == 2
        assert clock.stages["denoise"] > 0
    finally:
        del wan.pipeline.refiner


def test_a_pipeline_without_a_scheduler_has_no_steps() -> None:
    class Plain:
        def __init__(self) -> None:
            self.transformer = torch.nn.Linear(2, 2)

    plain = Plain()
    clock = StageClock(plain)
    with clock:
        plain.transformer(torch.ones(2))
    assert clock.stages.keys() == {"denoise", "other"}
    assert clock.steps == ()


def test_only_devices_with_a_clock() -> None:
    with pytest.raises(BadSetting, match="mps"):
        StageClock(object(), "mps")


# ------------------------------------------------------------------ schedulers


def test_a_watched_scheduler_is_still_what_it_was(wan: Model, tmp_path: Path) -> None:
    scheduler = wan.pipeline.scheduler
    kind, signature = type(scheduler), inspect.signature(type(scheduler).step)
    with StageClock(wan.pipeline):
        inside = type(scheduler)
        assert isinstance(scheduler, kind)
        assert (inside.__name__, inside.__module__) == (kind.__name__, kind.__module__)
        assert inspect.signature(inside.step) == signature
        assert kind.from_config(scheduler.config).config == scheduler.config
        scheduler.save_pretrained(tmp_path)
    assert type(scheduler) is kind
    assert kind.from_pretrained(tmp_path).config["_class_name"] == kind.__name__


def test_a_copy_made_inside_works_afterwards(wan: Model) -> None:
    clock = StageClock(wan.pipeline)
    with clock:
        kept = copy.deepcopy(wan.pipeline.scheduler)
    kept.set_timesteps(4)
    plain = copy.deepcopy(wan.pipeline.scheduler)
    plain.set_timesteps(4)
    noise, latent = torch.ones(1, 4), torch.full((1, 4), 0.5)
    steps = [s.step(noise, s.timesteps[0], latent).prev_sample for s in (kept, plain)]
    assert torch.equal(*steps)
    assert isinstance(kept, type(wan.pipeline.scheduler))
    assert clock.steps == ()


def test_a_copy_that_steps_gets_its_class_back(wan: Model) -> None:
    kind = type(wan.pipeline.scheduler)
    with StageClock(wan.pipeline):
        other = copy.deepcopy(wan.pipeline.scheduler)
        other.set_timesteps(2)
        other.step(torch.ones(1, 4), other.timesteps[0], torch.ones(1, 4))
        assert type(other) is not kind
    assert type(other) is kind


# ------------------------------------------------------------------ compiled and offloaded


Compiler = Callable[[Any], None]


def wrapped(pipeline: Any) -> None:
    pipeline.transformer = torch.compile(pipeline.transformer, backend="eager")


def in_place(pipeline: Any) -> None:
    pipeline.transformer.compile(backend="eager")


def one_method(pipeline: Any) -> None:
    pipeline.vae.decode = torch.compile(pipeline.vae.decode, backend="eager")


@pytest.mark.parametrize("compile_it", [wrapped, in_place, one_method])
def test_a_compiled_component_is_not_compiled_again(compile_it: Compiler, picture: str) -> None:
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    spec = next(spec for spec in TINY if spec.name == "tiny-wan")
    compiled = Model(spec, picture)
    compile_it(compiled.pipeline)
    plain = compiled()
    compiled()
    state_before = state(compiled.pipeline)
    graphs, breaks = dict(counters["stats"]), dict(counters["graph_break"])
    clock = StageClock(compiled.pipeline)
    with torch.compiler.set_stance("fail_on_recompile"), clock:
        again = compiled()
    compiled()
    assert (dict(counters["stats"]), dict(counters["graph_break"])) == (graphs, breaks)
    assert graphs["unique_graphs"] > 0
    assert np.array_equal(again.frames, plain.frames)
    assert len(clock.steps) == 2
    assert {"text_encode", "denoise", "decode"} <= clock.stages.keys()
    assert state(compiled.pipeline) == state_before


@pytest.mark.parametrize("hooked_first", [True, False])
def test_a_component_that_accelerate_moves_keeps_its_stage(wan: Model, hooked_first: bool) -> None:
    from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module

    class Slow(ModelHook):
        def pre_forward(self, module: Any, *args: Any, **kwargs: Any) -> Any:
            time.sleep(SLEEP)
            return args, kwargs

    transformer, clock = wan.pipeline.transformer, StageClock(wan.pipeline)
    try:
        if hooked_first:
            add_hook_to_module(transformer, Slow())
        with clock:
            if not hooked_first:
                add_hook_to_module(transformer, Slow())
            wan()
        assert clock.stages["denoise"] > 4 * SLEEP
        assert hasattr(transformer, "_hf_hook")
    finally:
        remove_hook_from_module(transformer)


# ------------------------------------------------------------------ marks to seconds


def test_a_gap_belongs_to_denoise_where_both_neighbours_do() -> None:
    labels = [GAP, "text_encode", GAP, "denoise", GAP, "denoise", GAP, "decode", GAP]
    o, d = "other", "denoise"
    assert resolve(labels) == [o, "text_encode", o, d, d, d, o, "decode", o]
    assert resolve([GAP]) == ["other"]


# A label, and who stepped: two calls for guidance, then the scheduler's step.
GUIDED = [("denoise", None), (GAP, None), ("denoise", None), (GAP, None), ("denoise", 1)]


@pytest.mark.parametrize(
    ("segments", "steps"),
    [
        ([*GUIDED, (GAP, None), *GUIDED], (5, 6)),  # what lies between belongs to the later one
        ([*GUIDED, ("denoise", 2), *GUIDED, ("denoise", 2)], (6, 6)),  # sound and video
        ([("denoise", 1), (GAP, None), ("denoise", 1)], (1, 2)),  # a denoiser that nobody sees
        ([*GUIDED, ("decode", None), *GUIDED], (5, 5)),  # a preview between two steps
        ([("denoise", None), (GAP, None)], ()),
    ],
)
def test_steps(segments: list[tuple[str, int | None]], steps: tuple[int, ...]) -> None:
    labels = [label for label, _ in segments]
    steppers = {i: who for i, (_, who) in enumerate(segments) if who is not None}
    assert account([1.0] * len(segments), labels, steppers)[1] == steps


# ------------------------------------------------------------------ on a GPU


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["tiny-wan", "tiny-ltx"])
def test_on_cuda_the_devices_clock_agrees_with_the_hosts(name: str) -> None:
    spec = next(spec for spec in TINY if spec.name == name)
    source = open_source(spec, "cuda:0")
    assert isinstance(source, PipelineSource)
    call = {**spec.call, "num_inference_steps": 4}
    plain = source.generate(Prompt("fox", "a fox"), 0, call)
    clock = StageClock(source.pipeline, "cuda:0")
    torch.cuda.synchronize()
    began = time.perf_counter()
    with clock:
        watched = source.generate(Prompt("fox", "a fox"), 0, call)
    took = time.perf_counter() - began
    assert np.array_equal(plain.frames, watched.frames)
    assert sum(clock.stages.values()) == pytest.approx(took, rel=0.01)
    assert len(clock.steps) == 4
    stages = {f"stage.{stage}" for stage in clock.stages}
    assert clock.memory.keys() == {"allocated", "reserved", *stages}
    assert clock.memory["allocated"] == max(clock.memory[stage] for stage in stages)
    assert clock.memory["stage.decode"] > clock.memory["stage.text_encode"]
