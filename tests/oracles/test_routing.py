"""Routing metrics: formulas against forms by hand, order on bad routers, bounds."""

from __future__ import annotations

import math
import runpy
import statistics
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from pytest_vdb import errors
from pytest_vdb.errors import BadSetting, UnknownMetric, Unmeasured
from pytest_vdb.metrics import routing
from pytest_vdb.metrics.catalog.routing import ROUTING
from pytest_vdb.metrics.router_watch import Router

# Files of tests cannot import each other.
routers = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("routers.py"))))
EXPERTS = routers.EXPERTS
OF_COUNTS = [spec for spec in ROUTING if spec.given == ("counts",)]


@pytest.fixture(scope="session")
def tokens():
    return routers.words()


def counted(seed, experts):
    random = np.random.default_rng(seed)
    return random.multinomial(1000, random.dirichlet(np.ones(experts)))


# ---------------------------------------------------------------- formulas


@pytest.mark.parametrize("experts", [2, 3, 8, 128])
def test_counts_against_forms_by_hand(experts):
    for seed in range(20):
        x = [float(n) for n in counted(seed, experts)]
        mean = sum(x) / experts
        apart = sum(abs(a - b) for a in x for b in x)
        shares = [n / sum(x) for n in x]
        entropy = -sum(p * math.log(p) for p in shares if p) / math.log(experts)
        cv, population = statistics.stdev(x) / mean, statistics.pstdev(x) / mean
        assert routing.utilisation_cv(x) == pytest.approx(cv, abs=1e-12)
        assert routing.utilisation_cv(x, ddof=0) == pytest.approx(population, abs=1e-12)
        assert routing.gini(x) == pytest.approx(apart / (2 * experts**2 * mean), abs=1e-12)
        assert routing.routing_entropy(x) == pytest.approx(entropy, abs=1e-12)
        assert routing.unused_experts(x) == sum(p < 0.01 / experts for p in shares)


def test_probabilities_against_forms_by_hand():
    random = np.random.default_rng(0)
    rows = random.dirichlet(np.ones(EXPERTS), size=50)
    x = np.bincount(rows.argmax(axis=1), minlength=EXPERTS)
    loss = EXPERTS * sum(x[i] / 50 * math.fsum(row[i] for row in rows) / 50 for i in range(EXPERTS))
    entropy = [-sum(p * math.log(p) for p in row) / math.log(EXPERTS) for row in rows]
    assert routing.switch_loss(x, rows) == pytest.approx(loss, abs=1e-12)
    assert routing.switch_loss(x, rows.mean(axis=0)) == pytest.approx(loss, abs=1e-12)
    assert routing.token_entropy(rows) == pytest.approx(statistics.mean(entropy), abs=1e-12)


def test_both_ends():
    one, even = [40, *[0] * 7], [5] * 8
    values = {s.name: (s.compute(one), s.compute(even)) for s in OF_COUNTS}
    assert values["utilisation_cv"] == pytest.approx((2.8284, 0), abs=1e-4)
    assert values["gini"] == pytest.approx((0.875, 0))
    assert values["routing_entropy"] == pytest.approx((0, 1))
    assert values["unused_experts"] == (7, 0)
    assert routing.switch_loss(one, np.eye(8)[:1]) == pytest.approx(8)
    assert routing.switch_loss(even, np.full(8, 1 / 8)) == pytest.approx(1)
    assert routing.token_drop_rate(3, 12) == 0.25


@pytest.mark.parametrize(
    "undefined",
    [
        lambda: routing.utilisation_cv([0, 0, 0]),
        lambda: routing.gini([7]),
        lambda: routing.routing_entropy([3, -1]),
        lambda: routing.unused_experts([3, math.nan]),
        lambda: routing.gini([[3, 1], [1, 3]]),  # two layers
        lambda: routing.token_drop_rate(0, 0),
        lambda: routing.token_drop_rate(5, 4),
        lambda: routing.switch_loss([3, 1], [[2.0, -1.0]]),  # logits
        lambda: routing.switch_loss([3, 1], [[0.2, 0.3, 0.5]]),
        lambda: routing.token_entropy([[math.nan, 1.0]]),
    ],
)
def test_what_is_not_defined_is_unmeasured(undefined):
    with pytest.raises(Unmeasured):
        undefined()


def test_stateful_metrics_of_batches_are_those_of_the_whole():
    from pytest_vdb.metrics import routing_stateful as stateful

    chunks = [counted(seed, EXPERTS) for seed in range(3)]
    rows = [np.random.default_rng(s).dirichlet(np.ones(EXPERTS), size=9 + s) for s in range(3)]
    for spec in ROUTING:
        name = "".join(word.capitalize() for word in spec.name.split("_"))
        metric = getattr(stateful, name)(*([EXPERTS] if "counts" in spec.given else []))
        assert metric.higher_is_better == {"higher": True, "lower": False, "": None}[spec.better]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchmetrics warns of it, too
            with pytest.raises(Unmeasured):
                metric.compute()
        given = {"counts": chunks, "dropped": [1, 0, 2], "tokens": [9, 10, 11]}
        given |= {"probabilities": rows, "entropy": rows}
        for batch in zip(*(given[field] for field in spec.given), strict=True):
            metric.update(*batch)
        whole = {"counts": sum(chunks), "dropped": 3, "tokens": 30}
        whole |= {"probabilities": np.concatenate(rows), "entropy": np.concatenate(rows)}
        expected = spec.compute(*(whole[field] for field in spec.given))
        assert float(metric.compute()) == pytest.approx(expected, abs=1e-12), spec.name


# ---------------------------------------------------------------- known-bad, and the gate


quiet = pytest.mark.filterwarnings("ignore::pytest_vdb.errors.RoutingWarning")


@quiet
@torch.no_grad()
def test_a_collapsed_router_is_worse():
    """A bias on one expert, in each of two layers, on ten texts."""
    model = routers.causal("GptOss", **routers.MODELS["GptOss"])
    for seed in range(10):
        text = routers.words(seed)
        for layer in model.model.layers:
            layer.mlp.router.bias.zero_()
        with routing.watch(model) as good:
            model(text)
        for index, layer in enumerate(model.model.layers):
            layer.mlp.router.bias[index] = 50.0
        with routing.watch(model) as bad:
            model(text)
        for path in good.layers:
            for spec in ROUTING:
                if "collapsed_router" not in spec.sees:
                    continue
                before, after = (w.layers[path].score(spec.name) for w in (good, bad))
                worse = after > before if spec.better == "lower" else after < before
                assert worse, f"{path} {spec.name} {before} -> {after}"
    with pytest.raises(errors.BadRouting, match=r"layers\.1\.mlp\.router: utilisation_cv"):
        bad.check()


@quiet
def test_a_dead_router_is_worse_though_its_probabilities_are_even():
    """Equal scores: every token goes to the same experts, and the Switch loss says balance."""
    model = routers.hidream()
    with routing.watch(model) as good:
        routers.denoise(model)
    for path in good.layers:
        nn.init.zeros_(model.get_submodule(path).weight)
    with routing.watch(model, [Router("*.gate", read=routers.hidream_scores)]) as bad:
        routers.denoise(model)
    for path, layer in bad.layers.items():
        assert layer.score("switch_loss") == pytest.approx(1)
        assert layer.score("token_entropy") == pytest.approx(1)
        for spec in ROUTING:
            if "dead_router" in spec.sees:
                before, after = good.layers[path].score(spec.name), layer.score(spec.name)
                assert after > before if spec.better == "lower" else after < before
    with pytest.raises(errors.BadRouting, match="utilisation_cv"):
        bad.check()


@quiet
def test_the_worst_layer_decides():
    model = routers.hidream()
    bad = "single_stream_blocks.0.block.ff_i.gate"
    nn.init.zeros_(model.get_submodule(bad).weight)
    with routing.watch(model) as routed:
        routers.denoise(model)
    pooled = sum(layer.counts for layer in routed.layers.values())
    for spec in OF_COUNTS:
        path, value = routed.worst(spec.name)
        assert path == bad
        assert value == routed.score(spec.name) == spec.compute(routed.layers[bad].counts)
        others = spec.compute(pooled)
        assert value > others if spec.better == "lower" else value < others
    with pytest.raises(errors.BadRouting) as caught:
        routed.check()
    assert bad in str(caught.value)
    assert "double_stream" not in str(caught.value)


def test_bounds(recwarn):
    model = routers.hidream()
    with routing.watch(model) as routed:
        routers.denoise(model)
    cv = routed.score("utilisation_cv")
    assert cv < 0.3
    routed.check()
    assert not recwarn
    routed.check(utilisation_cv=cv, gini=0.5, unused_experts=0, routing_entropy=0.9)
    with pytest.raises(errors.BadRouting, match="utilisation_cv"):
        routed.check(utilisation_cv=cv - 1e-6)
    with pytest.raises(Unmeasured, match="switch_loss"):  # asked for, and there is none
        routed.check(switch_loss=2.0)
    with pytest.raises(BadSetting, match="no worse end"):
        routed.check(token_entropy=0.5)
    with pytest.raises(UnknownMetric, match="utilisation_cv"):
        routed.check(utilization_cv=0.5)
    weight = model.get_submodule("double_stream_blocks.0.block.ff_i.gate").weight.data
    weight[1] = weight[2]  # where two are equal, the first is taken
    with routing.watch(model) as uneven:
        routers.denoise(model)
    assert 0.3 < uneven.score("utilisation_cv") < 0.5
    with pytest.warns(errors.RoutingWarning, match="above 0.3"):
        uneven.check()


@torch.no_grad()
def test_too_few_tokens_and_a_router_that_never_ran_are_unmeasured(tokens):
    model = routers.causal("Mixtral", **routers.MODELS["Mixtral"])
    with routing.watch(model) as routed:
        model(tokens[:1, :50])
    with pytest.raises(Unmeasured, match="to tell a bad router from chance"):
        routed.check()
    with routing.watch(model) as idle:
        pass
    for ask in (idle.check, lambda: idle.score("gini")):
        with pytest.raises(Unmeasured, match="never ran"):
            ask()


def test_a_compiled_router_is_unmeasured_and_its_graph_stays_whole():
    model = routers.hidream()
    plain = routers.denoise(model)
    gate = model.get_submodule("double_stream_blocks.0.block.ff_i.gate")
    gate.compile(backend="eager", fullgraph=True)
    with routing.watch(model) as routed:
        assert torch.equal(routers.denoise(model), plain)
    with pytest.raises(Unmeasured, match=r"double_stream.* never ran .* compiled"):
        routed.score("gini")


def test_an_error_leaves_no_hook_and_no_number():
    model = routers.hidream()
    watch = routing.watch(model)

    def fail():
        routers.denoise(model)
        model.x_embedder(torch.ones(3))

    with pytest.raises(RuntimeError, match="shapes"), watch:
        fail()
    assert routers.hooks_on(model) == 0
    assert all(layer.calls == 0 for layer in watch.layers.values())


def test_a_reader_that_fails_lets_the_generation_go_on():
    def broken(module, inputs, output):
        raise ValueError("cannot read this")

    model = routers.hidream()
    plain = routers.denoise(model)
    with routing.watch(model, [Router("*.gate", read=broken)]) as routed:
        assert torch.equal(routers.denoise(model), plain)
    with pytest.raises(Unmeasured, match="cannot read this"):
        routed.score("gini")
