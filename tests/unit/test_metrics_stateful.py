"""The torchmetrics classes agree with the functions, however the videos come in."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
import torchmetrics

from pytest_vdb.errors import Unmeasured
from pytest_vdb.metrics import stateful
from pytest_vdb.metrics.registry import Metrics, evaluate
from pytest_vdb.scenes import scenes

RANDOM = np.random.Generator(np.random.PCG64(4))
VIDEOS = RANDOM.integers(0, 256, (4, 3, 16, 16, 3), np.uint8)
REFERENCES = RANDOM.integers(0, 256, (4, 3, 16, 16, 3), np.uint8)
PROMPTS = [scene.caption() for scene in scenes()[::69]]
SMALL = [
    m
    for m in Metrics()
    if m.needs in ("frames", "prompt", "reference")
    and not m.networks
    and not m.name.startswith("ms_ssim")
    and m.package != "imageio-ffmpeg"  # vmaf is not defined for 16 px
]


def result(spec, *updates):
    metric = stateful.metric_class(spec)()
    for videos, references, prompts in updates:
        metric.update(videos, references if spec.needs == "reference" else None, prompt=prompts)
    return float(metric.compute())


@pytest.mark.parametrize("spec", SMALL, ids=lambda s: s.name)
def test_neither_the_split_nor_the_order_changes_a_bit(spec):
    every = (VIDEOS, REFERENCES, PROMPTS)
    whole = result(spec, every)
    split = result(spec, [given[3:] for given in every], [given[:3] for given in every])
    backwards = result(spec, *zip(*(given[::-1] for given in every), strict=True))
    assert whole == split == backwards
    numbers = [evaluate(spec, v, reference=r, prompt=p) for v, r, p in zip(*every, strict=True)]
    assert whole == pytest.approx(np.mean(numbers), abs=1e-12)


def test_every_metric_has_a_class_that_says_its_direction():
    for spec in Metrics():
        cls = getattr(stateful, stateful.class_name(spec))
        assert issubclass(cls, torchmetrics.Metric)
        assert cls.spec == spec
        assert cls.higher_is_better is (spec.direction == "higher")


def test_torch_tensors_and_reset():
    metric = stateful.Psnr()
    metric.update(torch.from_numpy(VIDEOS), torch.from_numpy(REFERENCES))
    first = float(metric.compute())
    metric.reset()
    with (
        pytest.raises(Unmeasured, match="psnr: no video yet"),
        pytest.warns(UserWarning, match="compute"),
    ):
        metric.compute()
    metric.update(VIDEOS, REFERENCES)
    assert float(metric.compute()) == first


def test_a_latent_in_bfloat16():
    metric = stateful.LatentCosine()
    latent = torch.randn(1, 4, 2, 3, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    metric.update(latent, latent.half())
    assert float(metric.compute()) == 0.0


def test_a_batch_whose_references_do_not_match_is_unmeasured():
    with pytest.raises(Unmeasured, match=r"4 videos and 2 references"):
        stateful.Psnr().update(VIDEOS, REFERENCES[:2])


def test_each_video_of_a_batch_needs_a_prompt_of_its_own():
    metric = stateful.ShapesColor()
    for prompts, number in ((PROMPTS[0], 1), (PROMPTS[:3], 3)):
        with pytest.raises(Unmeasured, match=rf"4 videos and {number} prompts; give one for"):
            metric.update(VIDEOS, prompt=prompts)
    with pytest.raises(Unmeasured, match="prompt=None is no text"):
        metric.update(VIDEOS)
    metric.update(VIDEOS[:1], prompt=PROMPTS[0])  # a batch of one
    one = stateful.ShapesColor()
    one.update(VIDEOS[0], prompt=PROMPTS[0])
    assert float(metric.compute()) == float(one.compute())


def test_a_collection_gives_each_metric_what_it_needs():
    both = torchmetrics.MetricCollection([stateful.Sharpness(), stateful.ShapesShape()])
    both.update(VIDEOS, prompt=PROMPTS)
    assert {*both.compute()} == {"Sharpness", "ShapesShape"}


def test_state_survives_a_pickle_and_a_sync():
    metric = stateful.Sharpness()
    metric.update(VIDEOS)
    assert float(pickle.loads(pickle.dumps(metric)).compute()) == float(metric.compute())
    expected = float(metric.compute())
    gathered = stateful.Sharpness()
    gathered.values = torch.cat(metric.values)  # what torchmetrics leaves after a sync
    gathered._update_count = 1
    assert float(gathered.compute()) == expected
