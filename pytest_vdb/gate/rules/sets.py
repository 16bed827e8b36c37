"""Sets of feature vectors, one a video, of the same prompts and seeds: changed, and worse?

A distance between two small sets is mostly its own bias (docs/verdicts.md has figures), so no
level gates. What can be tested is whether two sets could be exchanged, and which of them lies
nearer to a real one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

VIDEOS_TO_REPORT = 32
RESAMPLES = 9999


def swap_test(new: Any, base: Any, *, resamples: int = RESAMPLES, seed: int = 0) -> float:
    """p of "which video of a pair is whose does not matter": RBF-MMD, swapped within pairs.

    ``new`` and ``base`` are (n, d), row i of the same prompt and seed. The kernel's width is the
    median distance of the pooled rows (Gretton et al. 2012, A Kernel Two-Sample Test). Pairs are
    swapped at random, since a permutation of the pooled rows never notices what the pairing shows.
    1.0 where all rows are equal. Raises ValueError for rows that do not pair.
    """
    first, second = np.asarray(new, dtype=np.float64), np.asarray(base, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(f"rows of {first.shape} and {second.shape} do not pair")
    if np.array_equal(first, second):
        return 1.0
    n = len(first)
    kernel = _rbf(np.concatenate([first, second]))
    # One term a pair of pairs; it changes its sign where exactly one of the two is swapped.
    terms = kernel[:n, :n] + kernel[n:, n:] - kernel[:n, n:] - kernel[n:, :n]
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(resamples, n))
    swapped = np.einsum("ri,ri->r", signs @ terms, signs)
    # Rounding must not make a swap that changes nothing look smaller than what was seen.
    seen = float(terms.sum()) - 1e-9 * float(np.abs(terms).sum())
    return float(1 + np.sum(swapped >= seen)) / (resamples + 1)


def kid_changes(new: Any, base: Any, real: Any) -> Any:
    """(n,) jackknife pseudo-values of KID(new, real) - KID(base, real); positive is worse.

    Their mean estimates the difference without bias, so they can be judged like any other paired
    score, against 0. KID (Bińkowski et al. 2018, Demystifying MMD GANs) is the unbiased MMD² of
    the kernel (x·y/d + 1)³; the real set's own term cancels. Rows as in `swap_test`; ``real`` is
    (m, d).
    """
    first, second = np.asarray(new, dtype=np.float64), np.asarray(base, dtype=np.float64)
    others = np.asarray(real, dtype=np.float64)
    n, d = first.shape
    within = (first @ first.T / d + 1) ** 3 - (second @ second.T / d + 1) ** 3
    np.fill_diagonal(within, 0.0)
    across = ((first @ others.T / d + 1) ** 3 - (second @ others.T / d + 1) ** 3).mean(axis=1)

    rows, total = within.sum(axis=1), within.sum()
    whole = total / (n * (n - 1)) - 2 * across.mean()
    left_out = (total - 2 * rows) / ((n - 1) * (n - 2)) - 2 * (across.sum() - across) / (n - 1)
    return n * whole - (n - 1) * left_out


def _rbf(rows: Any) -> Any:
    squares = np.sum(rows**2, axis=1)
    distances = np.maximum(squares[:, None] + squares[None, :] - 2 * rows @ rows.T, 0.0)
    width = float(np.median(distances[np.triu_indices_from(distances, k=1)]))
    return np.exp(-distances / (width or 1.0))
