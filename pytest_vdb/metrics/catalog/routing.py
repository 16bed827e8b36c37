"""Metrics of routers in mixture-of-experts models: of a layer's assignments, not of a video."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pytest_vdb.metrics.registry import MetricSpec, lazy
from pytest_vdb.metrics.weights import Network

NETWORKS: tuple[Network, ...] = ()
METRICS: tuple[MetricSpec, ...] = ()  # none is of a video; see ROUTING

Bounds = tuple[float, float]
ANY: Bounds = (-math.inf, math.inf)


@dataclass(frozen=True)
class RoutingMetric:
    """One number of one layer's router.

    ``compute`` is called with the fields of `pytest_vdb.metrics.routing.Layer` that ``given``
    names. ``better`` is ``"lower"``, ``"higher"``, or ``""`` where both ends are suspicious.
    A value outside the bounds ``warn`` is suspicious, one outside ``error`` is wrong. ``sees``: the
    faults that move it to the worse end.
    """

    name: str
    unit: str
    range: Bounds
    better: str
    summary: str
    how: str
    compute: Callable[..., Any]
    given: tuple[str, ...] = ("counts",)
    warn: Bounds = ANY
    error: Bounds = ANY
    sees: tuple[str, ...] = ()
    version: str = "1"


def _metric(name: str, summary: str, how: str, **fields: Any) -> RoutingMetric:
    usual = {"unit": "fraction", "range": (0.0, 1.0), "better": "lower"}
    compute = lazy(f"pytest_vdb.metrics.routing:{name}")
    return RoutingMetric(name=name, summary=summary, how=how, compute=compute, **usual | fields)


SEEN = ("collapsed_router", "dead_router")
"""A router that prefers one expert for every token, and one that prefers none: where all scores are
equal, every token goes to the experts that come first."""

ROUTING: tuple[RoutingMetric, ...] = (
    _metric(
        "utilisation_cv",
        "how unequally a layer's experts are used",
        "sample standard deviation of the assignments of a layer's experts over their mean",
        unit="ratio",
        range=(0.0, math.inf),
        warn=(-math.inf, 0.3),
        error=(-math.inf, 0.5),
        sees=SEEN,
    ),
    _metric(
        "gini",
        "how unequally a layer's experts are used",
        "Gini coefficient of the assignments of a layer's experts",
        sees=SEEN,
    ),
    _metric(
        "routing_entropy",
        "how evenly a layer's tokens are spread over its experts",
        "entropy of the experts' shares of the assignments, over ln E",
        better="higher",
        warn=(0.3, math.inf),
        sees=SEEN,
    ),
    _metric(
        "unused_experts",
        "how many of a layer's experts do next to nothing",
        "experts with less than 1 % of an equal share of the assignments",
        unit="experts",
        range=(0.0, math.inf),
        sees=("dead_router",),  # of k experts a token, a preferred one leaves k - 1 to the others
    ),
    _metric(
        "token_drop_rate",
        "how many tokens no expert of a layer takes",
        "tokens without an expert over all tokens of a layer",
        given=("dropped", "tokens"),
        warn=(-math.inf, 0.05),
        error=(-math.inf, 0.1),
    ),
    _metric(
        "switch_loss",
        "the load-balancing loss of Switch Transformers; 1 is even",
        "E sum(f_i P_i), f the shares of the assignments, P the mean router probabilities",
        unit="ratio",
        range=(0.0, math.inf),
        given=("counts", "probabilities"),
    ),
    _metric(
        "token_entropy",
        "how undecided a layer's router is about a token",
        "entropy of the router's probabilities of a token over ln E, mean over tokens",
        better="",
        given=("entropy",),
        warn=(0.3, 0.95),
    ),
)
