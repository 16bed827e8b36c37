"""Metrics against the baseline's video: their references, their networks, and known-bad videos."""

from __future__ import annotations

import dataclasses
import math
import runpy
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d, max_pool2d

from pytest_vdb.errors import MissingWeights, Unmeasured, WrongWeights
from pytest_vdb.metrics import faults, full_reference
from pytest_vdb.metrics.catalog import reference as catalog
from pytest_vdb.metrics.engine import Extractor
from pytest_vdb.metrics.networks import trunks
from pytest_vdb.metrics.registry import evaluate

SPECS = {spec.name: spec for spec in catalog.METRICS}
natural = runpy.run_path(str(Path(__file__).with_name("conftest.py")))["natural"]

# torchvision's published checkpoints: layer → (channels in, channels out, side of the kernel).
ALEX = {0: (3, 64, 11), 3: (64, 192, 5), 6: (192, 384, 3), 8: (384, 256, 3), 10: (256, 256, 3)}
# fmt: off
VGG = {
    0: (3, 64, 3), 2: (64, 64, 3), 5: (64, 128, 3), 7: (128, 128, 3), 10: (128, 256, 3),
    12: (256, 256, 3), 14: (256, 256, 3), 17: (256, 512, 3), 19: (512, 512, 3), 21: (512, 512, 3),
    24: (512, 512, 3), 26: (512, 512, 3), 28: (512, 512, 3),
}
# fmt: on
VGG_ENDS = (2, 7, 14, 21, 28)  # the last convolution of each stage


def blocks(height, width, frames=2):
    """Random colours in squares of 8 px."""
    random = np.random.Generator(np.random.PCG64(7))
    small = random.integers(0, 256, (frames, -(-height // 8), -(-width // 8), 3), np.uint8)
    return np.ascontiguousarray(small.repeat(8, 1).repeat(8, 2)[:, :height, :width])


def planes(frames):
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))


# ------------------------------------------------------------------ without a network


@pytest.mark.parametrize("damage", [faults.noise, faults.blur], ids=lambda f: f.__name__)
def test_differences_are_numpys_exactly(clip, damage):
    clip = clip[:3]
    damaged = damage(clip)
    difference = np.abs(damaged.astype(float) - clip)
    assert full_reference.mad(damaged, clip) == pytest.approx(difference.mean(), rel=1e-14)
    expected = np.percentile(difference, 99)
    assert full_reference.p99_difference(damaged, clip) == pytest.approx(expected, abs=1e-11)


def test_a_percentile_between_two_ranks():
    frames = np.zeros((1, 5, 7, 3), np.uint8)
    other = frames.copy()
    other.flat[[3, 50]] = (40, 250)  # of 105 values; the 99th percentile is at rank 102.96
    assert full_reference.p99_difference(other, frames) == pytest.approx(0.96 * 40)
    assert full_reference.mad(other, frames) == pytest.approx(290 / 105)


@pytest.mark.parametrize("name", ["psnr", "ssim", "mad", "p99_difference"])
def test_rows_give_what_the_functions_give_however_the_video_is_split(name):
    clip = blocks(24, 32, frames=5)
    damaged = faults.noise(clip)
    damaged[3] = 0
    for batch in (1, 3):
        spec, extractor = SPECS[name], Extractor(batch=batch)
        got = evaluate(spec, damaged, reference=clip, extractor=extractor)
        assert got == getattr(full_reference, name)(damaged, clip)
        if not spec.name.startswith(("mad", "p99")):
            worst = SPECS[f"{name}_worst_frame"]
            alone = getattr(full_reference, name)(damaged[3:4], clip[3:4])
            assert evaluate(worst, damaged, reference=clip, extractor=extractor) == alone


@pytest.mark.parametrize("name", ["mad", "p99_difference"])
@pytest.mark.parametrize("fault", ["black", "noise", "shuffled", "blur", "colour_shift"])
def test_differences_see_faults(clip, name, fault):
    clip = clip[:4]
    assert fault in SPECS[name].sees
    assert evaluate(SPECS[name], clip, reference=clip) == 0
    assert evaluate(SPECS[name], faults.FAULTS[fault](clip), reference=clip) > 0


# ------------------------------------------------------------------ LPIPS and DISTS: the formulas


def checkpoint(layers, path):
    """A file with the names and shapes of the published one, and seeded random weights."""
    torch.manual_seed(0)
    state = {}
    for layer, (before, after, side) in layers.items():
        scale = math.sqrt(2 / (before * side * side))
        state[f"features.{layer}.weight"] = torch.randn(after, before, side, side) * scale
        state[f"features.{layer}.bias"] = torch.randn(after) * 0.1
    path.parent.mkdir()
    torch.save(state | {"classifier.1.weight": torch.zeros(2, 2)}, path)
    return state


def unpublished(name):
    """The metric over a network that takes a file of any digest."""
    spec = SPECS[name]
    (feature,) = spec.features
    network = dataclasses.replace(feature.network, sha256="")
    return dataclasses.replace(spec, features=(dataclasses.replace(feature, network=network),))


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="session")
def extractor(folder):
    """Keeps what it loaded: one of each network for all tests."""
    return Extractor(weights=folder)


@pytest.fixture(scope="session")
def alexnet(folder):
    return checkpoint(ALEX, folder / "alexnet" / "alexnet-owt-7be5be79.pth")


@pytest.fixture(scope="session")
def vgg16(folder):
    return checkpoint(VGG, folder / "vgg16" / "vgg16-397923af.pth")


def heads(kind):
    package = Path(str(distribution("torchmetrics").locate_file("torchmetrics/functional/image")))
    if not (package / kind).is_file():
        pytest.skip(f"{kind} ships with torchmetrics 1.7")
    state = torch.load(package / kind, map_location="cpu", weights_only=True)
    return {name: tensor.double() for name, tensor in state.items()}


def alex_features(state, x):
    for layer in ALEX:
        weight, bias = (state[f"features.{layer}.{part}"].double() for part in ("weight", "bias"))
        if layer in (3, 6):
            x = max_pool2d(x, 3, 2)
        stride, padding = {0: (4, 2), 3: (1, 2)}.get(layer, (1, 1))
        x = conv2d(x, weight, bias, stride, padding).clamp(min=0)
        yield x


def vgg_features(state, x, pool):
    for layer in VGG:
        weight, bias = (state[f"features.{layer}.{part}"].double() for part in ("weight", "bias"))
        if layer in (5, 10, 17, 24):
            x = pool(x)
        x = conv2d(x, weight, bias, 1, 1).clamp(min=0)
        if layer in VGG_ENDS:
            yield x


def hann_pool(x):
    kernel = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]], dtype=torch.float64) / 16
    each = [conv2d(x[:, i : i + 1] ** 2, kernel[None, None], None, 2, 1) for i in range(x.shape[1])]
    return (torch.cat(each, 1) + 1e-12).sqrt()


def oracle_lpips(features, kind, frames, reference):
    """One distance a frame, in float64."""
    shift = torch.tensor([-0.030, -0.088, -0.188]).double().view(1, 3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).double().view(1, 3, 1, 1)
    sides = [(planes(v).double() / 127.5 - 1 - shift) / scale for v in (frames, reference)]
    total = 0.0
    for stage, (a, b) in enumerate(zip(*(features(x) for x in sides), strict=True)):
        a, b = (x / (x.norm(dim=1, keepdim=True) + 1e-10) for x in (a, b))
        weight = heads(f"lpips_models/{kind}.pth")[f"lin{stage}.model.1.weight"][0]
        total = total + ((a - b) ** 2 * weight).sum(1).mean((1, 2))
    return total.numpy()


def oracle_dists(state, frames, reference):
    """One distance a frame, in float64, by means, variances and covariances as in the paper."""
    mean = torch.tensor([0.485, 0.456, 0.406]).double().view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).double().view(1, 3, 1, 1)
    sides = []
    for video in (frames, reference):
        x = planes(video).double() / 255
        sides.append([x, *vgg_features(state, (x - mean) / std, hann_pool)])
    weights = heads("dists_models/weights.pt")
    alpha, beta = weights["alpha"].flatten(), weights["beta"].flatten()
    similar, start = 0.0, 0
    for a, b in zip(*sides, strict=True):
        a, b = a.flatten(2), b.flatten(2)
        ma, mb = a.mean(2), b.mean(2)
        covariance = (a * b).mean(2) - ma * mb
        luminance = (2 * ma * mb + 1e-6) / (ma**2 + mb**2 + 1e-6)
        structure = (2 * covariance + 1e-6) / (
            a.var(2, correction=0) + b.var(2, correction=0) + 1e-6
        )
        part = slice(start, start + a.shape[1])
        similar = similar + luminance @ alpha[part] + structure @ beta[part]
        start = part.stop
    return 1 - (similar / (alpha.sum() + beta.sum())).numpy()


def check(name, expected, extractor, frames, reference):
    spec, worst = unpublished(name), unpublished(f"{name}_worst_frame")
    got = evaluate(spec, frames, reference=reference, extractor=extractor)
    assert got == pytest.approx(expected.mean(), abs=2e-7)
    got = evaluate(worst, frames, reference=reference, extractor=extractor)
    assert got == pytest.approx(expected.max(), abs=2e-7)
    assert evaluate(spec, reference, reference=reference, extractor=extractor) == 0


def test_lpips(alexnet, extractor):
    clip = blocks(71, 93)
    damaged = faults.noise(clip)
    expected = oracle_lpips(lambda x: alex_features(alexnet, x), "alex", damaged, clip)
    check("lpips", expected, extractor, damaged, clip)


def test_lpips_vgg(vgg16, extractor):
    clip = blocks(39, 48)
    damaged = faults.blur(clip)

    def features(x):
        return vgg_features(vgg16, x, lambda y: max_pool2d(y, 2))

    check("lpips_vgg", oracle_lpips(features, "vgg", damaged, clip), extractor, damaged, clip)


def test_dists(vgg16, extractor):
    clip = blocks(39, 48)
    damaged = faults.blur(clip)
    check("dists", oracle_dists(vgg16, damaged, clip), extractor, damaged, clip)


@pytest.mark.parametrize(
    ("make", "layers", "total"),
    [(trunks.alexnet, ALEX, 2_469_696), (trunks.vgg16, VGG, 14_714_688)],
    ids=["alexnet", "vgg16"],
)
def test_a_trunk_has_the_published_parameters(make, layers, total):
    """Their number is torchvision's (61,100,840 and 138,357,544) less the classifier's."""
    found = {
        name.split(".", 2)[2]: tuple(tensor.shape) for name, tensor in make().state_dict().items()
    }
    expected = {f"{k}.weight": (out, into, side, side) for k, (into, out, side) in layers.items()}
    assert found == expected | {f"{k}.bias": (out,) for k, (_, out, _) in layers.items()}
    assert sum(math.prod(shape) for shape in found.values()) == total


def test_weights_that_are_missing_or_wrong_say_so(alexnet, folder, tmp_path):
    clip = blocks(32, 32)
    message = r"put alexnet-owt-7be5be79\.pth \(https://download.*\) into DIR/alexnet/"
    with pytest.raises(MissingWeights, match=message):
        evaluate(SPECS["lpips"], clip, reference=clip)
    with pytest.raises(WrongWeights, match="begins with 7be5be79 in the catalog"):
        evaluate(SPECS["lpips"], clip, reference=clip, extractor=Extractor(weights=folder))
    torch.save({"features.0.weight": torch.zeros(64, 3, 11, 11)}, tmp_path / "part.pth")
    with pytest.raises(WrongWeights, match="Missing key"):
        trunks.load_alexnet(tmp_path / "part.pth")


def test_frames_that_the_networks_pool_to_nothing_are_unmeasured(alexnet, extractor):
    small = blocks(64, 30)
    with pytest.raises(Unmeasured, match="64×30 px are too small; it needs 31×31 px"):
        evaluate(unpublished("lpips"), small, reference=small, extractor=extractor)


# ------------------------------------------------------------------ ST-LPIPS: the real networks

# What `stlpips.LPIPS(net=..., variant="shift_tolerant")` of stlpips-pytorch 0.0.2 gives for these
# pairs in [−1, 1] and float64; torchvision, IPython and torchsummary, which it imports and does not
# use, were empty modules.
SHIFT_TOLERANT = {
    ("noise", "st_lpips"): (0.00310426, 0.00701275),
    ("noise", "st_lpips_vgg"): (0.26352682, 0.28688094),
    ("blur", "st_lpips"): (0.25634388, 0.27292928),
    ("blur", "st_lpips_vgg"): (0.29275442, 0.32611301),
    ("carphone", "st_lpips"): (0.21238215,),
    ("carphone", "st_lpips_vgg"): (0.25952063,),
}


@pytest.fixture(scope="session")
def shift_tolerant(extractor):
    """The extractor, where the package with the weights is installed."""
    try:
        distribution("stlpips-pytorch")
    except PackageNotFoundError:
        pytest.skip("ST-LPIPS's weights: pip install --no-deps stlpips-pytorch==0.0.2")
    return extractor


def pair(name):
    """A damaged video and its reference."""
    if name == "carphone":
        return natural("carphone_distorted", 1), natural("carphone_pristine", 1)
    clip = blocks(64, 64) if name == "noise" else blocks(71, 93)
    return faults.FAULTS[name](clip), clip


@pytest.mark.parametrize(("which", "name"), SHIFT_TOLERANT, ids=lambda v: v)
def test_st_lpips_is_the_packages(shift_tolerant, which, name):
    damaged, clip = pair(which)
    expected = SHIFT_TOLERANT[which, name]
    for suffix, value in (("", np.mean(expected)), ("_worst_frame", max(expected))):
        spec = SPECS[name + suffix]
        got = evaluate(spec, damaged, reference=clip, extractor=shift_tolerant)
        assert got == pytest.approx(value, abs=2e-7)


def test_st_lpips_does_not_depend_on_the_batch_and_is_zero_for_equal_videos(shift_tolerant):
    clip = blocks(40, 40, frames=4)
    damaged = faults.noise(clip)
    values = []
    for batch in (1, 3, 4):
        one = dataclasses.replace(shift_tolerant, batch=batch)
        values.append(evaluate(SPECS["st_lpips"], damaged, reference=clip, extractor=one))
        assert evaluate(SPECS["st_lpips"], clip, reference=clip, extractor=one) == 0
    assert values == pytest.approx([values[0]] * 3, rel=1e-6)


@pytest.mark.parametrize("name", ["st_lpips", "st_lpips_vgg"])
def test_st_lpips_forgives_a_shift_by_a_pixel_more_than_a_blur(shift_tolerant, name):
    """What it is for: a pixel's shift changes more values than the blur does, and matters less."""
    clip = natural("bigbuckbunny", 1)[:, 60:126, 60:126]
    shifted, still = clip[:, 1:65, 1:65], clip[:, :64, :64]
    blurred = faults.blur(still, 1.0)
    assert full_reference.mad(shifted, still) > full_reference.mad(blurred, still)
    moved, soft = (
        evaluate(SPECS[name], damaged, reference=still, extractor=shift_tolerant)
        for damaged in (shifted, blurred)
    )
    assert moved < soft


@pytest.mark.parametrize("fault", SPECS["st_lpips"].sees)
def test_st_lpips_sees_every_fault(clip, fault, shift_tolerant):
    middle = slice(48, 96)
    clip = np.ascontiguousarray(clip[::4, middle, middle])  # adjacent frames may be equal there
    damaged = faults.FAULTS[fault](clip)
    assert evaluate(SPECS["st_lpips"], damaged, reference=clip, extractor=shift_tolerant) > 0


# ------------------------------------------------------------------ the catalog


def test_distances_say_which_way_they_go():
    for spec in SPECS.values():
        assert spec.compares, spec.name
        close = spec.direction == "lower"
        assert spec.unit in (("grey levels", "distance") if close else ("dB", "score")), spec.name
    assert not SPECS["lpips"].sees  # its published weights were not there to try
