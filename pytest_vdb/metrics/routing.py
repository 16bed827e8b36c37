"""Whether a mixture-of-experts model uses its experts: numbers of one layer's router.

Counts are kept by layer: added up over layers, or averaged as probabilities, they hide a layer that
sends every token to the same expert. `watch` collects them around a generation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_vdb.errors import UnknownMetric, Unmeasured, nearest
from pytest_vdb.metrics.catalog.routing import ROUTING, RoutingMetric

if TYPE_CHECKING:
    from pytest_vdb.metrics.router_watch import Router, RouterWatch

UNUSED = 0.01
"""An expert with less than this part of an equal share is unused."""

LEAST = 100
"""Assignments for each expert below which a layer is not judged: at 100, chance alone gives an even
router a variation of .1, and an expert under 1 % of its share got none."""


def watch(model: object, routers: Iterable[Router | str] = ()) -> RouterWatch:
    """``with watch(pipeline) as routed: pipeline(...)``, then ``routed.check()``.

    ``model`` is a module or a pipeline. ``routers`` name its routers where they are not found, or
    not all are wanted: see `router_watch.Router`. Raises Unmeasured and BadSetting as
    `router_watch.RouterWatch`.
    """
    from pytest_vdb.metrics.router_watch import RouterWatch

    return RouterWatch(model, routers)


# ---------------------------------------------------------------- of one layer's assignments


def utilisation_cv(counts: Any, ddof: int = 1) -> float:
    """Standard deviation of the experts' assignments over their mean, lower is better.

    ``counts``: (E,) assignments of each expert, integers ≥ 0. In [0, √E]: 0 is even, √E all on one
    expert (E = 8: 2.83). That is with the sample's deviation, as `torch.std` has it; with
    ``ddof=0``, the population's, of which Shazeer et al. 2017 (arXiv:1701.06538) make a loss, it is
    √(E−1) (2.65). Raises Unmeasured for a single expert and where nothing was assigned.
    """
    used = _counts("utilisation_cv", counts)
    return float(used.std(ddof=ddof) / used.mean())


def gini(counts: Any) -> float:
    """Gini coefficient of the experts' assignments, lower is better.

    Σ(2i − E − 1)·x_i / (E·Σx), x ascending. In [0, 1 − 1/E]: 0 is even, 1 − 1/E all on one expert
    (E = 8: .875). ``counts`` and errors as `utilisation_cv`.
    """
    used = np.sort(_counts("gini", counts))
    weights = 2 * np.arange(1, len(used) + 1) - len(used) - 1
    return float(weights @ used / (len(used) * used.sum()))


def routing_entropy(counts: Any) -> float:
    """Entropy of the experts' shares of the assignments over ln E, higher is better.

    In [0, 1]: 1 is even, 0 all on one expert. ``counts`` and errors as `utilisation_cv`.
    """
    used = _counts("routing_entropy", counts)
    return float(_entropy(used / used.sum()))


def unused_experts(counts: Any) -> int:
    """How many experts have less than 1 % of an equal share, 1/E, of the assignments.

    ``counts`` and errors as `utilisation_cv`.
    """
    used = _counts("unused_experts", counts)
    return int(np.count_nonzero(used < UNUSED * used.mean()))


def token_drop_rate(dropped: int, tokens: int) -> float:
    """Share of the tokens that no expert took, in [0, 1], lower is better.

    Raises Unmeasured where there was no token.
    """
    if not 0 <= dropped <= tokens or not tokens:
        raise Unmeasured(f"token_drop_rate: {dropped} of {tokens} tokens is no share")
    return dropped / tokens


def switch_loss(counts: Any, probabilities: Any) -> float:
    """E·Σ f_i·P_i of Switch Transformers (Fedus et al. 2021, equations 4 to 6, without α).

    ``counts``: (E,) assignments; ``probabilities``: (E,), the router's probabilities, mean over
    tokens, or (T, E), those of each token. f is a share of all assignments, so 1 is even whatever
    k, and E is all on one expert; transformers' ``load_balancing_loss_func`` is k times this. A
    router without a preference has P_i = 1/E and a loss of 1 wherever its tokens go, so this is no
    gate by itself. Raises Unmeasured for shapes that do not match and for what are no
    probabilities, and as `utilisation_cv`.
    """
    used = _counts("switch_loss", counts)
    mean = _probabilities("switch_loss", probabilities).mean(axis=0)
    if len(mean) != len(used):
        raise Unmeasured(f"switch_loss: {len(used)} counts and {len(mean)} probabilities")
    return float(len(used) * (used / used.sum()) @ mean)


def token_entropy(probabilities: Any) -> float:
    """Entropy of the router's probabilities of a token over ln E, mean over tokens.

    ``probabilities``: (T, E), rows that sum to 1. In [0, 1]: near 0 the router is certain of every
    token (sharply trained, or saturated), near 1 it has no preference. Raises Unmeasured for what
    are no probabilities.
    """
    return float(_entropy(_probabilities("token_entropy", probabilities)).mean())


def _entropy(shares: np.ndarray) -> np.ndarray:
    """Of the last axis, over its greatest value; 0·ln 0 is 0."""
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    entropy: np.ndarray = -(shares * logs).sum(axis=-1) / math.log(shares.shape[-1])
    return entropy + 0.0  # never -0.0


def _counts(name: str, counts: Any) -> np.ndarray:
    used = np.asarray(counts, dtype=np.float64)
    if used.ndim != 1 or len(used) < 2:
        raise Unmeasured(
            f"{name}: counts of shape {used.shape}; it needs one number for each of 2 experts or "
            "more, of one layer"
        )
    if not np.isfinite(used).all() or used.min() < 0 or not used.any():
        raise Unmeasured(f"{name}: {used.tolist()} are no counts, or nothing was assigned")
    return used


def _probabilities(name: str, probabilities: Any) -> np.ndarray:
    """(T, E) float64; one row where (E,) was given."""
    rows = np.atleast_2d(np.asarray(probabilities, dtype=np.float64))
    good = rows.ndim == 2 and rows.shape[0] > 0 and rows.shape[1] > 1
    # A router in bfloat16 has sums that are off by its rounding.
    if not good or not (rows >= 0).all() or not np.allclose(rows.sum(axis=1), 1, atol=0.02):
        raise Unmeasured(
            f"{name}: probabilities of shape {rows.shape} that are not (tokens, experts), at least "
            "0, with a sum of 1 a token; give the softmax of the router's logits"
        )
    return rows


# ---------------------------------------------------------------- what a watch hands out


@dataclass(frozen=True)
class Layer:
    """What one router did while it was watched.

    ``counts``: (E,) int64 assignments; ``tokens`` that it routed in ``calls`` calls, and those
    ``dropped``, which no expert took. ``probabilities``: (E,) mean over tokens, and ``entropy``,
    the `token_entropy`; both are None where the router does not tell, and ``why`` says why.
    ``trouble`` says why there is nothing at all.
    """

    path: str
    counts: np.ndarray
    tokens: int
    dropped: int
    calls: int
    probabilities: np.ndarray | None = None
    entropy: float | None = None
    why: str = ""
    trouble: str = ""

    def score(self, name: str) -> float:
        """A routing metric of this layer. Raises UnknownMetric, Unmeasured."""
        spec = find(name)
        if self.trouble:
            raise Unmeasured(f"{name} of {self.path}: {self.trouble}")
        values = [getattr(self, field) for field in spec.given]
        if any(value is None for value in values):
            raise Unmeasured(f"{name} of {self.path}: {self.why}")
        # The watch took the entropy token by token and kept the mean.
        value = float(values[0] if name == "token_entropy" else spec.compute(*values))
        if not math.isfinite(value):
            raise Unmeasured(
                f"{name} of {self.path} is {value}: the router's logits are not finite"
            )
        return value


@dataclass(frozen=True)
class Steps:
    """What one of a pipeline's whole-model experts did: its calls, and its steps' timesteps."""

    calls: int
    timesteps: tuple[float, ...]


def find(name: str) -> RoutingMetric:
    """The routing metric ``name``. Raises UnknownMetric."""
    known = {spec.name: spec for spec in ROUTING}
    if name not in known:
        raise UnknownMetric(f"no routing metric {name!r}: {nearest(name, known)}")
    return known[name]
