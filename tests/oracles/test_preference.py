"""pick_score and hps_v2_1: against transformers' logits, and OpenCLIP's network by hand in float64.

The networks have the published architecture, parameter names and tokenizer, few random parameters
and no merges.
"""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional

from pytest_vdb.errors import Unmeasured, WrongWeights
from pytest_vdb.metrics.catalog.text import METRICS
from pytest_vdb.metrics.engine import Extractor
from pytest_vdb.metrics.networks import open_clip
from pytest_vdb.metrics.networks.viclip import MERGES, tokenizer
from pytest_vdb.metrics.preprocess import CLIP_MEAN, CLIP_STD
from pytest_vdb.metrics.registry import evaluate
from pytest_vdb.metrics.video import Video

SIDE, PATCH, JOINT, WORDS = 32, 8, 12, 514  # words: 256 bytes, the same at a word's end, two more
PROMPT = "A red Square on the left"
SMALL = {
    "projection_dim": JOINT,
    "text_config": {"hidden_size": 16, "vocab_size": WORDS, "bos_token_id": 512}
    | {"eos_token_id": 513, "pad_token_id": 513},
    "vision_config": {"hidden_size": 24, "image_size": SIDE, "patch_size": PATCH},
}
for part in ("text_config", "vision_config"):
    SMALL[part] |= {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_act": "gelu"}
    SMALL[part]["intermediate_size"] = 4 * SMALL[part]["hidden_size"]


def spec_of(name, **small):
    """The metric over a small network."""
    (spec,) = (spec for spec in METRICS if spec.name == name)
    network = replace(spec.features[0].network, sha256="", hub="", **small)
    return replace(spec, features=tuple(replace(f, network=network) for f in spec.features))


def frames_of(height, width, count=3):
    y, x = np.mgrid[:height, :width]
    waves = [
        np.sin((x + 5 * t) / 9 + c) + np.cos((y - 3 * t) / 7)
        for t in range(count)
        for c in range(3)
    ]
    stacked = np.stack(waves).reshape(count, 3, height, width).transpose(0, 2, 3, 1)
    return np.rint(127.5 + 60 * stacked).astype(np.uint8)


def normalized(pixels):
    mean, std = (torch.tensor(v, dtype=pixels.dtype).view(3, 1, 1) for v in (CLIP_MEAN, CLIP_STD))
    return (pixels / 255 - mean) / std


@pytest.fixture(scope="module")
def merges(tmp_path_factory):
    """The tokenizer's file without merges: each byte is a token."""
    path = tmp_path_factory.mktemp("merges") / MERGES
    path.write_bytes(gzip.compress(b"#version: 0.2\n"))
    return path


# ---------------------------------------------------------------------------- PickScore


@pytest.fixture(scope="module")
def picker(tmp_path_factory, merges):
    """A folder of --vdb-metric-weights, and the model that transformers makes of the same state."""
    from transformers import CLIPConfig, CLIPModel

    folder = tmp_path_factory.mktemp("weights")
    own = folder / "pick_score_v1"
    own.mkdir()
    words = tokenizer(merges)
    words.save_pretrained(own)
    vocabulary = words.get_vocab()
    (own / "vocab.json").write_text(json.dumps(vocabulary))
    (own / "merges.txt").write_text("#version: 0.2\n")
    config = CLIPConfig(**SMALL)
    config.save_pretrained(own)
    torch.manual_seed(3)
    model = CLIPModel(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.logit_scale.data.fill_(4.6)  # about 100, where it ends up in training
    save_file(model.state_dict(), own / "model.safetensors")
    return folder, model, words


def test_pick_score_is_the_mean_of_transformers_logits(picker):
    folder, model, words = picker
    frames = frames_of(61, 90)
    pictures = [
        Image.fromarray(frame)
        .resize((int(SIDE * 90 / 61), SIDE), Image.Resampling.BICUBIC)
        .crop((8, 0, 8 + SIDE, SIDE))
        for frame in frames
    ]
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()
    ids = torch.tensor([words(PROMPT)["input_ids"]])
    with torch.inference_mode():
        logits = model(input_ids=ids, pixel_values=normalized(pixels)).logits_per_image
    score = evaluate(
        spec_of("pick_score"), Video(frames), prompt=PROMPT, extractor=Extractor(weights=folder)
    )
    assert abs(float(logits.mean())) > 1
    assert score == pytest.approx(float(logits.mean()), abs=1e-3)


def test_an_empty_prompt_is_unmeasured(picker):
    with pytest.raises(Unmeasured, match="pick_score: the prompt is empty"):
        evaluate(
            spec_of("pick_score"), frames_of(32, 32), prompt=" ", extractor=Extractor(picker[0])
        )


def test_pick_score_is_a_clip_vit_h14():
    """Its file of float32 is 3.94 GB: 986 109 441 parameters and names."""
    from transformers import CLIPConfig, CLIPModel

    with torch.device("meta"):
        model = CLIPModel(CLIPConfig(**open_clip.VIT_H14))
    assert sum(p.numel() for p in model.parameters()) == 986_109_441
    assert len(list(model.parameters())) == 910


# ---------------------------------------------------------------------------- HPS


def shapes(width, layers, hidden, joint, text_width, text_layers, words, side, patch):
    """OpenCLIP's parameters: names and shapes."""
    blocks = {
        f"{before}transformer.resblocks.{i}.{name}": shape
        for before, size, count in (("visual.", width, layers), ("", text_width, text_layers))
        for i in range(count)
        for name, shape in {
            **{f"ln_{n}.{kind}": (size,) for n in (1, 2) for kind in ("weight", "bias")},
            "attn.in_proj_weight": (3 * size, size),
            "attn.in_proj_bias": (3 * size,),
            "attn.out_proj.weight": (size, size),
            "attn.out_proj.bias": (size,),
            "mlp.c_fc.weight": (hidden * size, size),
            "mlp.c_fc.bias": (hidden * size,),
            "mlp.c_proj.weight": (size, hidden * size),
            "mlp.c_proj.bias": (size,),
        }.items()
    }
    norms = {"visual.ln_pre": width, "visual.ln_post": width, "ln_final": text_width}
    return blocks | {
        **{f"{n}.{kind}": (size,) for n, size in norms.items() for kind in ("weight", "bias")},
        "visual.class_embedding": (width,),
        "visual.positional_embedding": ((side // patch) ** 2 + 1, width),
        "visual.conv1.weight": (width, 3, patch, patch),
        "visual.proj": (width, joint),
        "token_embedding.weight": (words, text_width),
        "positional_embedding": (77, text_width),
        "text_projection": (text_width, joint),
        "logit_scale": (),
    }


@pytest.fixture(scope="module")
def hps(tmp_path_factory, merges):
    folder = tmp_path_factory.mktemp("weights")
    own = folder / "hps_v2_1"
    own.mkdir()
    (own / MERGES).write_bytes(merges.read_bytes())
    generator = torch.Generator().manual_seed(5)
    state = {
        name: (torch.randn(shape, generator=generator) * 0.3).half()  # as the published file
        for name, shape in shapes(24, 2, 4, JOINT, 16, 2, WORDS, SIDE, PATCH).items()
    }
    torch.save({"epoch": 1, "state_dict": state}, own / "HPS_v2.1_compressed.pt")
    return folder, {name: value.double() for name, value in state.items()}


def transformer(s, x, before, hidden):
    for i in range(2):
        name = f"{before}transformer.resblocks.{i}."
        line = lambda x, n: x @ s[n + ".weight"].T + s[n + ".bias"]  # noqa: E731
        norm = lambda x, n: functional.layer_norm(x, x.shape[-1:], s[n + ".weight"], s[n + ".bias"])  # noqa: E731
        y = norm(x, name + "ln_1") @ s[name + "attn.in_proj_weight"].T
        q, k, v = (y + s[name + "attn.in_proj_bias"]).unflatten(1, (3, 2, -1)).permute(1, 2, 0, 3)
        seen = (q @ k.mT / q.shape[-1] ** 0.5 + hidden).softmax(-1) @ v
        x = x + line(seen.transpose(0, 1).flatten(1), name + "attn.out_proj")
        y = functional.gelu(line(norm(x, name + "ln_2"), name + "mlp.c_fc"))
        x = x + line(y, name + "mlp.c_proj")
    return x


def image_by_hand(s, pixels):
    norm = lambda x, n: functional.layer_norm(x, x.shape[-1:], s[n + ".weight"], s[n + ".bias"])  # noqa: E731
    x = functional.conv2d(pixels[None], s["visual.conv1.weight"], stride=PATCH)[0].flatten(1).T
    x = torch.cat([s["visual.class_embedding"][None], x]) + s["visual.positional_embedding"]
    x = transformer(s, norm(x, "visual.ln_pre"), "visual.", 0)
    return norm(x[0], "visual.ln_post") @ s["visual.proj"]


def text_by_hand(s, ids):
    x = s["token_embedding.weight"][ids] + s["positional_embedding"][: len(ids)]
    hidden = torch.full((len(ids), len(ids)), -math.inf, dtype=torch.float64).triu(1)
    x = transformer(s, x, "", hidden)[-1]
    x = functional.layer_norm(x, x.shape, s["ln_final.weight"], s["ln_final.bias"])
    return x @ s["text_projection"]


def on_black(frame):
    """The longer side 32 px, torch's antialiased bicubic of floats, black around it."""
    height, width = frame.shape[:2]
    size = [round(length * SIDE / max(height, width)) for length in (height, width)]
    pixels = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
    small = functional.interpolate(pixels, size, mode="bicubic", antialias=True)[0].double()
    square = torch.zeros(3, SIDE, SIDE, dtype=torch.float64)
    top, left = (SIDE - size[0]) // 2, (SIDE - size[1]) // 2
    square[:, top : top + size[0], left : left + size[1]] = small
    return normalized(square)


@pytest.mark.parametrize("size", [(61, 90), (90, 61), (32, 24)])
def test_hps_by_hand(hps, merges, size):
    folder, state = hps
    frames = frames_of(*size)
    ids = torch.tensor(tokenizer(merges)("a dog's red & round ball")["input_ids"])
    text = text_by_hand(state, ids)
    images = torch.stack([image_by_hand(state, on_black(frame)) for frame in frames])
    known = float(functional.cosine_similarity(images, text[None]).mean())
    score = evaluate(
        spec_of("hps_v2_1", load=small),
        Video(frames),
        prompt=" A dog’s red &amp;amp; round ball",  # OpenCLIP mends quotes and HTML escapes
        extractor=Extractor(weights=folder),
    )
    assert abs(known) > 0.01
    assert score == pytest.approx(known, abs=1e-5)


def small(path):
    return open_clip.load(path, **SMALL)


def test_hps_takes_every_published_parameter():
    """OpenCLIP's ViT-H-14: 986 109 441 parameters, all of them transformers' CLIPModel's."""
    from transformers import CLIPConfig, CLIPModel

    with torch.device("meta"):
        published = shapes(1280, 32, 4, 1024, 1024, 24, 49408, 224, 14)
        state = {name: torch.empty(shape) for name, shape in published.items()}
        theirs = CLIPModel(CLIPConfig(**open_clip.VIT_H14)).named_parameters()
    ours = {name: tuple(value.shape) for name, value in open_clip.renamed(state)}
    assert sum(value.numel() for value in state.values()) == 986_109_441
    assert ours == {name: tuple(value.shape) for name, value in theirs}


def test_another_network_is_wrong_weights(hps, merges, tmp_path):
    (tmp_path / MERGES).write_bytes(merges.read_bytes())
    torch.save({"weight": torch.ones(2)}, tmp_path / "other.pt")
    with pytest.raises(WrongWeights, match="is not a CLIPModel of its"):
        small(tmp_path / "other.pt")
