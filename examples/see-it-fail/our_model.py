"""The code under test. ``NOISE=0.1`` stands for a pull request that damages the weights."""

import os

import numpy as np
import torch

from pytest_vdb.models.embedded import tiny_wan


def build():
    pipeline = tiny_wan()
    noise = float(os.environ.get("NOISE", 0))
    random = np.random.Generator(np.random.PCG64(1))
    with torch.no_grad():
        for part in (pipeline.text_encoder, pipeline.transformer, pipeline.vae):
            for weight in part.parameters():
                factor = 1 + noise * random.standard_normal(weight.shape).astype("float32")
                weight.mul_(torch.from_numpy(factor))
    return pipeline
