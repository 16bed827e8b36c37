"""How far a set of videos is from a reference set, as distributions of a network's features.

Rows are items: a frame, or a clip of 16 frames. The functions put them in an order of their own
first, so that the same sets give the same bits whatever the order that they come in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_vdb.errors import Unmeasured

if TYPE_CHECKING:
    import torch

ROUNDING = 1e-9
"""How far below 0, relative to what was subtracted, a distance may come out by rounding alone."""
BLOCK = 1024  # rows of a kernel matrix at once: memory grows with the set, not with its square

# ---------------------------------------------------------------------------- distances


def frechet_distance(features: np.ndarray, reference: np.ndarray, *, ddof: int = 1) -> float:
    """Fréchet distance of two sets' Gaussians: FID, FVD. ≥ 0, lower is better, squared units.

    (N, D) and (M, D), any floats, computed in float64: |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2·√(Σ₁Σ₂))
    (Dowson & Landau 1982; Heusel et al. 2017). With centred rows X, Σ₁ = XᵀX, and the eigenvalues
    of Σ₁Σ₂ are the squared singular values of XYᵀ, so the trace of the root is their sum: no matrix
    root is taken, and fewer rows than dimensions are no special case. ``ddof`` is 1 for covariances
    over N − 1 (FID, VideoGPT, TATS), 0 for over N (StyleGAN-V, cd-fvd). The distance of finite sets
    is too large, the more so the smaller they are: compare sets of one size. A set whose rows are
    all one has no spread, and the number is what it is far from the reference.

    Raises Unmeasured for what `_pair` refuses.
    """
    ours, theirs = _pair("frechet_distance", features, reference)
    root, other = _root(ours, ddof), _root(theirs, ddof)
    return _frechet(ours.mean(0) - theirs.mean(0), root, other)


def gaussian_frechet_distance(
    mean: np.ndarray, covariance: np.ndarray, other_mean: np.ndarray, other_covariance: np.ndarray
) -> float:
    """`frechet_distance` of two Gaussians, (D,) and (D, D) each, such as published statistics.

    Eigenvalues below D · ε of the largest are 0, as covariances of few rows have them.
    Raises Unmeasured for one that is not finite, not symmetric, or has a negative eigenvalue.
    """
    shift = np.asarray(mean, np.float64) - np.asarray(other_mean, np.float64)
    return _frechet(shift, _factor(covariance), _factor(other_covariance))


def kernel_distance(
    features: np.ndarray,
    reference: np.ndarray,
    *,
    degree: int = 3,
    gamma: float | None = None,
    coef0: float = 1.0,
) -> float:
    """Squared MMD under the kernel (γ·⟨x, y⟩ + c)ᵈ, unbiased: KID, KVD. Lower is better.

    (N, D) and (M, D), in float64; γ is 1/D where not given (Bińkowski et al., ICLR 2018). Equal
    distributions give values around 0, so it may be negative. All pairs are used: the published
    mean over 100 random subsets of 1000 estimates just this, its mean over every subset.

    Raises Unmeasured for what `_pair` refuses.
    """
    ours, theirs = _pair("kernel_distance", features, reference)
    scale = 1.0 / ours.shape[1] if gamma is None else gamma

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T * scale + coef0) ** degree

    return _within(kernel, ours) + _within(kernel, theirs) - 2 * _mean(kernel, ours, theirs)


def jedi(features: np.ndarray, reference: np.ndarray) -> float:
    """JEDi of V-JEPA features: 100 · squared MMD under (⟨x, y⟩ / D)², biased. ≥ 0, lower is better.

    (N, D) and (M, D), in float64; degree 2 without constant, pairs of a row with itself included,
    as in the code of Luo et al. (ICLR 2025), "Beyond FVD". Its kernel sees second moments alone:
    it cannot tell a set from its negative. Raises Unmeasured for what `_pair` refuses.
    """
    ours, theirs = _pair("jedi", features, reference)
    dimensions = ours.shape[1]

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.square(x @ y.T / dimensions)

    return 100 * _squared("jedi", kernel, ours, theirs)


def cmmd(
    features: np.ndarray, reference: np.ndarray, *, sigma: float = 10.0, scale: float = 1000.0
) -> float:
    """CMMD of CLIP embeddings: ``scale`` · squared MMD, Gaussian kernel. ≥ 0, lower is better.

    (N, D) and (M, D), in float64, brought to length 1 here: exp(−|x − y|² / 2σ²), pairs of a row
    with itself included (Jayasumana et al., CVPR 2024). The kernel's constant 1 cancels and is left
    out, which keeps the digits that σ = 10 would cost.

    Raises Unmeasured for what `_pair` refuses, and for a row of zeros, which has no direction.
    """
    ours, theirs = (_unit(rows) for rows in _pair("cmmd", features, reference))

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.expm1((x @ y.T - 1) / sigma**2)  # |x − y|² = 2 − 2⟨x, y⟩

    return scale * _squared("cmmd", kernel, ours, theirs)


def inception_score(probabilities: np.ndarray, *, splits: int = 1) -> float:
    """exp of the mean KL(p(y|x) ‖ p(y)), in [1, C]; higher is better. There is no reference.

    ``probabilities`` (N, C) are classes' by row, each row of sum 1 (Salimans et al., NIPS 2016).
    All rows at once, in float64. With ``splits`` above 1, the mean over that many parts of rows
    that follow each other, as published with 10: it then depends on their order, and it is lower.

    Raises Unmeasured for rows that are no probabilities, and fewer than 2 or than ``splits``.
    """
    rows = _checked("inception_score", "the set", probabilities)
    if len(rows) < splits or splits < 1:
        raise Unmeasured(f"inception_score: {len(rows)} rows cannot be cut into {splits} parts")
    if rows.min() < 0 or np.abs(rows.sum(1) - 1).max() > 1e-6:
        raise Unmeasured(
            "inception_score: a row holds no probabilities: they must be 0 or more, and their sum "
            "1; give the softmax of the logits"
        )
    if splits == 1:
        rows = _ordered(rows)
    cuts = [i * len(rows) // splits for i in range(1, splits)]
    return float(np.mean([_one_score(part) for part in np.split(rows, cuts)]))


def _one_score(rows: np.ndarray) -> float:
    from scipy.special import rel_entr

    return float(np.exp(rel_entr(rows, rows.mean(0)).sum(1).mean()))


# ---------------------------------------------------------------------------- metrics of rows


def fid(rows: np.ndarray, reference: np.ndarray) -> float:
    """`frechet_distance` of the pooled features in the rows of `inception_rows`."""
    return frechet_distance(_pooled(rows), _pooled(reference))


def kid(rows: np.ndarray, reference: np.ndarray) -> float:
    """`kernel_distance` of the pooled features in the rows of `inception_rows`."""
    return kernel_distance(_pooled(rows), _pooled(reference))


def inception_score_of_rows(rows: np.ndarray) -> float:
    """`inception_score` of the logits in the rows of `inception_rows`."""
    from scipy.special import softmax

    return inception_score(softmax(np.asarray(rows, np.float64)[:, _POOLED:], axis=1))


def cd_fvd(rows: np.ndarray, reference: np.ndarray) -> float:
    """`frechet_distance` with covariances over N, as cd-fvd takes them (Ge et al., CVPR 2024)."""
    return frechet_distance(rows, reference, ddof=0)


_POOLED = 2048


def _pooled(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows)[:, :_POOLED]


# ---------------------------------------------------------------------------- rows of frames

CLIP_FRAMES = 16


def i3d_rows(network: Any, frames: torch.Tensor) -> torch.Tensor:
    """uint8 (16·M, 3, H, W) → (M, 400): I3D's logits of each 16 frames.

    The whole frame becomes 224 × 224 px, bilinear, *without* antialiasing, then 2x/255 − 1: as
    TATS, cd-fvd and StyleGAN-V's detector do. (VideoGPT crops, and feeds half that range.)
    """
    clips = _stretched(frames, 224) * (2 / 255) - 1
    return network(_clips(clips).transpose(1, 2))


def videomae_rows(network: Any, frames: torch.Tensor) -> torch.Tensor:
    """uint8 (16·M, 3, H, W) → (M, 1408): VideoMAE v2's of each 16 frames, as cd-fvd takes them.

    The whole frame becomes 224 × 224 px, bilinear, without antialiasing, then x/255: cd-fvd does
    not subtract the mean that the network was trained with.
    """
    return network(_clips(_stretched(frames, 224) / 255))


def vjepa_rows(network: Any, frames: torch.Tensor) -> torch.Tensor:
    """uint8 (16·M, 3, H, W) → (M, 1280): V-JEPA's pooled tokens of each 16 frames, for `jedi`.

    The whole frame becomes 224 × 224 px, bilinear with antialiasing, the size that V-JEPA was
    trained with; JEDi's code leaves it to the caller.
    """
    from pytest_vdb.metrics import preprocess

    small = preprocess.resize(frames, 224, 224)
    small = preprocess.normalize(small, preprocess.IMAGENET_MEAN, preprocess.IMAGENET_STD)
    return network(_clips(small).transpose(1, 2))


def inception_rows(network: Any, frames: torch.Tensor) -> torch.Tensor:
    """uint8 (N, 3, H, W) → (N, 2048 + 1008): FID's pooled features, then logits, of each frame."""
    return network(frames)


def clip_rows(network: Any, frames: torch.Tensor) -> torch.Tensor:
    """uint8 (N, 3, H, W) → (N, 768): CLIP ViT-L/14@336 of each frame's middle square.

    Cropped first, then 336 × 336 px, bicubic with antialiasing: as CMMD's code does. Not normalised
    to length 1: `cmmd` does that.
    """
    from pytest_vdb.metrics import preprocess
    from pytest_vdb.metrics.networks.clip import image_features

    height, width = frames.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = frames[..., top : top + side, left : left + side]
    pixels = preprocess.resize(square, 336, 336, "bicubic")
    pixels = preprocess.normalize(pixels, preprocess.CLIP_MEAN, preprocess.CLIP_STD)
    return image_features(network, pixels)


def transnet_rows(network: Any, frames: torch.Tensor) -> torch.Tensor:
    """uint8 (16·M, 3, H, W) → (M, 448): TransNet V2's dilated convolutions over each 16 frames.

    The whole frame becomes 48 × 27 px, bicubic. The mean and nothing else of the three stacks'
    channels (64 + 128 + 256) over the clip's frames and pixels: what moves, not where.
    """
    import torch

    from pytest_vdb.metrics import preprocess

    preprocess.require_like(frames)
    small = preprocess.resize(frames, 27, 48, "bicubic")
    x = _clips(small / 255).transpose(1, 2)
    means = []
    for stack in network.SDDCNN:
        x = stack(x)
        means.append(x.mean((2, 3, 4)))
    return torch.cat(means, 1)


def _clips(frames: torch.Tensor) -> torch.Tensor:
    """(16·M, ...) → (M, 16, ...)."""
    return frames.reshape(-1, CLIP_FRAMES, *frames.shape[1:])


def _stretched(frames: torch.Tensor, side: int) -> torch.Tensor:
    from pytest_vdb.metrics import preprocess

    preprocess.require_like(frames)
    return preprocess.resize(frames.float(), side, side, antialias=False)


# ---------------------------------------------------------------------------- arithmetic


def _pair(name: str, features: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both sets as ordered float64.

    Raises Unmeasured unless both are finite, of 2 rows or more and of one width, and the rows of
    the reference differ.
    """
    ours = _checked(name, "the set", features)
    theirs = _checked(name, "the reference set", reference)
    if ours.shape[1] != theirs.shape[1]:
        raise Unmeasured(
            f"{name}: the set has {ours.shape[1]} numbers a row and the reference set "
            f"{theirs.shape[1]}; both must come from one network"
        )
    if (theirs == theirs[0]).all():
        raise Unmeasured(
            f"{name}: the {len(theirs)} rows of the reference set are all the same, and nothing "
            "can be compared with one point; look at its videos: frozen, black, or one of them "
            "stored many times"
        )
    return _ordered(ours), _ordered(theirs)


def _checked(name: str, what: str, features: np.ndarray) -> np.ndarray:
    rows = np.asarray(features, dtype=np.float64)
    if rows.ndim != 2 or 0 in rows.shape:
        raise Unmeasured(f"{name}: {what} has shape {rows.shape}; features are (rows, numbers)")
    if len(rows) < 2:
        raise Unmeasured(f"{name}: {what} has one row, and one is no distribution; give more")
    wrong = int(np.count_nonzero(~np.isfinite(rows).all(1)))
    if wrong:
        raise Unmeasured(
            f"{name}: {wrong} of {len(rows)} rows of {what} are not finite; the network "
            "overflowed or its weights are damaged: compute features in float32"
        )
    return rows


def _ordered(rows: np.ndarray) -> np.ndarray:
    """The same rows in an order that depends on their numbers alone."""
    rows = np.ascontiguousarray(rows) + 0.0  # -0.0 has other bytes than 0.0
    return rows[sorted(range(len(rows)), key=lambda i: rows[i].tobytes())]


def _root(rows: np.ndarray, ddof: int) -> np.ndarray:
    """R with RᵀR the covariance; at most D rows."""
    centred = (rows - rows.mean(0)) / np.sqrt(len(rows) - ddof)
    if len(rows) <= rows.shape[1]:
        return centred
    small: np.ndarray = np.asarray(np.linalg.qr(centred, mode="r"))
    return small


def _factor(covariance: np.ndarray) -> np.ndarray:
    """R with RᵀR = ``covariance``."""
    matrix = np.asarray(covariance, np.float64)
    if not np.isfinite(matrix).all() or not np.allclose(matrix, matrix.T, rtol=1e-6):
        raise Unmeasured("frechet_distance: a covariance is not symmetric and finite")
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    noise = len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
    if values[0] < -max(noise, ROUNDING * abs(values[-1])):
        raise Unmeasured(
            f"frechet_distance: a covariance has the eigenvalue {values[0]:g}, and none is negative"
        )
    kept = values > noise
    root: np.ndarray = np.sqrt(values[kept])[:, None] * vectors[:, kept].T
    return root


def _frechet(shift: np.ndarray, root: np.ndarray, other: np.ndarray) -> float:
    apart = shift @ shift + np.square(root).sum() + np.square(other).sum()
    shared = np.linalg.svd(root @ other.T, compute_uv=False).sum()
    return _not_negative("frechet_distance", apart - 2 * shared, apart)


Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _squared(name: str, kernel: Kernel, x: np.ndarray, y: np.ndarray) -> float:
    """Squared MMD, biased: pairs of a row with itself count."""
    within = _mean(kernel, x, x) + _mean(kernel, y, y)
    across = 2 * _mean(kernel, x, y)
    return _not_negative(name, within - across, abs(within) + abs(across))


def _mean(kernel: Kernel, x: np.ndarray, y: np.ndarray) -> float:
    return _total(kernel, x, y) / (len(x) * len(y))


def _within(kernel: Kernel, x: np.ndarray) -> float:
    """The mean over pairs of two different rows."""
    itself = sum(float(kernel(row[None], row[None]).sum()) for row in x)
    return (_total(kernel, x, x) - itself) / (len(x) * (len(x) - 1))


def _total(kernel: Kernel, x: np.ndarray, y: np.ndarray) -> float:
    return sum(float(kernel(x[i : i + BLOCK], y).sum()) for i in range(0, len(x), BLOCK))


def _unit(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not lengths.all():
        raise Unmeasured("cmmd: a row is all zero and has no direction; look at its video")
    unit: np.ndarray = rows / lengths
    return unit


def _not_negative(name: str, value: float, scale: float) -> float:
    if value < -ROUNDING * scale:
        raise Unmeasured(f"{name}: {value:g} is negative by more than rounding")
    return max(0.0, float(value))
