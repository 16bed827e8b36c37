"""clip_score, and CLIP's features: against transformers' own cosine and Pillow's preprocessing.

CLIP has the published architecture and tokenizer with few, random parameters and no merges.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from pytest_vdb.errors import Unmeasured, WrongWeights
from pytest_vdb.metrics import text
from pytest_vdb.metrics.catalog.consistency import CLIP, CLIP_VBENCH, CLIP_VITB32
from pytest_vdb.metrics.catalog.text import CLIP_TEXT
from pytest_vdb.metrics.engine import Extractor
from pytest_vdb.metrics.networks import clip as networks
from pytest_vdb.metrics.preprocess import CLIP_MEAN, CLIP_STD
from pytest_vdb.metrics.video import Video

SIDE, DIM = 32, 12
PROMPT = "A red Square on the left"
BEGIN, END = "<|startoftext|>", "<|endoftext|>"


def letters_of_bytes():
    """The character that stands for each byte: itself where it can be printed, then U+0100 on."""
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printed]
    return [chr(byte) for byte in printed] + [chr(256 + i) for i in range(len(others))]


def write_tokenizer(folder):
    """CLIP's byte-level tokenizer without merges: each byte is a token, the last of a word other.

    The special tokens come last, as in the published vocabulary.
    """
    from transformers import CLIPTokenizerFast

    letters = letters_of_bytes()
    tokens = [*letters, *(letter + "</w>" for letter in letters), BEGIN, END]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    CLIPTokenizerFast.from_pretrained(folder).save_pretrained(folder)
    return vocabulary


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder of --vdb-metric-weights with a small CLIP."""
    from transformers import CLIPConfig, CLIPModel

    folder = tmp_path_factory.mktemp("weights")
    own = folder / "clip_vitb32"
    own.mkdir()
    vocabulary = write_tokenizer(own)
    small = {"hidden_size": 16, "intermediate_size": 32}
    small |= {"num_hidden_layers": 2, "num_attention_heads": 2}
    # 0 and 2 as the published config has them: CLIP's end token is the highest id
    tokens = {"vocab_size": len(vocabulary), "bos_token_id": 0, "eos_token_id": 2}
    config = CLIPConfig(
        vision_config=small | {"image_size": SIDE, "patch_size": 8},
        text_config=small | tokens,
        projection_dim=DIM,
    )
    config.save_pretrained(own)
    torch.manual_seed(8)  # one where text and pictures agree
    model = CLIPModel(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    old = {"vision_model.embeddings.position_ids": torch.arange(17)}  # as older files have it
    torch.save(model.state_dict() | old, own / "pytorch_model.bin")
    return folder


@pytest.fixture(scope="module")
def reference(weights):
    """The same CLIP, loaded by transformers alone."""
    from transformers import CLIPConfig, CLIPModel

    own = weights / "clip_vitb32"
    model = CLIPModel(CLIPConfig.from_pretrained(own))
    state = torch.load(own / "pytorch_model.bin", weights_only=True)
    model.load_state_dict({k: v for k, v in state.items() if "position_ids" not in k})
    return model.eval()


def small(feature):
    return replace(feature, network=replace(CLIP_VITB32, sha256="", hub=""))


@pytest.fixture(scope="module")
def extractor(weights):
    return Extractor(weights=weights)


def frames_of(height, width, count=3):
    """Smooth moving colours: noise would tell little about a resize."""
    y, x = np.mgrid[:height, :width]
    waves = [
        np.sin((x + 5 * t) / 9 + c) + np.cos((y - 3 * t) / 7)
        for t in range(count)
        for c in range(3)
    ]
    stacked = np.stack(waves).reshape(count, 3, height, width).transpose(0, 2, 3, 1)
    return np.rint(127.5 + 60 * stacked).astype(np.uint8)


def normalized(pixels):
    """(N, 3, H, W) on 0–255 as CLIP wants them."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (CLIP_MEAN, CLIP_STD))
    return (pixels / 255 - mean) / std


def as_clip_does(frames):
    """torchvision's Resize, CenterCrop on Pillow pictures: what CLIP is run with."""
    height, width = frames.shape[1:3]
    size = (
        (int(SIDE * width / height), SIDE)
        if height <= width
        else (SIDE, int(SIDE * height / width))
    )
    left, top = (round((length - SIDE) / 2) for length in size)
    pictures = [
        Image.fromarray(frame)
        .resize(size, Image.Resampling.BICUBIC)
        .crop((left, top, left + SIDE, top + SIDE))
        for frame in frames
    ]
    return normalized(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float())


def cosines(model, pixels, ids):
    """transformers' own: logits without their scale."""
    with torch.inference_mode():
        output = model(input_ids=ids, pixel_values=pixels)
        return (output.logits_per_image[:, 0] / model.logit_scale.exp()).double().numpy()


def tokens(prompt):
    """The ids of letters and spaces by hand: the begin, each letter, the end."""
    letters = letters_of_bytes()
    ids = []
    for word in prompt.lower().split():
        ids += [letters.index(letter) for letter in word[:-1]]
        ids.append(len(letters) + letters.index(word[-1]))
    begin, end = 2 * len(letters), 2 * len(letters) + 1
    return [begin, *ids[:75], end]


@pytest.mark.parametrize("size", [(61, 90), (77, 45), (32, 32)])
def test_clip_score_is_the_cosine_that_transformers_computes(extractor, reference, size):
    frames, prompt = frames_of(*size), PROMPT
    rows = extractor.rows([small(CLIP), small(CLIP_TEXT)], Video(frames), prompt=prompt)
    expected = cosines(reference, as_clip_does(frames), torch.tensor([tokens(prompt)]))
    assert expected.min() > 0.05
    assert rows["clip_vitb32_text"].shape == (1, DIM)
    score = text.clip_score(rows["clip_vitb32"], rows["clip_vitb32_text"])
    assert score == pytest.approx(100 * expected.mean(), abs=1e-4)


def test_a_long_prompt_keeps_its_end_token(extractor, reference):
    """Past 77 tokens: begin, 75 tokens, end; without the end CLIP would read another token."""
    prompt = "a dog runs over the green meadow and then " * 6
    ids = tokens(prompt)
    assert len(ids) == 77
    pixels = torch.zeros(1, 3, SIDE, SIDE)
    expected = cosines(reference, pixels, torch.tensor([ids]))[0]
    cut = cosines(reference, pixels, torch.tensor([[*ids[:-1], ids[5]]]))[0]
    feature = small(CLIP_TEXT)
    got = extractor.rows([feature], Video(frames_of(32, 32)), prompt=prompt)[feature.name]
    with torch.inference_mode():
        image = reference.visual_projection(reference.vision_model(pixels).pooler_output)
    image = image.double().numpy()[0]
    cosine = got[0] @ image / np.linalg.norm(got) / np.linalg.norm(image)
    assert cosine == pytest.approx(expected, abs=1e-5)
    assert abs(cosine - cut) > 1e-3


def test_a_negative_cosine_counts_as_nothing():
    """By hand: cosines 0.6 and −0.8 with (1, 0)."""
    images = np.array([[3.0, 4.0], [-4.0, 3.0]])
    assert text.clip_score(images, np.array([[2.0, 0.0]])) == pytest.approx(30, abs=1e-12)


def test_an_empty_prompt_is_unmeasured(extractor):
    with pytest.raises(Unmeasured, match="empty"):
        extractor.rows([small(CLIP_TEXT)], Video(frames_of(32, 32)), prompt=" ")


def test_vbenchs_input_is_not_antialiased(extractor, reference):
    """background_consistency's rows are of VBench's clip_transform, clip_score's of CLIP's own."""
    frames = np.random.Generator(np.random.PCG64(1)).integers(0, 256, (2, 150, 210, 3), np.uint8)
    features = [small(CLIP), small(CLIP_VBENCH)]
    rows = extractor.rows(features, Video(frames))
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    pixels = interpolate(pixels, (SIDE, 44), mode="bicubic", antialias=False)[..., 6:38]
    with torch.inference_mode():
        theirs = reference.vision_model(normalized(pixels)).pooler_output
        theirs = reference.visual_projection(theirs).double().numpy()
    assert np.abs(rows["clip_vitb32_vbench"] - theirs).max() < 1e-4
    assert np.abs(rows["clip_vitb32"] - theirs).max() > 0.01


def test_a_checkpoint_of_another_shape_is_wrong_weights(weights, tmp_path):
    own = weights / "clip_vitb32"
    state = torch.load(own / "pytorch_model.bin", weights_only=True)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((own / name).read_bytes())
    wide = state | {"visual_projection.weight": torch.zeros(DIM + 1, 16)}
    torch.save(wide, tmp_path / "pytorch_model.bin")
    with pytest.raises(WrongWeights, match="does not fit"):
        networks.load(tmp_path / "pytorch_model.bin")


def test_the_published_clip_vitb32_has_the_published_shape():
    """ViT-B/32 of OpenAI: 151 277 313 parameters under the hub's names."""
    from transformers import CLIPConfig, CLIPModel

    with torch.device("meta"):
        model = CLIPModel(CLIPConfig())
    state = {name: tuple(value.shape) for name, value in model.named_parameters()}
    assert sum(value.numel() for value in model.parameters()) == 151_277_313
    assert len(state) == 398
    for name, shape in {
        "logit_scale": (),
        "text_projection.weight": (512, 512),
        "visual_projection.weight": (512, 768),
        "text_model.embeddings.token_embedding.weight": (49408, 512),
        "text_model.embeddings.position_embedding.weight": (77, 512),
        "text_model.encoder.layers.11.mlp.fc1.weight": (2048, 512),
        "vision_model.embeddings.class_embedding": (768,),
        "vision_model.embeddings.patch_embedding.weight": (768, 3, 32, 32),
        "vision_model.embeddings.position_embedding.weight": (50, 768),
        "vision_model.pre_layrnorm.weight": (768,),
        "vision_model.encoder.layers.11.self_attn.q_proj.weight": (768, 768),
    }.items():
        assert state[name] == shape
