"""Distance of pre-VAE latents."""

from __future__ import annotations

import numpy as np

from pytest_vdb.errors import Unmeasured


def latent_cosine(latent: np.ndarray, reference: np.ndarray) -> float:
    """1 − cos of the angle between two latents, in [0, 2]; lower is better.

    Both are float arrays of one shape, rounded to fp16 (the form in which a reference is stored),
    then computed in float64 as ½·|a/|a| − b/|b||², which equals 1 − cos, is exactly 0 for equal
    latents, and keeps small angles that 1 − cos would lose. Blind to a positive gain of the whole
    latent. Raises Unmeasured for a latent that is not finite in fp16 or that is all zero.
    """
    ours, theirs = _unit("the latent", latent), _unit("the reference latent", reference)
    return float(0.5 * np.sum(np.square(ours - theirs)))


def _unit(what: str, latent: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        values = np.asarray(latent).astype(np.float16).astype(np.float64).ravel()
    wrong = int(np.count_nonzero(~np.isfinite(values)))
    if wrong:
        raise Unmeasured(
            f"latent_cosine: {wrong} of {values.size} values of {what} are NaN, infinite or above "
            "65504, the largest fp16"
        )
    norm = np.linalg.norm(values)
    if norm == 0:
        raise Unmeasured(f"latent_cosine: {what} is all zero, and an angle to zero is undefined")
    return values / norm
