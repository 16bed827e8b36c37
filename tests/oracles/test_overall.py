"""ViCLIP: published parameters and a form written by hand; MiniLM as its card says."""

from __future__ import annotations

import gzip
from importlib.metadata import PackageNotFoundError, distribution

import numpy as np
import pytest
import torch

from pytest_vdb.errors import Unmeasured, WrongWeights
from pytest_vdb.metrics import overall
from pytest_vdb.metrics.catalog.overall import MINILM, MINILM_TEXT
from pytest_vdb.metrics.engine import Extractor
from pytest_vdb.metrics.networks import viclip
from pytest_vdb.metrics.preprocess import CLIP_MEAN, CLIP_STD
from pytest_vdb.metrics.video import Video

TEXTS = ["A dog runs along the beach.", "a puppy on the shore", "stock prices fell"]


def block(width):
    """Names and shapes of one layer of CLIP's transformer."""
    square, wide = (width, width), (4 * width, width)
    names = {"attn.in_proj_weight": (3 * width, width), "attn.in_proj_bias": (3 * width,)}
    names |= {"attn.out_proj.weight": square, "attn.out_proj.bias": (width,)}
    names |= {f"ln_{i}.{what}": (width,) for i in (1, 2) for what in ("weight", "bias")}
    names |= {"mlp.c_fc.weight": wide, "mlp.c_fc.bias": (4 * width,)}
    return names | {"mlp.c_proj.weight": wide[::-1], "mlp.c_proj.bias": (width,)}


def published():
    vision = {"class_embedding": (1024,), "positional_embedding": (257, 1024)}
    vision |= {"temporal_positional_embedding": (1, 8, 1024), "proj": (1024, 768)}
    vision |= {"conv1.weight": (1024, 3, 1, 14, 14)}
    vision |= {f"ln_{n}.{what}": (1024,) for n in ("pre", "post") for what in ("weight", "bias")}
    text = {"positional_embedding": (32, 768), "text_projection": (768, 768)}
    text |= {"token_embedding.weight": (49408, 768)}
    text |= {f"ln_final.{what}": (768,) for what in ("weight", "bias")}
    for encoder, layers, width in ((vision, 24, 1024), (text, 12, 768)):
        for i in range(layers):
            encoder |= {f"transformer.resblocks.{i}.{k}": v for k, v in block(width).items()}
    both = (("vision_encoder", vision), ("text_encoder", text))
    return {"temp": ()} | {f"{name}.{k}": v for name, part in both for k, v in part.items()}


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """ViCLIP of another size with seeded random weights, and a tokenizer of three merges."""
    module = viclip.ViCLIP(
        viclip.Size(32, 2, 4), viclip.Size(24, 2, 2), joint=16, side=28, vocabulary=517
    )
    generator = torch.Generator().manual_seed(0)
    for value in module.state_dict().values():
        value.copy_(torch.randn(value.shape, generator=generator) * 0.3)
    merges = tmp_path_factory.mktemp("viclip") / viclip.MERGES
    merges.write_bytes(gzip.compress(b"#version: 0.2\nd o\ndo g</w>\na n\n"))
    module.tokenizer = viclip.tokenizer(merges)
    return module.eval().requires_grad_(False)


def layered(x, state, name):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * state[f"{name}.weight"] + state[f"{name}.bias"]


def transformer(x, state, name, heads, hidden=0.0):
    """Two layers of CLIP's on (L, D)."""
    for i in range(2):
        at = f"{name}.transformer.resblocks.{i}"
        y = layered(x, state, f"{at}.ln_1")
        y = y @ state[f"{at}.attn.in_proj_weight"].T + state[f"{at}.attn.in_proj_bias"]
        query, key, value = (
            part.reshape(len(x), heads, -1).transpose(1, 0, 2) for part in np.split(y, 3, axis=1)
        )
        weight = np.exp(query @ key.transpose(0, 2, 1) / np.sqrt(query.shape[-1]) + hidden)
        seen = (weight / weight.sum(-1, keepdims=True) @ value).transpose(1, 0, 2)
        seen = seen.reshape(x.shape) @ state[f"{at}.attn.out_proj.weight"].T
        x = x + seen + state[f"{at}.attn.out_proj.bias"]
        y = layered(x, state, f"{at}.ln_2") @ state[f"{at}.mlp.c_fc.weight"].T
        y = y + state[f"{at}.mlp.c_fc.bias"]
        y = y / (1 + np.exp(-1.702 * y))
        x = x + y @ state[f"{at}.mlp.c_proj.weight"].T + state[f"{at}.mlp.c_proj.bias"]
    return x


def video_by_hand(state, frames):
    """(8, 3, 28, 28) → (16,): four patches a frame, all frames in one sequence."""
    name, tokens = "vision_encoder", []
    kernel = state[f"{name}.conv1.weight"].reshape(32, -1)
    for t, frame in enumerate(frames):
        for place in range(4):
            top, left = 14 * (place // 2), 14 * (place % 2)
            patch = kernel @ frame[:, top : top + 14, left : left + 14].flatten()
            patch = patch + state[f"{name}.positional_embedding"][1 + place]
            tokens.append(patch + state[f"{name}.temporal_positional_embedding"][0, t])
    first = state[f"{name}.class_embedding"] + state[f"{name}.positional_embedding"][0]
    x = layered(np.stack([first, *tokens]), state, f"{name}.ln_pre")
    x = layered(transformer(x, state, name, 4)[0], state, f"{name}.ln_post")
    return x @ state[f"{name}.proj"]


def text_by_hand(state, ids):
    """32 tokens with zeros behind the end, each seeing those before it; the end's vector."""
    name, padded = "text_encoder", ids + [0] * (32 - len(ids))
    x = state[f"{name}.token_embedding.weight"][padded] + state[f"{name}.positional_embedding"]
    x = transformer(x, state, name, 2, np.triu(np.full((32, 32), -np.inf), 1))
    return layered(x[len(ids) - 1], state, f"{name}.ln_final") @ state[f"{name}.text_projection"]


def test_parameters_have_the_published_names_and_shapes():
    with torch.device("meta"):
        state = viclip.ViCLIP().state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == published()
    assert (len(state), sum(v.numel() for v in state.values())) == (447, 427_590_145)


def test_vectors_and_their_cosine_equal_the_form_written_by_hand(network):
    state = {k: v.double().numpy() for k, v in network.state_dict().items()}
    frames = torch.randn(2, 8, 3, 28, 28, generator=torch.Generator().manual_seed(1))
    ours = network.video(frames).numpy()
    by_hand = np.stack([video_by_hand(state, video.double().numpy()) for video in frames])
    assert np.abs(ours - by_hand).max() < 1e-5 * np.abs(by_hand).max()
    told = network.text("a dog").numpy()
    told_by_hand = text_by_hand(state, [515, 320, 513, 516])
    assert np.abs(told - told_by_hand).max() < 1e-5 * np.abs(told_by_hand).max()
    cosine = by_hand[0] @ told_by_hand
    cosine /= np.sqrt((by_hand[0] ** 2).sum() * (told_by_hand**2).sum())
    assert overall.overall_consistency(ours[:1], told) == pytest.approx(cosine, abs=1e-5)


def test_the_tokenizer_reads_as_clip_does(network):
    """Bytes of printable characters first, the same at a word's end, merges, start, end."""

    def ids(text):
        return network.tokenizer(text, truncation=True, max_length=viclip.TOKENS)["input_ids"]

    end_of_word = 256
    a, b = ord("a") - ord("!"), ord("b") - ord("!")
    assert ids("a") == [515, end_of_word + a, 516]
    assert ids("AB") == ids("ab") == [515, a, end_of_word + b, 516]
    assert ids("  dog\n dog") == [515, 513, 513, 516]
    assert ids("") == [515, 516]
    assert ids("dog " * 50) == [515, *[513] * 30, 516]
    assert torch.equal(network.text("dog&amp;amp;dog"), network.text("dog&dog"))
    assert torch.equal(network.text("“dog’s”"), network.text('"dog\'s"'))


def test_frames_are_resized_without_antialiasing_and_cropped():
    frames = torch.randint(0, 256, (1, 3, 672, 690), dtype=torch.uint8)
    middle = frames[..., 1::3, 1::3][..., 3:227] / 255  # the middle one of three, 230 px wide
    seen = overall.prepare(frames)
    assert seen.shape == (1, 3, 224, 224)
    back = seen * torch.tensor(CLIP_STD)[:, None, None] + torch.tensor(CLIP_MEAN)[:, None, None]
    assert (back - middle).abs().max() < 1e-6


def test_a_vector_without_a_direction_is_unmeasured():
    for vector in (np.zeros((1, 3)), np.full((1, 3), np.nan)):
        with pytest.raises(Unmeasured, match="no direction"):
            overall.overall_consistency(vector, np.ones((1, 3)))


def test_files_that_are_not_viclip_are_wrong_weights(tmp_path):
    (tmp_path / viclip.MERGES).write_bytes(b"no gzip")
    with pytest.raises(WrongWeights, match="no merges"):
        viclip.tokenizer(tmp_path / viclip.MERGES)


@pytest.fixture(scope="module")
def minilm_folder():
    try:
        return distribution(MINILM.package).locate_file(MINILM.inside)
    except PackageNotFoundError:
        pytest.skip(f"MiniLM: {MINILM.install}")


def test_minilm_equals_the_recipe_of_its_card(minilm_folder):
    from transformers import AutoModel, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(minilm_folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = AutoModel.from_pretrained(minilm_folder)(**tokens).last_hidden_state.numpy()
    mask = tokens["attention_mask"].numpy()[..., None]
    mean = (states * mask).sum(1) / mask.sum(1)
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    extractor, video = Extractor(), Video(np.zeros((1, 8, 8, 3), np.uint8))
    rows = [extractor.rows([MINILM_TEXT], video, prompt=t)[MINILM_TEXT.name][0] for t in TEXTS]
    assert np.abs(rows - mean).max() < 1e-6


def test_similar_texts_are_closer_than_others(minilm_folder):
    alike, other, same = (overall.text_similarity(TEXTS[0], text) for text in TEXTS[1:] + TEXTS[:1])
    assert 1 > alike > 0.5 > other
    assert same == pytest.approx(1, abs=1e-6)
