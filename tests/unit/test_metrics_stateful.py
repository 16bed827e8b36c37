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

RANDOM = np.random.Generator(np.random.PCG64(4))
VIDEOS = RANDOM.integers(0, 256, (4, 3, 16, 16, 3), np.uint8)
REFERENCES = RANDOM.integers(0, 256, (4, 3, 16, 16, 3), np.uint8)
SMALL = [m for m in Metrics() if not m.name.startswith("ms_ssim") and m.needs != "latent"]


def result(spec, *updates):
    metric = stateful.metric_class(spec)()
    for videos, references in updates:
        metric.update(videos, references if spec.needs == "reference" else None)
    return float(metric.compute())


@pytest.mark.parametrize("spec", SMALL, ids=lambda s: s.name)
def test_neither_the_split_nor_the_order_changes_a_bit(spec):
    whole = result(spec, (VIDEOS, REFERENCES))
    split = result(spec, (VIDEOS[3:], REFERENCES[3:]), (VIDEOS[:3], REFERENCES[:3]))
    backwards = result(spec, *zip(VIDEOS[::-1], REFERENCES[::-1], strict=True))
    assert whole == split == backwards
    numbers = [evaluate(spec, v, reference=r) for v, r in zip(VIDEOS, REFERENCES, strict=True)]
    assert whole == pytest.approx(np.mean(numbers), abs=1e-12)


def test_every_metric_has_a_class_that_says_its_direction():
    for spec in Metrics():
        cls = getattr(stateful, "".join(w.capitalize() for w in spec.name.split("_")))
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
    with pytest.raises(Unmeasured, match=r"4 videos .* and 2 references"):
        stateful.Psnr().update(VIDEOS, REFERENCES[:2])


def test_state_survives_a_pickle_and_a_sync():
    metric = stateful.Sharpness()
    metric.update(VIDEOS)
    assert float(pickle.loads(pickle.dumps(metric)).compute()) == float(metric.compute())
    expected = float(metric.compute())
    gathered = stateful.Sharpness()
    gathered.values = torch.cat(metric.values)  # what torchmetrics leaves after a sync
    gathered._update_count = 1
    assert float(gathered.compute()) == expected
