"""Pipelines from a function: what is asked of them, and what a mistake says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pytest_vdb.errors import SourceError
from pytest_vdb.models.catalog import CATALOG
from pytest_vdb.models.open import needs_diffusers, open_source
from pytest_vdb.models.pipeline import PipelineSource, captured_latent, frames_of
from pytest_vdb.records import ModelSpec, Prompt

FOX = Prompt("fox", "a red fox runs through snow")
WAN, LTX = (
    next(spec for spec in CATALOG if spec.name == name) for name in ("tiny-wan", "tiny-ltx")
)
FAST = {**WAN.call, "num_frames": 5, "height": 32, "width": 32, "num_inference_steps": 2}


@pytest.fixture(scope="module")
def source() -> PipelineSource:
    opened = open_source(WAN)
    assert isinstance(opened, PipelineSource)
    return opened


def at(location: str, **more: Any) -> ModelSpec:
    return ModelSpec(name="mine", source="factory", location=location, **more)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's own on ``sys.path``."""
    (tmp_path / "mine_for_vdb.py").write_text("def build(): return 3\nNUMBER = 4\nimport os\n")
    (tmp_path / "needs_for_vdb.py").write_text("import a_missing_library\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "mine_for_vdb"
    sys.modules.pop("mine_for_vdb", None)


def test_a_video_and_its_latent(source: PipelineSource) -> None:
    output = source.generate(FOX, 0, FAST)
    assert output.frames.shape == (5, 32, 32, 3)
    assert output.latent is not None
    assert output.latent.shape == (1, 16, 2, 4, 4)
    assert output.latent.dtype == np.float32
    assert output.fps is None


def test_the_latent_is_what_the_vae_received(source: PipelineSource) -> None:
    output = source.generate(FOX, 0, FAST)
    with torch.inference_mode():
        decoded = source.pipeline.vae.decode(torch.from_numpy(output.latent)).sample[0]
    frames = (decoded.movedim(0, -1) / 2 + 0.5).clamp(0, 1).numpy()
    assert np.array_equal(frames, output.frames)


def test_the_seed_means_noise_from_the_cpu(source: PipelineSource) -> None:
    one, same, other = (source.generate(FOX, seed, FAST).frames for seed in (3, 3, 4))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_frame_rate_is_the_fps() -> None:
    call = {**LTX.call, "num_frames": 9, "num_inference_steps": 1, "frame_rate": 24}
    assert open_source(LTX).generate(FOX, 0, call).fps == 24


def test_decode_is_the_vaes_own_again_also_after_an_exception(source: PipelineSource) -> None:
    vae = source.pipeline.vae
    source.generate(FOX, 0, FAST)
    assert "decode" not in vars(vae)
    with pytest.raises(ValueError, match="divisible"):
        source.generate(FOX, 0, {**FAST, "height": 33})
    assert "decode" not in vars(vae)


def test_a_wrap_that_was_there_stays(source: PipelineSource) -> None:
    vae = source.pipeline.vae
    theirs = vae.decode
    vae.decode = theirs
    try:
        source.generate(FOX, 0, FAST)
        assert vars(vae)["decode"] is theirs
    finally:
        del vae.decode


def test_decoding_in_pieces_keeps_the_largest_first_piece(source: PipelineSource) -> None:
    pieces = [torch.full((1, 16, n, 4, 4), float(i)) for i, n in enumerate((1, 2, 2))]
    with torch.inference_mode(), captured_latent(source.pipeline) as captured:
        for piece in pieces:
            source.pipeline.vae.decode(piece)
    assert len(captured) == 1
    assert captured[0] is pieces[1]


def test_tiles_of_the_vae_do_not_count(source: PipelineSource) -> None:
    vae = source.pipeline.vae
    whole = source.generate(FOX, 0, FAST).latent
    vae.enable_tiling(16, 16, 8, 8)
    try:
        assert np.array_equal(source.generate(FOX, 0, FAST).latent, whole)
    finally:
        vae.disable_tiling()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"num_frame": 5}, r"WanPipeline.*'num_frame'.*did you mean 'num_frames'"),
        ({"prompt": "x"}, r"'prompt'.*set by the plugin"),
        ({"generator": 1}, r"'generator'.*set by the plugin"),
    ],
)
def test_a_wrong_argument_is_named(source: PipelineSource, call: Any, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        source.generate(FOX, 0, {**FAST, **call})


def test_dtype_and_its_mistakes() -> None:
    source = open_source(at(WAN.location, dtype="bfloat16"))
    assert source.pipeline.transformer.dtype is torch.bfloat16
    latent = source.generate(FOX, 0, FAST).latent
    assert latent is not None
    assert latent.dtype == np.float32
    for dtype in ("bfloat61", "int8", "nn"):
        with pytest.raises(SourceError, match=rf"'{dtype}'.*(did you mean|known)"):
            open_source(at(WAN.location, dtype=dtype))


MIXED = """
import torch
from pytest_vdb.models.embedded import tiny_wan

def build():
    pipeline = tiny_wan()
    pipeline.transformer.to(torch.bfloat16)
    pipeline.transformer.blocks[0].norm2.float()
    return pipeline
"""


def test_layers_kept_in_float32_on_purpose_stay_so(module: str, tmp_path: Path) -> None:
    (tmp_path / "mixed_for_vdb.py").write_text(MIXED)
    pipeline = open_source(at("mixed_for_vdb:build", dtype="bfloat16")).pipeline
    assert pipeline.transformer.blocks[0].norm2.weight.dtype is torch.float32
    assert pipeline.vae.dtype is torch.bfloat16


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("no_such_module_at_all:build", r"no module 'no_such_module_at_all'.*sys.path"),
        ("pytest_vdb.nothing:build", r"no module 'pytest_vdb.nothing'"),
        ("mine_for_vdb:buidl", r"has no 'buidl'.*did you mean 'build'"),
        ("mine_for_vdb:NUMBER", r"is a int; name a function"),
        ("mine_for_vdb:build", r"gave a int; .*DiffusionPipeline or an engine"),
    ],
)
def test_a_wrong_factory_says_why(module: str, location: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_source(at(location))


def test_what_a_factory_itself_fails_on_is_not_hidden(module: str) -> None:
    with pytest.raises(ModuleNotFoundError, match="a_missing_library"):
        open_source(at("needs_for_vdb:build"))


def test_frames_of_every_form_become_channels_last() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
    assert np.array_equal(frames_of([Image.fromarray(p) for p in pixels]), pixels)
    floats = pixels.astype(np.float32) / 255
    assert np.array_equal(frames_of(floats), floats)
    assert np.array_equal(frames_of(torch.from_numpy(floats).movedim(-1, 1)), floats)


ENGINE = """
import numpy as np

def build():
    return lambda prompt, *, seed: np.zeros((5, 32, 32, 3), np.uint8)
"""


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        (ENGINE, False),
        ("import os.path, torch.nn\nfrom PIL import Image\n" + ENGINE, False),
        (ENGINE.replace("return", "from diffusers import WanPipeline\n    return"), True),
        ("import my_pipelines\n" + ENGINE, True),  # which may import anything
        ("from . import pipelines\n" + ENGINE, True),
        ("import importlib\n" + ENGINE, True),
        ("def build(:", True),
    ],
)
def test_what_a_file_imports_says_whether_diffusers_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, needs: bool
) -> None:
    (tmp_path / "read_for_vdb.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert needs_diffusers(at("read_for_vdb:build")) is needs
    assert "read_for_vdb" not in sys.modules  # it was read and not run


def test_what_cannot_be_read_may_need_diffusers() -> None:
    assert needs_diffusers(at("pytest_vdb.models.embedded:tiny_wan"))
    assert needs_diffusers(at("no_such_module_for_vdb:build"))
    assert needs_diffusers(at("sys:exit"))
    assert not needs_diffusers(ModelSpec("clips", "recorded", "clips"))


def test_an_engine_s_process_imports_no_diffusers(tmp_path: Path) -> None:
    (tmp_path / "engine_for_vdb.py").write_text(ENGINE)
    code = (
        "import sys; from pytest_vdb.measure.execute import load; "
        "from pytest_vdb.measure.runner import Job; "
        "from pytest_vdb.records import ModelSpec, Prompt, Workload; "
        "spec = ModelSpec('e', 'factory', 'engine_for_vdb:build'); "
        "load(Job(spec, Workload((Prompt('a', 'a'),), (0,), {}), '.')); "
        "print('diffusers' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False", done.stderr
