"""jedi and its network: published names and shapes, and V-JEPA by hand in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from pytest_vdb.errors import WrongWeights
from pytest_vdb.metrics import preprocess, sets
from pytest_vdb.metrics.catalog.sets import METRICS
from pytest_vdb.metrics.engine import Extractor
from pytest_vdb.metrics.networks import vjepa
from pytest_vdb.metrics.registry import evaluate_set

SMALL = vjepa.Size(width=24, layers=2, heads=3, frames=16, side=224, tubelet=8, patch=56)


def linear(name, out, into):
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def norm(name, width):
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def published(size):
    """Names and shapes of the published checkpoints: the target encoder, the probe's classifier."""
    width, wide = size.width, 4 * size.width
    tokens = size.frames // size.tubelet * (size.side // size.patch) ** 2
    before = "module.backbone."
    encoder = {
        f"{before}pos_embed": (1, tokens, width),
        f"{before}patch_embed.proj.weight": (width, 3, size.tubelet, size.patch, size.patch),
        f"{before}patch_embed.proj.bias": (width,),
        **norm(f"{before}norm", width),
    }
    for block in (f"{before}blocks.{i}." for i in range(size.layers)):
        encoder |= norm(f"{block}norm1", width) | norm(f"{block}norm2", width)
        encoder |= linear(f"{block}attn.qkv", 3 * width, width)
        encoder |= linear(f"{block}attn.proj", width, width)
        encoder |= linear(f"{block}mlp.fc1", wide, width)
        encoder |= linear(f"{block}mlp.fc2", width, wide)
    block = "module.pooler.cross_attention_block."
    probe = {"module.pooler.query_tokens": (1, 1, width), **linear("module.linear", 174, width)}
    probe |= norm(f"{block}norm1", width) | norm(f"{block}norm2", width)
    probe |= linear(f"{block}xattn.q", width, width) | linear(f"{block}xattn.kv", 2 * width, width)
    probe |= linear(f"{block}xattn.proj", width, width)
    probe |= linear(f"{block}mlp.fc1", wide, width) | linear(f"{block}mlp.fc2", width, wide)
    return encoder, probe


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    own = folder / "vjepa_vith16"
    own.mkdir()
    generator = torch.Generator().manual_seed(6)
    encoder, probe = (
        {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}
        for shapes in published(SMALL)
    )
    torch.save({"target_encoder": encoder, "epoch": 300}, own / "vith16.pth.tar")
    torch.save({"classifier": probe, "epoch": 20}, own / "ssv2-probe.pth.tar")
    return folder, {name: value.double() for name, value in (encoder | probe).items()}


def attend(q, k, v):
    q, k, v = (x.unflatten(1, (SMALL.heads, -1)).transpose(0, 1) for x in (q, k, v))
    seen = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v
    return seen.transpose(0, 1).flatten(1)


def by_hand(s, clip):
    """(3, 16, 224, 224) → (24,), as the code of V-JEPA and of its attentive probe."""
    line = lambda x, n: x @ s[n + ".weight"].T + s[n + ".bias"]  # noqa: E731

    def normed(x, name, eps):
        return functional.layer_norm(x, x.shape[-1:], s[name + ".weight"], s[name + ".bias"], eps)

    def mlp(x, name):
        return line(functional.gelu(line(x, name + "fc1")), name + "fc2")

    before = "module.backbone."
    kernel = s[before + "patch_embed.proj.weight"]
    x = functional.conv3d(clip[None], kernel, stride=kernel.shape[2:])[0].flatten(1).T
    x = x + s[before + "patch_embed.proj.bias"] + s[before + "pos_embed"][0]
    for block in (f"{before}blocks.{i}." for i in range(SMALL.layers)):
        qkv = line(normed(x, block + "norm1", 1e-6), block + "attn.qkv").chunk(3, 1)
        x = x + line(attend(*qkv), block + "attn.proj")
        x = x + mlp(normed(x, block + "norm2", 1e-6), block + "mlp.")
    tokens = normed(x, before + "norm", 1e-6)
    block, query = "module.pooler.cross_attention_block.", s["module.pooler.query_tokens"][0]
    kv = line(normed(tokens, block + "norm1", 1e-5), block + "xattn.kv").chunk(2, 1)
    query = query + line(attend(line(query, block + "xattn.q"), *kv), block + "xattn.proj")
    return (query + mlp(normed(query, block + "norm2", 1e-5), block + "mlp."))[0]


def videos(count, seed):
    noise = np.random.Generator(np.random.PCG64(seed)).integers(0, 256, (count, 16, 6, 9, 3))
    return list(noise.astype(np.uint8))


def load(path):
    return vjepa.load(path, SMALL)


def test_jedi_of_v_jepas_features_by_hand(small):
    folder, state = small

    def features(clips):
        rows = []
        for clip in clips:
            pixels = preprocess.resize(torch.from_numpy(clip).permute(0, 3, 1, 2), 224, 224)
            mean, std = preprocess.IMAGENET_MEAN, preprocess.IMAGENET_STD
            pixels = preprocess.normalize(pixels, mean, std).transpose(0, 1)
            rows.append(by_hand(state, pixels.double()).numpy())
        return np.stack(rows)

    (spec,) = (spec for spec in METRICS if spec.name == "jedi")
    (feature,) = spec.features
    network = replace(feature.network, load=load)
    spec = replace(spec, minimum=2, features=(replace(feature, network=network),))
    ours, theirs = videos(3, 1), videos(2, 2)
    score = evaluate_set(spec, ours, theirs, Extractor(weights=folder))
    known = sets.jedi(features(ours), features(theirs))
    assert known > 1e-3
    assert score == pytest.approx(known, rel=1e-4)


def test_v_jepa_takes_every_published_parameter():
    """ViT-H/16 of 16 frames of 224 px, and the pooler of its SSv2 probe."""
    encoder, probe = published(vjepa.Size())
    probe = {name: shape for name, shape in probe.items() if "linear" not in name}
    with torch.device("meta"):
        network = vjepa.VJepa()
    ours = {f"module.backbone.{n}": tuple(p.shape) for n, p in network.encoder.named_parameters()}
    pool = {f"module.pooler.{n}": tuple(p.shape) for n, p in network.pooler.named_parameters()}
    assert ours == encoder
    assert pool == probe
    assert sum(p.numel() for p in network.encoder.parameters()) == 633_655_040
    assert sum(p.numel() for p in network.pooler.parameters()) == 19_678_720


def test_another_checkpoint_is_wrong_weights(small, tmp_path):
    torch.save({"weight": torch.ones(1)}, tmp_path / "vith16.pth.tar")
    with pytest.raises(WrongWeights, match="no target_encoder"):
        load(tmp_path / "vith16.pth.tar")
    with pytest.raises(WrongWeights, match="does not hold this network's weights"):
        vjepa.load(small[0] / "vjepa_vith16" / "vith16.pth.tar", SMALL._replace(layers=1))
