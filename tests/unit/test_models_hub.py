"""A pipeline from a folder or from the hub's cache: real folders, loaded by diffusers itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pytest_vdb.errors import SourceError
from pytest_vdb.models.catalog import CATALOG, SHAPES
from pytest_vdb.models.embedded import tiny_wan
from pytest_vdb.models.folder import (
    check_digest,
    check_folder,
    component_class,
    digest,
    fetch_again,
)
from pytest_vdb.models.open import open_source
from pytest_vdb.models.pipeline import PipelineSource
from pytest_vdb.records import ModelSpec, Prompt

FOX = Prompt("fox", "a red fox runs through snow")
WAN = next(spec for spec in CATALOG if spec.name == "tiny-wan")
CALL = {
    **WAN.call,
    "num_frames": 5,
    "height": 32,
    "width": 32,
    "num_inference_steps": 2,
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Wan as its maintainer would have saved it."""
    folder = tmp_path_factory.mktemp("saved") / "wan"
    tiny_wan().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "wan"))


def at(location: Path | str, **more: Any) -> ModelSpec:
    return ModelSpec(name="mine", source="diffusers", location=str(location), **more)


def test_the_shipped_tokenizer_loads_on_transformers_4_as_well() -> None:
    """What transformers 5 writes for the extra ids is a list, on which 4.57 stops."""
    config = Path(SHAPES.location) / "tokenizer" / "tokenizer_config.json"
    assert "extra_special_tokens" not in json.loads(config.read_text())


def frames(source: Any) -> np.ndarray:
    return source.generate(FOX, 0, CALL).frames


def edit(folder: Path, **entries: Any) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_a_folder_gives_the_videos_of_the_pipeline_that_was_saved(saved: Path) -> None:
    source = open_source(at(saved))
    assert isinstance(source, PipelineSource)
    assert np.array_equal(frames(source), frames(open_source(WAN)))


def test_the_dtype_is_the_spec_s(saved: Path) -> None:
    pipeline = open_source(at(saved, dtype="bfloat16")).pipeline
    assert pipeline.text_encoder.dtype is torch.bfloat16
    assert pipeline.transformer.blocks[0].ffn.net[2].weight.dtype is torch.bfloat16
    # diffusers keeps these in float32, and so they stay.
    assert pipeline.transformer.scale_shift_table.dtype is torch.float32


def test_another_class_than_the_folder_s_own(folder: Path) -> None:
    edit(folder, _class_name="WanVideoToVideoPipeline")
    assert type(open_source(at(folder)).pipeline).__name__ == "WanVideoToVideoPipeline"
    named = at(folder, pipeline="WanPipeline")
    assert type(open_source(named).pipeline).__name__ == "WanPipeline"
    with pytest.raises(SourceError, match=r"no pipeline 'WanPipelin'.*did you mean 'WanPipeline'"):
        open_source(at(folder, pipeline="WanPipelin"))


def test_code_of_the_model_is_not_run(folder: Path) -> None:
    (folder / "evil.py").write_text("raise SystemExit('the code ran')\n")
    edit(folder, transformer=["evil", "Transformer"])
    with pytest.raises(SourceError, match=r"transformer is evil\.Transformer.*is not run"):
        open_source(at(folder))
    edit(folder, transformer=["diffusers", "WanTransformer3DModel"], _class_name=["evil", "Pipe"])
    with pytest.raises(SourceError, match=r"pipeline is \['evil', 'Pipe'\].*is not run"):
        open_source(at(folder))


def test_a_class_that_this_diffusers_lacks(folder: Path) -> None:
    edit(folder, transformer=["diffusers", "Wan9Transformer3DModel"])
    with pytest.raises(SourceError, match=r"Wan9Transformer3DModel.*pip install -U diffusers"):
        open_source(at(folder))


def test_a_class_that_transformers_renamed_is_found() -> None:
    """Older repositories name it, and diffusers loads them all the same."""
    found = component_class("feature_extractor", "transformers", "CLIPFeatureExtractor", at("."))
    assert hasattr(found, "from_pretrained")


def test_a_motion_adapter_from_elsewhere(tmp_path: Path) -> None:
    from pytest_vdb.models.twins.unet import tiny_animatediff

    base, adapter = tmp_path / "base", tmp_path / "adapter"
    pipeline = tiny_animatediff()
    pipeline.save_pretrained(base)
    shutil.move(base / "motion_adapter", adapter)
    edit(base, motion_adapter=[None, None])
    spec = at(base, pipeline="AnimateDiffPipeline", options={"motion_adapter": str(adapter)})
    loaded = open_source(spec).pipeline.motion_adapter
    kept = pipeline.motion_adapter.state_dict()
    assert all(torch.equal(value, kept[key]) for key, value in loaded.state_dict().items())
    (adapter / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(SourceError, match=r"motion_adapter in .* half-downloaded"):
        open_source(spec)


# ---------------------------------------------------------------------- the embedded folder


def test_shapes_loads_as_any_folder_and_computes_its_fp16_files_in_float32() -> None:
    folder = Path(SHAPES.location)
    assert digest(folder) == SHAPES.sha256, "new weights need their digest in models/catalog.py"
    source = open_source(SHAPES)
    for name in ("text_encoder", "transformer", "vae"):
        module = source.pipeline.components[name]
        assert not module.training
        (path,) = (folder / name).glob("*.safetensors")
        loaded = module.state_dict()
        for key, stored in load_file(path).items():
            assert stored.dtype is torch.float16
            assert loaded[key].dtype is torch.float32
            assert torch.equal(loaded[key], stored.float())
    video = frames(source)
    assert (video.shape, video.dtype) == ((5, 32, 32, 3), np.float32)
    assert np.isfinite(video).all()


def test_weights_that_were_altered_are_refused(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(SHAPES.location, tmp_path / "shapes"))
    weights = copy / "vae" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1  # still a whole file
    weights.write_bytes(content)
    with pytest.raises(SourceError, match=f"'shapes': {copy} holds other weights") as caught:
        open_source(replace(SHAPES, location=str(copy)))
    assert f"{digest(copy)}, not {SHAPES.sha256}; fetch it again with: hf" in str(caught.value)
    assert open_source(replace(SHAPES, location=str(copy), sha256=digest(copy))).nbytes > 0


def test_the_embedded_folder_is_reinstalled_and_never_downloaded(tmp_path: Path) -> None:
    broken = Path(shutil.copytree(SHAPES.location, tmp_path / "shapes"))
    (broken / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    for check in (check_folder, check_digest):
        with pytest.raises(SourceError, match=r"comes with pytest-vdb: reinstall") as caught:
            check(broken, SHAPES)
        assert "hf download" not in str(caught.value)
    # Of a user's own folder that is called like it, nobody knows the repository.
    assert "hf download ORG/NAME" in fetch_again(broken, at(broken))


FROM_CACHE = """
import sys
from pytest_vdb.models.folder import component_class
from pytest_vdb.models.open import open_source
from pytest_vdb.records import ModelSpec
source = open_source(ModelSpec(name="mine", source="diffusers", location="org/tiny-wan"))
print(type(source.pipeline).__name__, source.nbytes)
"""


def test_the_hub_s_cache_is_enough_offline_and_nothing_is_printed(
    saved: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "hub" / "models--org--tiny-wan"
    shutil.copytree(saved, repository / "snapshots" / ("a" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    done = subprocess.run(
        [sys.executable, "-c", FROM_CACHE],
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["WanPipeline", str(open_source(WAN).nbytes)], done.stderr
    assert done.stderr == ""  # no progress bars, no warnings
