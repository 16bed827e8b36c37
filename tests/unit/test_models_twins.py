"""The tiny twins: alive, reproducible, decided by what should decide them, saved and reloaded;
and that watching their stages changes nothing and leaves nothing."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines.pipeline_utils import DiffusionPipeline as AnyPipeline
from packaging.version import Version
from PIL import Image

from pytest_vdb.errors import NoImage, SourceError
from pytest_vdb.measure.samples import quantised
from pytest_vdb.measure.stages import StageClock
from pytest_vdb.metrics.sanity import check
from pytest_vdb.models import pipeline as adapter
from pytest_vdb.models.catalog import CATALOG
from pytest_vdb.models.open import open_source
from pytest_vdb.models.pipeline import PipelineSource
from pytest_vdb.models.sources import Output, Source
from pytest_vdb.models.twins import TWINS
from pytest_vdb.records import ModelSpec, Prompt
from tests.unit.conftest import state

EMBEDDED = tuple(spec for spec in CATALOG if spec.name in ("tiny-wan", "tiny-ltx"))
OLD = Version(diffusers.__version__) < Version("0.42")  # some families came after the lower bound
TINY = (*EMBEDDED, *(s for s in TWINS if not OLD or hasattr(diffusers, s.pipeline)))
FOX, SEA = "a red fox runs through snow", "waves break on a beach at dusk"

Scene = Callable[..., Prompt]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two pictures of shapes and colours, wider than the videos."""
    folder = tmp_path_factory.mktemp("pictures")
    y, x = np.mgrid[:96, :128]
    one = np.stack([2 * x, 2 * y, x * y // 64], -1)
    other = np.stack([255 - 2 * y, x // 16 * 40, x], -1)
    paths = []
    for name, pixels in (("one", one), ("other", other)):
        paths.append(str(folder / f"{name}.png"))
        Image.fromarray((pixels % 256).astype(np.uint8)).save(paths[-1])
    return paths[0], paths[1]


@pytest.fixture(scope="session")
def scene(pictures: tuple[str, str]) -> Scene:
    """``scene(text, picture)``: a prompt that starts from one of the pictures."""
    return lambda text=FOX, picture=0: Prompt("scene", text, image=pictures[picture])


SHORT = {"num_frames": 5, "frames": 5, "num_inference_steps": 2, "height": 32, "width": 32}
KEPT = {
    ("AllegroPipeline", "num_frames"),  # less than a tile of its VAE is grey
    ("AllegroPipeline", "height"),
    ("AllegroPipeline", "width"),
    ("TextToVideoZeroPipeline", "num_inference_steps"),  # it starts from the last but two
}


def short_call(spec: ModelSpec) -> dict[str, Any]:
    """The default call with two steps and few small frames, which most tests make."""
    fewer = {k: n for k, n in SHORT.items() if k in spec.call and (spec.pipeline, k) not in KEPT}
    return {**spec.call, **fewer}


class Built:
    """A twin, loaded once, and a short video of it."""

    def __init__(self, spec: ModelSpec, prompt: Prompt) -> None:
        self.spec, self.prompt, self.call = spec, prompt, short_call(spec)
        self.source: Any = open_source(spec)
        self.short = self.made()

    @cached_property
    def output(self) -> Output:
        """The video of the default call."""
        return self.made(self.spec.call)

    def made(self, call: dict[str, Any] | None = None) -> Output:
        """The short video once more, or that of another ``call``."""
        return self.source.generate(self.prompt, 0, call or self.call)

    def video(self, prompt: Prompt, seed: int = 0, source: Source | None = None) -> np.ndarray:
        return (source or self.source).generate(prompt, seed, self.call).frames


@pytest.fixture(scope="session")
def built(scene: Scene) -> Callable[[ModelSpec], Built]:
    made: dict[str, Built] = {}

    def build(spec: ModelSpec) -> Built:
        if spec.name not in made:
            made[spec.name] = Built(spec, scene())
        return made[spec.name]

    return build


# Of the module, so that the tests of one twin follow each other in one worker.
@pytest.fixture(scope="module", params=TINY, ids=lambda spec: spec.name)
def twin(request: pytest.FixtureRequest, built: Callable[[ModelSpec], Built]) -> Built:
    return built(request.param)


def expected(spec: ModelSpec) -> dict[str, Any]:
    """What the sanity check may ask of the video's size."""
    if spec.pipeline == "HunyuanVideoFramepackPipeline":
        return {**spec.call, "num_frames": 17}  # it makes whole sections, more than it is asked for
    return {"num_frames": spec.call.get("frames"), **spec.call}


def test_the_video_is_sane(twin: Built) -> None:
    frames, broken = quantised(twin.output.frames)
    assert check(frames, nonfinite=broken, expected=expected(twin.spec)) == ()
    assert frames.std() > 15  # of 255
    assert np.mean((frames == 0) | (frames == 255)) < 0.25


def test_the_latent_is_what_the_vae_decodes(twin: Built) -> None:
    latent = twin.output.latent
    assert latent is not None
    assert latent.dtype == np.float32
    assert np.isfinite(latent).all()
    pipeline = twin.source.pipeline
    # A picture VAE decodes frame by frame; the others know time.
    assert latent.ndim == (4 if len(latent) == len(twin.output.frames) else 5)
    assert pipeline.vae.__dict__.get("decode") is None


def test_prompt_picture_and_seed_decide_the_video(twin: Built, scene: Scene) -> None:
    frames = twin.short.frames
    assert frames.std() > 0.05
    assert np.array_equal(twin.video(scene()), frames)
    assert not np.allclose(twin.video(scene(), seed=1), frames, atol=0.01)
    if twin.spec.pipeline != "StableVideoDiffusionPipeline":  # which takes no prompt
        assert not np.allclose(twin.video(scene(SEA)), frames, atol=0.01)
    if twin.spec.task == "image-to-video":
        assert not np.allclose(twin.video(scene(picture=1)), frames, atol=0.01)


def test_every_component_takes_part(twin: Built) -> None:
    """Weights of 1.1 times the size in any of them give another video, but where it says why."""
    for name, component in sorted(modules(twin.source.pipeline).items()):
        if (twin.spec.pipeline, name) in SILENT:
            continue
        before = [weight.detach().clone() for weight in component.parameters()]
        with torch.no_grad():
            for weight in component.parameters():
                weight.mul_(1.1)
            output = twin.made()
            for weight, value in zip(component.parameters(), before, strict=True):
                weight.copy_(value)
        same = np.array_equal(output.frames, twin.short.frames)
        assert not (same and np.array_equal(output.audio, twin.short.audio)), name


SILENT = {
    ("AnimateDiffPipeline", "motion_adapter"),  # its weights are copied into the U-Net
    ("HunyuanVideo15Pipeline", "text_encoder_2"),  # reads what stands in quotes in a prompt
}


def modules(pipeline: Any) -> dict[str, torch.nn.Module]:
    return {k: c for k, c in pipeline.components.items() if isinstance(c, torch.nn.Module)}


def test_watched_stages_are_the_whole_change_nothing_and_leave_nothing(twin: Built) -> None:
    unwatched = twin.output  # short ones are too short to be timed
    before, clock = state(twin.source.pipeline), StageClock(twin.source.pipeline)
    for _ in range(3):  # a busy machine may stop this process between the two clocks
        began = time.perf_counter()
        with clock:
            watched = twin.made(twin.spec.call)
        took = time.perf_counter() - began
        if sum(clock.stages.values()) > 0.99 * took:
            break

    assert np.array_equal(watched.frames, unwatched.frames)
    if unwatched.latent is not None:
        assert np.array_equal(watched.latent, unwatched.latent)
    assert sum(clock.stages.values()) == pytest.approx(took, rel=0.01)
    expected = {"denoise", "decode", "other"}
    if twin.spec.pipeline not in NO_TEXT:
        expected |= {"text_encode"}
    if twin.spec.task == "image-to-video":
        expected |= {"image_encode"}
    assert expected <= clock.stages.keys()
    assert all(seconds > 0 for seconds in clock.stages.values())
    if twin.spec.name != "tiny-text2video-zero":
        assert len(clock.steps) == twin.spec.call["num_inference_steps"]
        assert sum(clock.steps) == pytest.approx(clock.stages["denoise"], rel=0.02)
    assert state(twin.source.pipeline) == before

    denoiser = getattr(twin.source.pipeline, "transformer", None) or twin.source.pipeline.unet
    broken = denoiser.register_forward_pre_hook(_break)
    with pytest.raises(ZeroDivisionError), clock:
        twin.made()
    broken.remove()
    assert state(twin.source.pipeline) == before  # also after an exception in the middle
    assert clock.stages == {}


NO_TEXT = {"StableVideoDiffusionPipeline", "Cosmos3OmniPipeline"}  # no text encoder of their own


def _break(*args: object) -> None:
    raise ZeroDivisionError


def test_every_weight_is_seeded(twin: Built) -> None:
    """A twin of another seed shares no weight with it: nothing is left to the library."""
    module, _, function = twin.spec.location.partition(":")
    other = modules(getattr(sys.modules[module], function)(99))
    for name, component in modules(twin.source.pipeline).items():
        assert not any(m.training for m in component.modules())
        theirs = dict(other[name].named_parameters())
        for key, weight in component.named_parameters():
            assert not torch.equal(weight, theirs[key]), f"{name}.{key}"


CHILD = """
import hashlib, json, sys
import torch
from pytest_vdb.models.open import open_source
from pytest_vdb.records import ModelSpec, Prompt
torch.set_num_threads(1)
prompt = Prompt.from_json(json.loads(sys.argv[1]))
for spec, call in json.loads(sys.stdin.read()):
    spec = ModelSpec.from_json(spec)
    frames = open_source(spec).generate(prompt, 0, call).frames
    print("sha256", spec.name, hashlib.sha256(frames.tobytes()).hexdigest(), flush=True)
"""


@pytest.fixture(scope="session")
def in_another_process(scene: Scene) -> dict[str, str]:
    """Sha256 of every twin's short video, all made in one new process."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(scene().to_json())],
        input=json.dumps([(spec.to_json(), short_call(spec)) for spec in TINY]),
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    return {line[1]: line[2] for line in lines if line[:1] == ["sha256"]}


def test_another_process_makes_the_same_bits(
    twin: Built, in_another_process: dict[str, str]
) -> None:
    found = hashlib.sha256(twin.short.frames.tobytes()).hexdigest()
    assert in_another_process[twin.spec.name] == found


def test_saved_and_reloaded_it_makes_the_same_bits(
    twin: Built, scene: Scene, tmp_path: Path
) -> None:
    twin.source.pipeline.save_pretrained(tmp_path)
    loader: Any = DiffusionPipeline
    if twin.spec.pipeline == "ConsisIDPipeline":
        loader = type(twin.source.pipeline)  # diffusers finds its name only beside OpenCV
    pipeline = loader.from_pretrained(tmp_path, **ABSENT.get(twin.spec.pipeline, {}))
    assert type(pipeline) is type(twin.source.pipeline)
    for component in modules(pipeline).values():
        for weight in component.parameters():
            # Reloaded weights lie where they lie in the file, and what is not aligned may be
            # multiplied by another kernel, whose last bit differs.
            weight.data = weight.data.clone()
    if twin.spec.pipeline == "AllegroPipeline":
        pipeline.vae.enable_tiling()  # not in the folder, and it decodes in no other way
    pipeline.set_progress_bar_config(disable=True)
    frames = twin.video(scene(), source=PipelineSource(twin.spec, pipeline))
    assert np.array_equal(frames, twin.short.frames)


ABSENT: dict[str, dict[str, None]] = {
    "TextToVideoZeroPipeline": {"safety_checker": None, "feature_extractor": None},
}
"""What diffusers has to be told again is not there."""


def test_the_table_says_what_is_built(twin: Built) -> None:
    spec, pipeline = twin.spec, twin.source.pipeline
    assert isinstance(pipeline, AnyPipeline)
    assert type(pipeline).__module__.startswith("diffusers.")
    assert spec.pipeline in (type(pipeline).__name__, "" if spec in EMBEDDED else None)
    millions = sum(w.numel() for c in modules(pipeline).values() for w in c.parameters()) / 1e6
    assert f" {millions:.1f} million " in spec.summary
    assert adapter.takes_image(pipeline, spec) is (spec.task == "image-to-video")
    assert (twin.output.audio is not None) is spec.audio


# --- What PipelineSource makes of what pipelines give ---------------------------------------


def spec_of(name: str) -> ModelSpec:
    return next(spec for spec in TINY if spec.name == name)


@pytest.mark.skipif(OLD, reason="LTX-2 came after the lower bound of diffusers")
def test_sound_comes_with_its_rate(built: Callable[[ModelSpec], Built]) -> None:
    twin = built(spec_of("tiny-ltx2"))
    audio, rate = twin.output.audio, twin.output.sampling_rate
    assert audio is not None
    assert rate == twin.source.pipeline.vocoder.config.output_sampling_rate
    assert audio.dtype == np.float32
    assert audio.shape[0] == 2
    seconds = len(twin.output.frames) / 24  # the pipeline's own frame rate
    assert audio.shape[1] / rate == pytest.approx(seconds, rel=0.1)
    assert 0.01 < np.abs(audio).max() <= 1
    assert np.isfinite(audio).all()


def test_a_pipeline_that_starts_from_a_picture_needs_one(
    built: Callable[[ModelSpec], Built],
) -> None:
    twin = built(spec_of("tiny-svd"))
    with pytest.raises(NoImage, match=r"'bare' has none; .*--vdb-prompts=images.*\"image\""):
        twin.video(Prompt("bare", FOX))


def test_a_picture_that_is_not_there(built: Callable[[ModelSpec], Built], tmp_path: Path) -> None:
    twin = built(spec_of("tiny-svd"))
    with pytest.raises(NoImage, match=r"prompt 'lost' cannot be read: .*gone\.png"):
        twin.video(Prompt("lost", FOX, image=str(tmp_path / "gone.png")))
    text = tmp_path / "text.png"
    text.write_text("no picture")
    with pytest.raises(NoImage, match=r"cannot be read: cannot identify image file"):
        twin.video(Prompt("text", FOX, image=str(text)))


def test_a_picture_is_cut_around_its_middle(pictures: tuple[str, str]) -> None:
    prompt = Prompt("scene", FOX, image=pictures[0])  # 96 rows of 128
    picture = adapter.conditioning_image(TINY[0], prompt, {"height": 96, "width": 64})
    assert (picture.mode, picture.size) == ("RGB", (64, 96))
    with Image.open(pictures[0]) as whole:
        assert np.array_equal(np.asarray(picture), np.asarray(whole)[:, 32:96])
    assert adapter.conditioning_image(TINY[0], prompt, {}).size == (128, 96)


def test_a_result_without_the_video_that_the_spec_names(
    built: Callable[[ModelSpec], Built], scene: Scene
) -> None:
    twin = built(spec_of("tiny-latte"))
    source = PipelineSource(replace(twin.spec, output="images"), twin.source.pipeline)
    with pytest.raises(SourceError, match=r"LattePipeline gave a .* without \.images"):
        twin.video(scene(), source=source)
