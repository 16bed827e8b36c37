"""Random weights: the real sizes, and pipelines that run from configurations alone."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pytest_vdb.errors import BadSetting, SourceError
from pytest_vdb.models import random_weights
from pytest_vdb.models.catalog import CATALOG
from pytest_vdb.models.embedded import tiny_ltx, tiny_wan
from pytest_vdb.models.open import open_source
from pytest_vdb.records import ModelSpec, Prompt

FOX = Prompt("fox", "a red fox runs through snow")
NAMED = {spec.name: spec for spec in CATALOG}
SMALL = {"num_frames": 9, "height": 32, "width": 32, "num_inference_steps": 2}

# ------------------------------------------------------------------------------ the real sizes

FILES = "tensors in the repository's safetensors, counted"
EXACT, ROUNDED = 0.0, 0.1
T5 = (4_762_310_656, EXACT, FILES)
UMT5 = (5_680_910_336, EXACT, FILES)
WAN_VAE = (126_892_531, EXACT, FILES)
COGVIDEOX_VAE = (215_583_907, EXACT, FILES)
WAN_14B = (14_288_491_584, EXACT, FILES)
CLIP_L = (123_060_480, EXACT, FILES)
VIT_H = (632_076_800, EXACT, FILES)
SD_VAE = (83_653_863, EXACT, FILES)

# Component, its published number of parameters, how near ours must be, where it is published.
PUBLISHED: dict[str, dict[str, tuple[float, float, str]]] = {
    "cogvideox": {
        "text_encoder": T5,
        "transformer": (1_693_783_872, EXACT, FILES),
        "vae": COGVIDEOX_VAE,
    },
    "cogvideox-5b": {
        "text_encoder": T5,
        "transformer": (5_570_283_072, EXACT, "the training log of the finetrainers project"),
        "vae": COGVIDEOX_VAE,
    },
    "cogvideox-1.5-5b": {
        "text_encoder": T5,
        "transformer": (5e9, 0.12, "its name; 5,571,594,880 for the twin that takes an image"),
        "vae": COGVIDEOX_VAE,
    },
    "cogvideox-5b-i2v": {
        "text_encoder": T5,
        "transformer": (5_625_087_552, EXACT, FILES),
        "vae": COGVIDEOX_VAE,
    },
    "wan2.1-t2v-1.3b": {
        "text_encoder": UMT5,
        "transformer": (1_418_996_800, EXACT, FILES),
        "vae": WAN_VAE,
    },
    "wan2.1-t2v-14b": {"text_encoder": UMT5, "transformer": WAN_14B, "vae": WAN_VAE},
    "wan2.1-i2v-14b": {
        "text_encoder": UMT5,
        "transformer": (16_394_878_784, EXACT, FILES + " (SkyReels-V2-I2V, the same architecture)"),
        "image_encoder": VIT_H,
        "vae": WAN_VAE,
    },
    "wan2.2-t2v-a14b": {
        "text_encoder": UMT5,
        "transformer": WAN_14B,
        "transformer_2": WAN_14B,
        "vae": WAN_VAE,
    },
    "wan2.2-i2v-a14b": {
        "text_encoder": UMT5,
        "transformer": (14e9, 0.03, "its name: 14B active"),
        "transformer_2": (14e9, 0.03, "its name: 14B active"),
        "vae": WAN_VAE,
    },
    "wan2.2-ti2v-5b": {
        "text_encoder": UMT5,
        "transformer": (4_999_787_712, EXACT, FILES),
        "vae": (704_688_668, EXACT, FILES),
    },
    "skyreels-v2": {"text_encoder": UMT5, "transformer": WAN_14B, "vae": WAN_VAE},
    "ltx-video": {
        "text_encoder": T5,
        "transformer": (1_923_385_472, EXACT, FILES),
        "vae": (419e6, 0.01, "none: diffusers' script loads release 0.9.0 into it strictly"),
    },
    "mochi": {
        "text_encoder": T5,
        "transformer": (10_027_677_744, EXACT, FILES),
        "vae": (459.7e6, 0.01, "362 million of its model card, and the encoder beside them"),
    },
    "hunyuanvideo": {
        "text_encoder": (7_505_186_816, EXACT, FILES),
        "text_encoder_2": CLIP_L,
        "transformer": (12_821_012_544, EXACT, FILES),
        "vae": (246_478_803, EXACT, FILES),
    },
    "allegro": {
        "text_encoder": T5,
        "transformer": (2.8e9, 0.02, "its model card"),
        "vae": (175e6, 0.005, "its model card"),
    },
    "modelscope": {
        "text_encoder": (
            340_387_840,
            EXACT,
            "OpenCLIP ViT-H/14, text tower without its last layer",
        ),
        "unet": (1.36e9, 0.05, "1.7 billion of its report, the text encoder taken off"),
        "vae": SD_VAE,
    },
    "svd": {
        "image_encoder": VIT_H,
        "unet": (1_524_623_082, EXACT, FILES),
        "vae": (
            34_163_592 + 63_579_183 + 72,
            EXACT,
            "a table of its encoder and decoder; a 1x1 convolution",
        ),
    },
    "text2video-zero": {
        "text_encoder": CLIP_L,
        "unet": (859_520_964, EXACT, FILES),
        "vae": SD_VAE,
    },
}


def test_every_shipped_configuration_has_its_published_sizes_here() -> None:
    assert {f.stem for f in random_weights.CONFIGS.glob("*.json")} == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_pipeline_takes_components_of_the_published_sizes(name: str) -> None:
    """Built on the meta device, where a tensor has a shape and no memory."""
    read = json.loads((random_weights.CONFIGS / f"{name}.json").read_text())
    spec = ModelSpec(name, "diffusers", read["repositories"][0])
    found = random_weights.configuration(spec)
    pipeline = random_weights.assemble(found, spec, "meta", torch.bfloat16)
    assert type(pipeline).__name__ == read["pipeline"]
    given = {part: value for part, value in pipeline.components.items() if value is not None}
    assert set(given) == set(read["components"])
    sizes = {}
    for part, made in given.items():
        if isinstance(made, torch.nn.Module):
            # As in a file: tied weights once, tables that are stored with the weights too.
            stored = {id(t): t.numel() for t in (*made.parameters(), *stored_buffers(made))}
            sizes[part] = sum(stored.values())
            assert {p.dtype for p in made.parameters()} <= {torch.bfloat16, torch.float32}
    assert set(sizes) == set(PUBLISHED[name])
    for part, (published, tolerance, _) in PUBLISHED[name].items():
        assert sizes[part] == pytest.approx(published, rel=tolerance, abs=0), part


def stored_buffers(module: torch.nn.Module) -> list[torch.Tensor]:
    kept = set(module.state_dict())
    return [buffer for name, buffer in module.named_buffers() if name in kept]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_catalog_knows_the_model_and_its_pipeline(name: str) -> None:
    read = json.loads((random_weights.CONFIGS / f"{name}.json").read_text())
    known = [s for s in CATALOG if s.location in read["repositories"]]
    assert read["pipeline"] in {spec.pipeline for spec in known}


# -------------------------------------------------------------------------- pipelines that run


TINY = {"tiny_wan": tiny_wan, "tiny_ltx": tiny_ltx}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Saved tiny pipelines of which only the configurations are left."""
    parent = tmp_path_factory.mktemp("configs")
    for name, make in TINY.items():
        make().save_pretrained(parent / name)
    for weights in parent.glob("**/*.safetensors"):
        weights.unlink()
    return {name: parent / name for name in TINY}


@pytest.fixture(params=TINY)
def weightless(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    return folders[request.param]


def spec_of(folder: Path, **more: Any) -> ModelSpec:
    return ModelSpec(folder.name, "diffusers", str(folder), weights="random", **more)


def call_of(folder: Path) -> dict[str, Any]:
    return {**NAMED[folder.name.replace("_", "-")].call, **SMALL}


def test_a_folder_without_weights_gives_finite_videos(weightless: Path) -> None:
    source = open_source(spec_of(weightless))
    output = source.generate(FOX, 0, call_of(weightless))
    trained = TINY[weightless.name]()
    for name, module in trained.components.items():
        if isinstance(module, torch.nn.Module):
            shapes = {k: (p.shape, p.dtype) for k, p in module.named_parameters()}
            ours = getattr(source.pipeline, name).named_parameters()
            assert {k: (p.shape, p.dtype) for k, p in ours} == shapes
    assert output.frames.shape == (9, 32, 32, 3)
    assert np.isfinite(output.frames).all()
    assert np.ptp(output.frames) > 0
    assert output.latent is not None
    assert np.isfinite(output.latent).all()
    assert source.provides == {"latency", "cpu_time", "stages", "load", "memory", "energy"}


def test_half_precision_keeps_what_a_load_keeps(weightless: Path) -> None:
    pipeline = open_source(spec_of(weightless, dtype="bfloat16")).pipeline
    kinds = {p.dtype for p in pipeline.transformer.parameters()}
    wan = weightless.name == "tiny_wan"
    assert kinds == ({torch.bfloat16, torch.float32} if wan else {torch.bfloat16})
    assert {p.dtype for p in pipeline.vae.parameters()} == {torch.bfloat16}


GENERATE = """
import hashlib, json, sys
from pytest_vdb.models.open import open_source
from pytest_vdb.records import ModelSpec, Prompt
for folder, call in json.loads(sys.argv[1]):
    spec = ModelSpec("x", "diffusers", folder, weights="random")
    output = open_source(spec).generate(Prompt("fox", "a red fox runs through snow"), 0, call)
    print("sha256", hashlib.sha256(output.frames.tobytes()).hexdigest())
"""


def test_two_processes_make_the_same_videos(folders: dict[str, Path]) -> None:
    asked = [(str(folder), call_of(folder)) for folder in folders.values()]
    command = [sys.executable, "-c", GENERATE, json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    there = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("sha256")]
    here = [
        open_source(spec_of(folder)).generate(FOX, 0, call_of(folder)).frames
        for folder in folders.values()
    ]
    assert there == [hashlib.sha256(frames.tobytes()).hexdigest() for frames in here]
    assert len(set(there)) == 2


def test_weights_are_seeded_by_name_and_scaled() -> None:
    one, same, other = (random_weights.fill(tiny_wan(), seed).transformer for seed in (0, 0, 1))
    weight = one.blocks[0].ffn.net[0].proj.weight
    assert torch.equal(weight, same.blocks[0].ffn.net[0].proj.weight)
    assert not torch.equal(weight, other.blocks[0].ffn.net[0].proj.weight)
    assert not torch.equal(weight, one.blocks[1].ffn.net[0].proj.weight)
    assert float(weight.detach().std()) == pytest.approx(weight.shape[1] ** -0.5, rel=0.05)
    assert (one.blocks[0].attn1.norm_q.weight == 1).all()
    assert (one.blocks[0].ffn.net[0].proj.bias == 0).all()
    vae = random_weights.fill(tiny_wan()).vae
    assert (vae.decoder.norm_out.gamma == 1).all()  # of shape (channels, 1, 1, 1)


def test_a_function_s_pipeline_gets_random_weights_too() -> None:
    spec = NAMED["tiny-wan"]
    filled = open_source(
        ModelSpec("tiny-wan", "factory", spec.location, weights="random")
    ).pipeline.transformer
    assert (filled.blocks[0].ffn.net[0].proj.bias == 0).all()


ENGINE = """
class Engine:
    def generate(self, prompt, seed): ...

def build():
    return Engine()
"""


def test_an_engine_cannot_get_random_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "engine_for_vdb.py").write_text(ENGINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(BadSetting, match="is an engine"):
        open_source(ModelSpec("e", "factory", "engine_for_vdb:build", weights="random"))


# ------------------------------------------------------------------- where configurations are


def test_a_byte_tokenizer_stands_in_and_pads_as_the_model_s_own() -> None:
    for name in PUBLISHED:
        read = json.loads((random_weights.CONFIGS / f"{name}.json").read_text())
        for part, entry in read["components"].items():
            if "Tokenizer" in entry["class"]:
                spec = ModelSpec(name, "diffusers", "x")
                made = random_weights.component(part, entry, spec, "cpu", torch.float32)
                ids = made("a fox", padding="max_length", return_tensors="pt").input_ids
                assert ids.shape == (1, entry["config"]["model_max_length"])


def test_an_unknown_model_says_which_configurations_there_are(tmp_path: Path) -> None:
    spec = ModelSpec("mine", "diffusers", "org/mine", weights="random")
    with pytest.raises(SourceError, match=r"They ship for .*THUDM/CogVideoX-2b.*--include") as e:
        open_source(spec)
    assert "hf download org/mine" in str(e.value)


def test_a_shipped_configuration_is_not_for_another_pipeline() -> None:
    spec = NAMED["framepack"]
    with pytest.raises(SourceError, match="no configuration of hunyuanvideo-community"):
        random_weights.configuration(spec)


def test_a_folder_s_own_code_is_refused_here_too(weightless: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(weightless, tmp_path / "copy"))
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"vae": ["evil", "Vae"]}))
    with pytest.raises(SourceError, match="is not run"):
        open_source(spec_of(folder))


def test_the_docs_list_what_ships() -> None:
    page = (Path(__file__).parents[2] / "docs" / "loading.md").read_text()
    for repository in random_weights.shipped():
        assert f"`{repository}`" in page
