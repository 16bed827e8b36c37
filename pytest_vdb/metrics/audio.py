"""Metrics of sound against a reference.

Signals are arrays or CPU tensors of real numbers, (..., N) samples; all is computed in float64.
Two signals that are compared have one shape: nothing is cut, padded or shifted to make them fit.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from pytest_vdb.errors import Unmeasured
from pytest_vdb.metrics.video import Audio

DB_CAP = 100.0
"""dB for equal signals, whose ratio is infinite: neither JSON nor a mean can hold infinity."""
TAPS = 512  # of the distortion filter of SDR (Vincent, Gribonval, Févotte 2006; bss_eval v3)
STOI_LEAST = 0.4  # s: 30 frames of 25.6 ms, half overlapping
PESQ_RATES = {"wb": 16000, "nb": 8000}  # Hz
PESQ_MOST = 20.0
"""Seconds. The ITU's code has room for 50 utterances, which are 0.2 s with pauses of 0.2 s or more,
and writes beyond it without looking: the process dies."""

Pairwise = Callable[[Any, Any], Any]


def si_snr(estimate: Any, target: Any) -> np.ndarray:
    """Scale-invariant signal-to-noise ratio in dB, (...,) of (..., N); higher is better.

    10·log10(‖αt‖² / ‖e − αt‖²), α = ⟨e, t⟩/‖t‖², both zero-mean (Luo, Mesgarani 2018; Le Roux et
    al. 2019), in [-100, 100]: beyond it is cut to that. Raises Unmeasured for signals of different
    shapes, for values that are not finite, and where either is silent or constant.
    """
    ours, theirs = _signals("si_snr", estimate, target)
    ours = ours - ours.mean(-1, keepdims=True)
    theirs = theirs - theirs.mean(-1, keepdims=True)
    alpha = (ours * theirs).sum(-1, keepdims=True) / (theirs**2).sum(-1, keepdims=True)
    return _decibels(((alpha * theirs) ** 2).sum(-1), ((ours - alpha * theirs) ** 2).sum(-1))


def si_snr_improvement(estimate: Any, target: Any, mixture: Any) -> np.ndarray:
    """`si_snr` of the estimate less that of the mixture that it was made from, in dB, (...,).

    ``mixture`` has the estimate's shape. Raises Unmeasured as `si_snr` does.
    """
    improvement: np.ndarray = si_snr(estimate, target) - si_snr(mixture, target)
    return improvement


def sdr(estimate: Any, target: Any) -> np.ndarray:
    """Signal-to-distortion ratio of bss_eval in dB, (...,) of (..., N); higher is better.

    What a filter of 512 taps makes of the target is signal, and the rest distortion (Vincent,
    Gribonval, Févotte 2006; Scheibler 2022), by torchmetrics. In [-100, 100], as `si_snr`. Blind
    to gain, to delays of up to 511 samples and to any equaliser. Raises Unmeasured as `si_snr`
    does, below 512 samples, and for a target so narrow in band that the filter is not determined.
    """
    import torch
    from torchmetrics.functional.audio import signal_distortion_ratio

    ours, theirs = _signals("sdr", estimate, target)
    if ours.shape[-1] < TAPS:
        raise Unmeasured(f"sdr: {ours.shape[-1]} samples, and its filter alone has {TAPS}")
    try:
        ratio = signal_distortion_ratio(torch.from_numpy(ours), torch.from_numpy(theirs)).numpy()
    except RuntimeError:  # torch.linalg: singular
        ratio = np.full(ours.shape[:-1], np.nan)
    ratio = np.where((ours == theirs).all(-1), DB_CAP, ratio)
    if np.isnan(ratio).any():
        raise Unmeasured(
            f"sdr: the target is so narrow in band that a filter of {TAPS} taps is not determined; "
            "si_snr has no filter"
        )
    return np.clip(ratio, -DB_CAP, DB_CAP)


def stoi(estimate: Any, target: Any, rate: int) -> np.ndarray:
    """Short-time objective intelligibility (Taal et al. 2011) of (..., N) at ``rate`` Hz, (...,).

    A mean of correlations, in [-1, 1]; 1 is the clean target. Of speech: the number says nothing of
    music. By pystoi, which resamples to 10 kHz. Raises Unmeasured without pystoi, below 0.4 s of
    sound that is not silence (where pystoi itself gives 1e-5), and as `si_snr` does.
    """
    library = _library("stoi", "pystoi", "pip install pystoi")
    ours, theirs = _signals("stoi", estimate, target)
    short = "stoi: it needs 0.4 s of the target that are less than 40 dB below its loudest"
    if ours.shape[-1] < STOI_LEAST * rate:
        raise Unmeasured(f"{short}, and the audio lasts {ours.shape[-1] / rate:.3g} s")

    def one(e: np.ndarray, t: np.ndarray) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            try:
                return float(library.stoi(t, e, rate))
            except RuntimeWarning as warning:
                raise Unmeasured(f"{short}; pystoi says: {warning}") from None

    return _each(one, ours, theirs)


def pesq(estimate: Any, target: Any, rate: int, mode: str = "wb") -> np.ndarray:
    """PESQ as MOS-LQO, about 1 to 4.64, of (..., N) speech at ``rate`` Hz, (...,).

    ``mode``: "wb", ITU-T P.862.2 at 16 kHz, or "nb", P.862.1 at 8 kHz; a higher rate is brought to
    that by `scipy.signal.resample_poly`. By the package ``pesq``, which wraps the ITU's C code.
    Raises Unmeasured without it, for a lower rate, above 20 s (which its C code may not survive),
    where it finds no speech, and as `si_snr` does.
    """
    library = _library(
        "pesq",
        "pesq",
        "pip install pesq (C code: it needs a compiler; where its build fails, pip install cython "
        "numpy setuptools && pip install --no-build-isolation --no-deps pesq)",
    )
    from scipy.signal import resample_poly

    ours, theirs = _signals("pesq", estimate, target)
    if mode not in PESQ_RATES or rate < PESQ_RATES[mode]:
        rates = ", ".join(f"mode={name!r} from {least} Hz on" for name, least in PESQ_RATES.items())
        raise Unmeasured(f"pesq: mode={mode!r} of audio at {rate} Hz; there are {rates}")
    if ours.shape[-1] > PESQ_MOST * rate:
        raise Unmeasured(
            f"pesq: {ours.shape[-1] / rate:.4g} s of audio; it is defined for 8 to 20 s, and its "
            f"code fails on longer ones: give parts of at most {PESQ_MOST:g} s"
        )
    to = PESQ_RATES[mode]

    def one(e: np.ndarray, t: np.ndarray) -> float:
        pair = [resample_poly(x, to, rate) if rate != to else x for x in (t, e)]
        try:
            return float(library.pesq(to, *(x.astype(np.float32) for x in pair), mode))
        except library.PesqError as error:
            said = error.args[0] if error.args else error
            raise Unmeasured(
                f"pesq: {said.decode() if isinstance(said, bytes) else said}"
            ) from None

    return _each(one, ours, theirs)


def permutation_invariant(
    metric: Pairwise, estimates: Any, targets: Any
) -> tuple[np.ndarray, np.ndarray]:
    """``metric``, higher is better, of separated sources whose order nobody knows; by item.

    ``estimates`` and ``targets``: (..., S, N). Gives the mean over sources, (...,), under the best
    assignment, and that assignment, (..., S): ``estimates[..., order[..., s], :]`` is taken for
    ``targets[..., s, :]``. Each item has its own (Yu et al. 2017, utterance level; the assignment
    by the Hungarian method). ``metric(estimate, target)`` is of two (N,) signals. Raises Unmeasured
    as ``metric`` does, and for shapes that differ.
    """
    from scipy.optimize import linear_sum_assignment

    ours, theirs = _signals("permutation_invariant", estimates, targets, sounding=False)
    if ours.ndim < 2:
        raise Unmeasured(f"permutation_invariant: shape {ours.shape}; give (..., sources, samples)")
    *items, sources, length = ours.shape
    best, orders = [], []
    pairs = (x.reshape(-1, sources, length) for x in (ours, theirs))
    for estimate, target in zip(*pairs, strict=True):
        table = np.array([[float(metric(e, t)) for e in estimate] for t in target])
        row, order = linear_sum_assignment(table, maximize=True)
        best.append(table[row, order].mean())
        orders.append(order)
    return np.reshape(best, items), np.reshape(orders, (*items, sources))


def si_snr_rows(audio: Audio, reference: Audio) -> np.ndarray:
    """`si_snr` of each channel that sounds, (C, 1)."""
    return si_snr(*_channels(audio, reference))[:, None]


def sdr_rows(audio: Audio, reference: Audio) -> np.ndarray:
    """`sdr` of each channel that sounds, (C, 1)."""
    return sdr(*_channels(audio, reference))[:, None]


def stoi_rows(audio: Audio, reference: Audio) -> np.ndarray:
    """`stoi` of each channel that sounds, (C, 1)."""
    return stoi(*_channels(audio, reference), audio.rate)[:, None]


def pesq_rows(audio: Audio, reference: Audio) -> np.ndarray:
    """`pesq`, wide band, of each channel that sounds, (C, 1)."""
    return pesq(*_channels(audio, reference), audio.rate)[:, None]


def channel_mean(rows: np.ndarray) -> float:
    """The mean of (C, 1) rows."""
    return float(rows.mean())


def _signals(
    name: str, estimate: Any, target: Any, sounding: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 (..., N) of one shape, finite, and neither of them silent."""
    ours, theirs = (np.asarray(x, dtype=np.float64) for x in (estimate, target))
    if ours.shape != theirs.shape or ours.ndim == 0 or ours.size == 0:
        raise Unmeasured(
            f"{name}: the audio has shape {ours.shape} and its reference {theirs.shape}; they must "
            "be equal and not empty: nothing is cut or padded to fit"
        )
    for what, signal in (("audio", ours), ("reference", theirs)):
        if not np.isfinite(signal).all():
            raise Unmeasured(f"{name}: the {what} holds samples that are not finite")
        if sounding and (np.ptp(signal, axis=-1) == 0).any():
            raise Unmeasured(f"{name}: the {what} is silent or constant: the ratio is not defined")
    return ours, theirs


def _channels(audio: Audio, reference: Audio) -> tuple[np.ndarray, np.ndarray]:
    """The channels of both, without those that are silent in both (such as an unused LFE)."""
    if audio.rate != reference.rate:
        raise Unmeasured(
            f"the audio is at {audio.rate} Hz and its reference at {reference.rate}; they must be "
            "equal: nothing is resampled to fit"
        )
    ours, theirs = _signals("audio", audio.samples, reference.samples, sounding=False)
    sounds = (np.ptp(ours, axis=-1) > 0) | (np.ptp(theirs, axis=-1) > 0)
    if not sounds.any():
        raise Unmeasured("the audio and its reference are silent: there is nothing to compare")
    return ours[sounds], theirs[sounds]


def _decibels(signal: np.ndarray, noise: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        ratio: np.ndarray = 10 * (np.log10(signal) - np.log10(noise))
    return np.clip(ratio, -DB_CAP, DB_CAP)


def _each(one: Callable[..., float], ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """``one`` of every two signals of (..., N): (...,)."""
    flat = (x.reshape(-1, x.shape[-1]) for x in (ours, theirs))
    return np.reshape([one(e, t) for e, t in zip(*flat, strict=True)], ours.shape[:-1])


def _library(metric: str, package: str, install: str) -> Any:
    try:
        return import_module(package)
    except ImportError as error:
        raise Unmeasured(f"{metric} needs the package {package}: {install} ({error})") from None
