"""MUSIQ: its published parameters, and its numbers against a form written by hand in float64."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import erf

from pytest_vdb.errors import MissingWeights, Unmeasured, WrongWeights
from pytest_vdb.metrics import imaging
from pytest_vdb.metrics.catalog.imaging import METRICS, MUSIQ, QUALITY
from pytest_vdb.metrics.engine import Extractor
from pytest_vdb.metrics.networks import musiq
from pytest_vdb.metrics.registry import evaluate
from pytest_vdb.metrics.weights import find

TOKENS = (musiq.WIDTH,)
SQUARE = (musiq.WIDTH, musiq.WIDTH)
BLOCK = {
    **{f"norm{i}.{what}": TOKENS for i in (1, 2) for what in ("weight", "bias")},
    **{f"attention.{name}.weight": SQUARE for name in ("query", "key", "value", "out")},
    **{f"attention.{name}.bias": TOKENS for name in ("query", "key", "value", "out")},
    "mlp.fc1.weight": (1152, 384),
    "mlp.fc1.bias": (1152,),
    "mlp.fc2.weight": (384, 1152),
    "mlp.fc2.bias": (384,),
}
NORMS = {"gn_root": 64, "block1.gn1": 64, "block1.gn2": 64, "block1.gn3": 256}
NORMS |= {"block1.gn_proj": 256, "transformer_encoder.encoder_norm": 384}
PUBLISHED = {
    "conv_root.weight": (64, 3, 7, 7),
    "block1.conv1.weight": (64, 64, 1, 1),
    "block1.conv2.weight": (64, 64, 3, 3),
    "block1.conv3.weight": (256, 64, 1, 1),
    "block1.conv_proj.weight": (256, 64, 1, 1),
    **{f"{name}.{what}": (n,) for name, n in NORMS.items() for what in ("weight", "bias")},
    "embedding.weight": (384, 16384),
    "embedding.bias": TOKENS,
    "transformer_encoder.cls": (1, 1, 384),
    "transformer_encoder.posembed_input.position_emb": (1, 100, 384),
    "transformer_encoder.scaleembed_input.scale_emb": (3, 384),
    **{
        f"transformer_encoder.transformer.encoderblock_{i}.{name}": shape
        for i in range(14)
        for name, shape in BLOCK.items()
    },
    "head.weight": (1, 384),
    "head.bias": (1,),
}


@pytest.fixture(scope="module")
def network():
    """Two of the fourteen layers, with seeded random weights of a size that keeps numbers alive."""
    module = musiq.MUSIQ(layers=2).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for name, value in module.state_dict().items():
        scale = 1 if name.startswith("conv_root") else value[0].numel() ** -0.5
        scale = 0.3 if value.ndim < 2 or "emb" in name.split(".")[-1] else scale
        value.copy_(torch.randn(value.shape, generator=generator) * scale)
        value += 1.0 * ("norm" in name or ".gn" in name or "gn_" in name) * ("weight" in name)
    return module


@pytest.fixture(scope="module")
def pictures():
    """Two frames of waves, uint8 (2, 3, 96, 96); the second one is darker."""
    y, x = np.mgrid[:96, :96]
    waves = [np.sin((x + 2 * y * c) / (3 + c)) + np.cos(x * y / 400) for c in range(3)]
    one = torch.from_numpy(128 + 60 * np.stack(waves)).to(torch.uint8)
    return torch.stack([one, one // 3])


def same(x, kernel, stride):
    """(N, C, H, W) with TensorFlow's SAME padding."""
    missing = [(math.ceil(n / stride) - 1) * stride + kernel - n for n in x.shape[2:]]
    return np.pad(x, [(0, 0), (0, 0), *((m // 2, m - m // 2) for m in missing)])


def convolve(x, weight, stride=1):
    """Weight standardisation, then a plain sum of products."""
    kernel, flat = weight.shape[-1], weight.reshape(len(weight), -1)
    flat = (flat - flat.mean(1, keepdims=True)) / (flat.std(1, ddof=1, keepdims=True) + 1e-5)
    x = np.lib.stride_tricks.sliding_window_view(same(x, kernel, stride), (kernel, kernel), (2, 3))
    x = x[:, :, ::stride, ::stride].transpose(0, 2, 3, 1, 4, 5)
    return (x.reshape(*x.shape[:3], -1) @ flat.T).transpose(0, 3, 1, 2)


def grouped(x, state, name, eps):
    parts = x.reshape(len(x), 32, -1)
    parts = (parts - parts.mean(2, keepdims=True)) / np.sqrt(parts.var(2, keepdims=True) + eps)
    weight, bias = (state[f"{name}.{what}"][:, None, None] for what in ("weight", "bias"))
    return parts.reshape(x.shape) * weight + bias


def layered(x, state, name):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * state[f"{name}.weight"] + state[f"{name}.bias"]


def linear(x, state, name):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def cubic(length, wanted, a=-0.75):
    """(wanted, length): bicubic interpolation of the four nearest samples, edges repeated."""
    matrix = np.zeros((wanted, length))
    for row in range(wanted):
        centre = (row + 0.5) * length / wanted - 0.5
        for column in range(math.floor(centre) - 1, math.floor(centre) + 3):
            t = abs(centre - column)
            near = (a + 2) * t**3 - (a + 3) * t**2 + 1
            far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
            matrix[row, min(max(column, 0), length - 1)] += near if t <= 1 else far
    return matrix


def patches_by_hand(picture, longer):
    """Patches, hashed places and mask of one scale, filled up to the fixed number of patches."""
    if longer:
        ratio = longer / max(picture.shape[1:])
        height, width = (round(n * ratio) for n in picture.shape[1:])
        picture = np.einsum(
            "yh,chw,xw->cyx",
            cubic(picture.shape[1], height),
            picture,
            cubic(picture.shape[2], width),
        )
    whole = same(picture[None], 32, 32)[0]
    rows, columns = (n // 32 for n in whole.shape[1:])
    corners = [(i, j) for i in range(rows) for j in range(columns)]
    patches = [whole[:, 32 * i : 32 * i + 32, 32 * j : 32 * j + 32] for i, j in corners]
    places = [10 * (10 * i // rows) + 10 * j // columns for i, j in corners]
    spare = math.ceil(longer / 32) ** 2 - len(corners) if longer else 0
    patches += [np.zeros((3, 32, 32))] * spare
    return patches, places + [0] * spare, [1] * len(corners) + [0] * spare


def musiq_by_hand(module, picture):
    """The score of (3, H, W) in [0, 1], with the padding and the mask of the reference."""
    state = {k: v.double().numpy() for k, v in module.state_dict().items()}
    scales = [patches_by_hand(2 * picture - 1, longer) for longer in (224, 384, None)]
    patches, places, mask = ([x for scale in scales for x in scale[i]] for i in range(3))
    scale = [i for i, (part, _, _) in enumerate(scales) for _ in part]
    x = np.maximum(
        grouped(convolve(np.stack(patches), state["conv_root.weight"], 2), state, "gn_root", 1e-6),
        0,
    )
    x = np.lib.stride_tricks.sliding_window_view(same(x, 3, 2), (3, 3), (2, 3))[:, :, ::2, ::2]
    x = x.max((-1, -2))

    def step(x, i):
        x = convolve(x, state[f"block1.conv{i}.weight"])
        return grouped(x, state, f"block1.gn{i}", 1e-4)

    around = grouped(convolve(x, state["block1.conv_proj.weight"]), state, "block1.gn_proj", 1e-4)
    x = step(np.maximum(step(np.maximum(step(x, 1), 0), 2), 0), 3)
    x = np.maximum(x + around, 0).transpose(0, 2, 3, 1).reshape(len(x), -1)
    x = linear(x, state, "embedding")
    encoder = "transformer_encoder"
    x = x + state[f"{encoder}.posembed_input.position_emb"][0, places]
    x = x + state[f"{encoder}.scaleembed_input.scale_emb"][scale]
    x = np.concatenate([state[f"{encoder}.cls"][0], x])
    allowed = np.outer([1, *mask], [1, *mask])
    for i in range(len(module.transformer_encoder.transformer)):
        block = f"{encoder}.transformer.encoderblock_{i}"
        y = layered(x, state, f"{block}.norm1")
        query, key, value = (
            linear(y, state, f"{block}.attention.{n}").reshape(len(y), 6, 64).transpose(1, 0, 2)
            for n in ("query", "key", "value")
        )
        weight = np.where(allowed == 0, -1e3, query @ key.transpose(0, 2, 1) / 8)
        weight = np.exp(weight - weight.max(-1, keepdims=True))
        seen = (weight / weight.sum(-1, keepdims=True) @ value).transpose(1, 0, 2)
        x = x + linear(seen.reshape(len(y), -1), state, f"{block}.attention.out")
        y = linear(layered(x, state, f"{block}.norm2"), state, f"{block}.mlp.fc1")
        x = x + linear(y * (1 + erf(y / math.sqrt(2))) / 2, state, f"{block}.mlp.fc2")
    return linear(layered(x[0], state, f"{encoder}.encoder_norm"), state, "head").item()


def test_parameters_have_the_published_names_and_shapes():
    with torch.device("meta"):
        state = musiq.MUSIQ().state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == PUBLISHED
    assert (len(state), sum(v.numel() for v in state.values())) == (248, 27_125_825)


@pytest.mark.parametrize(("height", "width", "which"), [(40, 56, 0), (70, 33, 1)])
def test_a_score_equals_the_form_written_by_hand(network, pictures, height, width, which):
    frames = pictures[:, :, :height, :width]
    ours = imaging.quality(network, frames)[:, 0].double().numpy()
    by_hand = musiq_by_hand(network, frames[which].double().numpy() / 255)
    assert ours[which] == pytest.approx(by_hand, rel=2e-5)
    assert abs(ours[0] - ours[1]) > 1e-3  # the numbers tell frames apart


def test_positions_are_hashed_by_whole_numbers():
    for rows, columns in ((1, 1), (3, 7), (10, 10), (12, 16), (16, 9), (48, 27)):
        i, j = np.mgrid[:rows, :columns]
        expected = 10 * (10 * i // rows) + 10 * j // columns
        assert musiq.hashed(rows, columns).tolist() == expected.flatten().tolist()


def test_a_long_side_is_brought_to_512_without_antialiasing():
    frames = torch.randint(0, 256, (1, 3, 96, 1536), dtype=torch.uint8)
    seen = imaging.quality(torch.nn.Identity(), frames)
    assert seen.shape == (1, 3, 32, 512)
    assert (seen - frames[..., 1::3, 1::3] / 255).abs().max() < 1e-6  # the middle one of three
    assert imaging.fitting(480, 832) == (295, 512)
    assert imaging.fitting(512, 300) == (512, 300)


def test_rows_do_not_depend_on_the_batch_and_give_the_mean(network, tmp_path, pictures):
    (tmp_path / MUSIQ.name).mkdir()
    (tmp_path / MUSIQ.name / MUSIQ.files[0]).write_bytes(b"two layers are made by load")
    small = replace(MUSIQ, sha256="", hub="", load=lambda path: network)
    spec = replace(METRICS[0], features=(replace(QUALITY, network=small),))
    video = pictures[[0, 1, 0], :, :40, :56].permute(0, 2, 3, 1).numpy()
    one, many = (
        evaluate(spec, video, extractor=Extractor(weights=tmp_path, batch=batch))
        for batch in (1, 8)
    )
    scores = imaging.quality(network, torch.from_numpy(video).permute(0, 3, 1, 2)).double()
    assert one == pytest.approx(many, abs=1e-7)
    assert many == pytest.approx(float(scores.mean()) / 100, abs=1e-9)


def test_what_cannot_be_measured_says_so(tmp_path, network):
    with pytest.raises(Unmeasured, match="no pixel left"):
        imaging.quality(network, torch.zeros(1, 3, 1, 2000, dtype=torch.uint8))
    offline = replace(MUSIQ, hub="")
    with pytest.raises(MissingWeights, match="put musiq_spaq_ckpt"):
        find(offline, tmp_path)
    (tmp_path / MUSIQ.name).mkdir()
    torch.save({"head.bias": torch.zeros(1)}, tmp_path / MUSIQ.name / MUSIQ.files[0])
    with pytest.raises(WrongWeights):
        find(offline, tmp_path)
    with pytest.raises(WrongWeights):
        musiq.load(tmp_path / MUSIQ.name / MUSIQ.files[0])
