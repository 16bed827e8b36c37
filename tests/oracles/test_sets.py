"""Metrics of sets: closed forms, scipy, torchmetrics, and double loops written here."""

from __future__ import annotations

import math
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from itertools import combinations
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from pytest_vdb.errors import Unmeasured
from pytest_vdb.metrics import sets
from pytest_vdb.metrics.feature_files import load_features, save_features
from pytest_vdb.metrics.networks import inception

DISTANCES = (sets.frechet_distance, sets.kernel_distance, sets.jedi, sets.cmmd, sets.cd_fvd)
TRIED = pytest.mark.parametrize("distance", DISTANCES, ids=lambda f: f.__name__)


def random(*shape, seed=0):
    return np.random.Generator(np.random.PCG64(seed)).normal(size=shape)


def pair(rows=30, others=40, width=6):
    """Two correlated sets with another mean and another spread."""
    mixing = random(width, width, seed=1)
    return random(rows, width, seed=2) @ mixing, 0.5 + 1.5 * random(others, width, seed=3)


def exactly(mean, deviations, rows, seed):
    """Rows whose mean and covariance (over N − 1), a diagonal one, are exactly these."""
    x = random(rows, len(mean), seed=seed)
    x = np.linalg.qr(x - x.mean(0))[0] * math.sqrt(rows - 1)
    return x * deviations + mean


# ---------------------------------------------------------------------------- Fréchet


@pytest.mark.parametrize("rotated", [False, True])
def test_frechet_distance_of_known_gaussians(rotated):
    means, deviations = random(2, 5), np.array([[1, 2, 3, 0.5, 1], [2, 2, 0.1, 4, 1e-3]])
    turn = np.linalg.qr(random(5, 5, seed=9))[0] if rotated else np.eye(5)
    first, second = (
        exactly(m, d, 50, s) @ turn for m, d, s in zip(means, deviations, (1, 2), strict=True)
    )
    known = np.sum((means[0] - means[1]) ** 2) + np.sum((deviations[0] - deviations[1]) ** 2)
    assert sets.frechet_distance(first, second) == pytest.approx(known, rel=1e-12)
    moments = [m for x in (first, second) for m in (x.mean(0), np.cov(x, rowvar=False))]
    assert sets.gaussian_frechet_distance(*moments) == pytest.approx(known, rel=1e-9)


def test_frechet_distance_is_that_of_matrix_roots():
    first, second = pair()
    known = sum((first.mean(0) - second.mean(0)) ** 2)
    a, b = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    known += np.trace(a + b - 2 * np.real(sqrtm(a @ b)))
    assert sets.frechet_distance(first, second) == pytest.approx(known, rel=1e-10)


def test_fewer_rows_than_dimensions_change_nothing():
    """A rotation into more dimensions keeps distances; roots of singular products lose digits."""
    first, second = pair()
    into = np.linalg.qr(random(300, 6))[0].T
    assert sets.frechet_distance(first @ into, second @ into) == pytest.approx(
        sets.frechet_distance(first, second), rel=1e-11
    )
    moments = [m for x in (first @ into, second @ into) for m in (x.mean(0), np.cov(x.T))]
    assert sets.gaussian_frechet_distance(*moments) == pytest.approx(
        sets.frechet_distance(first, second), rel=1e-6
    )


def test_covariances_over_n_are_those_of_cd_fvd():
    first, second = pair()
    known = sets.gaussian_frechet_distance(
        *(m for x in (first, second) for m in (x.mean(0), np.cov(x, rowvar=False, ddof=0)))
    )
    assert sets.cd_fvd(first, second) == pytest.approx(known, rel=1e-9)
    assert sets.cd_fvd(first, second) != pytest.approx(sets.frechet_distance(first, second), 1e-3)


@pytest.mark.parametrize(
    "wrong", [np.diag([1.0, -1.0]), [[1.0, 2.0], [0.0, 1.0]], np.nan * np.eye(2)]
)
def test_moments_that_are_none(wrong):
    with pytest.raises(Unmeasured, match="covariance"):
        sets.gaussian_frechet_distance(np.zeros(2), wrong, np.zeros(2), np.eye(2))


class Given(torch.nn.Module):
    """For torchmetrics: 'images' (N, D, 1, 1) that are their own features."""

    num_features = 6

    def forward(self, images):
        return images.flatten(1)


def images(rows):
    return torch.from_numpy(rows)[..., None, None]


@pytest.fixture
def torch_fidelity():
    """The installed torch-fidelity without its __init__, which needs torchvision; or None."""
    try:
        root = distribution("torch-fidelity").locate_file("torch_fidelity")
    except PackageNotFoundError:
        yield None
        return
    package = ModuleType("torch_fidelity")
    package.__path__ = [str(root)]
    sys.modules["torch_fidelity"] = package
    yield package
    for name in [n for n in sys.modules if n.split(".")[0] == "torch_fidelity"]:
        del sys.modules[name]


def test_inception_is_torch_fidelitys(tmp_path, torch_fidelity):
    if torch_fidelity is None:
        pytest.skip("torch-fidelity: pip install --no-deps torch-fidelity")
    theirs = import_module("torch_fidelity.feature_extractor_inceptionv3")
    torch.manual_seed(0)
    network = inception.FidInception().eval()
    torch.save(network.state_dict(), tmp_path / "seeded.pth")
    layers = ["2048", "logits_unbiased"]
    theirs = theirs.FeatureExtractorInceptionV3("theirs", layers, str(tmp_path / "seeded.pth"))
    frames = torch.randint(0, 256, (1, 3, 60, 83), dtype=torch.uint8)
    with torch.inference_mode():
        ours = sets.inception_rows(network, frames)
        assert torch.allclose(ours, torch.cat(theirs(frames), 1), rtol=1e-5)


def fed(metric, *given):
    for rows, real in zip(given, (False, True), strict=False):
        metric.update(images(rows), **({"real": real} if len(given) > 1 else {}))
    return metric.compute()


@pytest.mark.filterwarnings("ignore:Metric .* will save all:UserWarning")
@pytest.mark.filterwarnings("ignore:std:UserWarning")
def test_torchmetrics_gives_the_same(torch_fidelity):
    fid, kid, score = (
        import_module(f"torchmetrics.image.{n}") for n in ("fid", "kid", "inception")
    )

    first, second = pair()
    theirs = fid.FrechetInceptionDistance(Given(), input_img_size=(6, 1, 1)).set_dtype(
        torch.float64
    )
    assert sets.frechet_distance(first, second) == pytest.approx(
        float(fed(theirs, first, second)), rel=1e-6
    )
    same = pair(30, 30)
    mean, _ = fed(kid.KernelInceptionDistance(Given(), subsets=1, subset_size=30), *same)
    assert sets.kernel_distance(*same) == pytest.approx(float(mean), rel=1e-5)
    mean, _ = fed(score.InceptionScore(Given(), splits=1), first)
    logits = np.concatenate([np.zeros((30, 2048)), first], axis=1)
    assert sets.inception_score_of_rows(logits) == pytest.approx(float(mean), rel=1e-6)


# ---------------------------------------------------------------------------- kernels


def loops(kernel, first, second, own=True):
    """Squared MMD, a pair at a time; ``own`` counts pairs of a row with itself."""

    def within(x):
        values = [kernel(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if own or i != j]
        return math.fsum(values) / len(values)

    across = math.fsum(kernel(a, b) for a in first for b in second) / (len(first) * len(second))
    return within(first) + within(second) - 2 * across


def cubic(a, b):
    return (sum(a * b) / len(a) + 1) ** 3


def test_kernels_pair_by_pair(monkeypatch):
    monkeypatch.setattr(sets, "BLOCK", 7)  # several blocks, the last one smaller
    first, second = pair(12, 17)
    assert sets.kernel_distance(first, second) == pytest.approx(
        loops(cubic, first, second, own=False), rel=1e-11
    )
    assert sets.jedi(first, second) == pytest.approx(
        100 * loops(lambda a, b: (sum(a * b) / 6) ** 2, first, second), rel=1e-11
    )
    units = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (first, second)]
    known = 1000 * loops(lambda a, b: math.exp(-sum((a - b) ** 2) / 200), *units)
    assert sets.cmmd(first, second) == pytest.approx(known, rel=1e-9)


def test_jedi_of_the_example_in_its_code():
    second = np.array([[7, 6, 5], [4, 3, 2], [1, 1, 8], [0, 2, 5]])
    assert sets.jedi(np.arange(1, 10).reshape(3, 3), second) / 100 == pytest.approx(270.7, abs=0.05)


def test_all_pairs_are_the_mean_of_all_subsets():
    first, second = pair(6, 6)
    subsets = [list(s) for s in combinations(range(6), 3)]
    scores = [sets.kernel_distance(first[a], second[b]) for a in subsets for b in subsets]
    assert sets.kernel_distance(first, second) == pytest.approx(np.mean(scores), rel=1e-10)


def test_an_unbiased_kernel_distance_may_be_negative():
    scores = [
        sets.kernel_distance(random(20, 6, seed=i), random(20, 6, seed=99 + i)) for i in range(9)
    ]
    assert min(scores) < 0 < max(scores)


# ---------------------------------------------------------------------------- Inception Score


def test_inception_score_by_loops():
    rows = np.exp(random(20, 7))
    rows /= rows.sum(1, keepdims=True)
    rows[0] = np.eye(7)[0]  # a probability of 0 adds nothing

    def score(part):
        mean = part.mean(0)
        return math.exp(
            sum(p * math.log(p / q) for row in part for p, q in zip(row, mean, strict=True) if p)
            / len(part)
        )

    assert sets.inception_score(rows) == pytest.approx(score(rows), rel=1e-12)
    parts = np.mean([score(rows[i : i + 5]) for i in range(0, 20, 5)])
    assert sets.inception_score(rows, splits=4) == pytest.approx(parts, rel=1e-12)
    assert sets.inception_score(np.eye(7)) == pytest.approx(7)
    assert sets.inception_score(np.tile(rows[1], (9, 1))) == pytest.approx(1)


@pytest.mark.parametrize(
    ("rows", "splits", "said"),
    [
        (np.full((4, 3), 0.5), 1, "sum"),
        ([[1.5, -0.5], [0.5, 0.5]], 1, "0 or more"),
        (np.eye(3), 10, "10 parts"),
        (np.eye(1), 1, "one row"),
    ],
)
def test_no_probabilities(rows, splits, said):
    with pytest.raises(Unmeasured, match=said):
        sets.inception_score(rows, splits=splits)


# ---------------------------------------------------------------------------- any distance


@TRIED
def test_order_changes_no_bit(distance):
    first, second = pair()
    shuffled = (x[np.random.default_rng(4).permutation(len(x))] for x in (first, second))
    assert distance(*shuffled) == distance(first, second)


@TRIED
def test_equal_sets_are_at_no_distance(distance):
    first, second = pair(20, 20, 50)  # fewer rows than dimensions
    assert distance(first, first) <= 1e-12 * abs(distance(first, second))


@TRIED
def test_a_collapsed_set_is_farther_than_an_intact_one(distance):
    """Every video the same: a number, and a bad one. Half the videos the same: in between."""
    many = abs(random(200, 6))
    intact, reference = many[:100], many[100:]
    half = np.concatenate([intact[:50], np.tile(intact[0], (50, 1))])
    collapsed = np.tile(intact[0], (100, 1))
    scores = [distance(x, reference) for x in (intact, half, collapsed)]
    assert scores == sorted(scores)


@TRIED
@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (random(1, 6), random(9, 6), "the set has one row"),
        (random(9, 6), random(1, 6), "the reference set has one row"),
        (random(9, 6), random(9, 5), "6 numbers a row and the reference set 5"),
        (np.where(np.eye(9, 6), np.nan, 1), random(9, 6), "6 of 9 rows of the set are not finite"),
        (random(9, 6), np.full((9, 6), np.inf), "9 of 9 rows of the reference set"),
        (random(9, 6), np.ones((9, 6)), "all the same"),
        (random(9), random(9, 6), "shape"),
        (random(0, 6), random(9, 6), "shape"),
    ],
)
def test_what_has_no_distance(distance, first, second, said):
    with pytest.raises(Unmeasured, match=said):
        distance(first, second)


def test_no_direction():
    with pytest.raises(Unmeasured, match="direction"):
        sets.cmmd(np.eye(3) * [1, 1, 0], np.eye(3))


# ---------------------------------------------------------------------------- files

OF = {"feature": "i3d_kinetics400", "weights_sha256": "ab12", "version": "1"}


def test_stored_features_come_back(tmp_path):
    rows, ids = random(4, 3), ["a", "a", "ü", "c"]
    save_features(tmp_path / "new" / "set", rows, ids, **OF)
    stored = load_features(tmp_path / "new" / "set", **OF)
    assert np.array_equal(stored.features, rows)
    assert stored.ids == tuple(ids)
    assert stored.videos == 3
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["set"]


@pytest.mark.parametrize("name", OF)
def test_features_of_something_else_are_refused(tmp_path, name):
    save_features(tmp_path / "set.npz", random(4, 3), "abcd", **OF)
    with pytest.raises(
        Unmeasured, match=rf"{name} '{OF[name]}', and 'other'.*compute the reference"
    ):
        load_features(tmp_path / "set.npz", **OF | {name: "other"})


@pytest.mark.parametrize("damage", ["missing", "short", "text", "pickled", "member"])
def test_files_that_hold_no_features(tmp_path, damage):
    path = tmp_path / "set.npz"
    save_features(path, random(4, 3), "abcd", **OF)
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "member":
        np.savez(path, features=random(4, 3))
    elif damage == "pickled":
        np.savez(path, **dict.fromkeys(("format", "feature", "features", "ids"), np.array([{}])))
    else:
        path.write_bytes(whole[: len(whole) // 2] if damage == "short" else b"no features")
    with pytest.raises(Unmeasured, match="holds no features"):
        load_features(path, **OF)


@pytest.mark.parametrize(
    ("rows", "ids", "said"),
    [(random(4, 3), "abc", "4 rows and 3"), (np.full((2, 2), np.nan), "ab", "finite")],
)
def test_what_is_not_stored(tmp_path, rows, ids, said):
    with pytest.raises(Unmeasured, match=said):
        save_features(tmp_path / "set.npz", rows, ids, **OF)
    assert not list(tmp_path.iterdir())
