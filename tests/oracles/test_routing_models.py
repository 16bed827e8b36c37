"""What a watch counts, against what the experts really got and the models' own losses."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from pytest_vdb import errors
from pytest_vdb.errors import BadSetting, Unmeasured
from pytest_vdb.metrics import routing
from pytest_vdb.metrics.router_watch import Router

# Files of tests cannot import each other.
routers = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("routers.py"))))
EXPERTS, K = routers.EXPERTS, routers.K


@pytest.fixture(scope="session")
def tokens():
    return routers.words()


@pytest.mark.parametrize("name", routers.MODELS)
@torch.no_grad()
def test_counts_are_what_the_experts_got(name, tokens):
    model = routers.causal(name, **routers.MODELS[name])
    hooks = routers.hooks_on(model)
    plain = model(tokens).logits
    experts = routers.processed(model, lambda: model(tokens))
    with routing.watch(model) as routed:
        watched = model(tokens).logits
    assert torch.equal(plain, watched)
    assert routers.hooks_on(model) == hooks
    assert len(routed.layers) == len(experts) == 2
    for path, layer in routed.layers.items():
        np.testing.assert_array_equal(layer.counts, experts[path.rpartition(".")[0]])
        assert (layer.tokens, layer.dropped, layer.calls) == (400, 0, 1)


@torch.no_grad()
def test_switch_loss_is_the_models_own(tokens):
    """transformers' loss is k times as large, because its f adds up to k."""
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    model = routers.causal("Mixtral", **routers.MODELS["Mixtral"])
    with routing.watch(model) as routed:
        logits = model(tokens, output_router_logits=True).router_logits
    for layer, own in zip(routed.layers.values(), logits, strict=True):
        loss = float(load_balancing_loss_func((own,), EXPERTS, K)) / K
        assert loss > 1.01
        assert layer.score("switch_loss") == pytest.approx(loss, rel=1e-5)
        rows = own.double().softmax(dim=-1)
        assert layer.score("token_entropy") == pytest.approx(routing.token_entropy(rows), rel=1e-5)


@torch.no_grad()
def test_a_sigmoid_is_told_from_a_softmax_by_the_routers_weights(tokens):
    model = routers.causal("DeepseekV3", **routers.MODELS["DeepseekV3"])
    logits = []
    gate = model.model.layers[0].mlp.gate
    gate.register_forward_hook(lambda module, args, output: logits.append(output[0]))
    with routing.watch(model) as routed:
        model(tokens)
    if logits[0].shape[-1] != EXPERTS:
        pytest.skip("this transformers returns no logits here")
    scores = logits[0].double().sigmoid()
    rows = scores / scores.sum(dim=-1, keepdim=True)
    layer = next(iter(routed.layers.values()))
    np.testing.assert_allclose(layer.probabilities, rows.mean(dim=0), rtol=1e-6)


@torch.no_grad()
def test_logits_alone_need_top_k_and_a_router_elsewhere_a_name(tokens):
    from transformers import JetMoeConfig, JetMoeForCausalLM

    torch.manual_seed(3)
    sizes = {k: routers.SMALL[k] for k in ("vocab_size", "hidden_size", "intermediate_size")}
    sizes |= {"num_hidden_layers": 2, "num_key_value_heads": 2, "kv_channels": 8}
    model = JetMoeForCausalLM(
        JetMoeConfig(**sizes, num_local_experts=4, num_experts_per_tok=K)
    ).eval()
    with pytest.raises(Unmeasured, match="name it: watch"):
        routing.watch(model)
    with pytest.raises(BadSetting, match=r"mlp\.router"):
        routing.watch(model, ["model.layers.0.mlp.ruoter"])
    sizes = []
    for layer in model.model.layers:
        layer.mlp.router.register_forward_hook(lambda m, args, output: sizes.append(output[3]))
    with routing.watch(model, ["model.layers.*.mlp.router"]) as routed:
        model(tokens)
    for layer, own in zip(routed.layers.values(), sizes, strict=True):
        np.testing.assert_array_equal(layer.counts, own)


@pytest.mark.filterwarnings("ignore::pytest_vdb.errors.RoutingWarning")
@torch.no_grad()
def test_a_full_expert_drops_tokens(tokens):
    from transformers import SwitchTransformersConfig, SwitchTransformersModel

    torch.manual_seed(3)
    sizes = {"vocab_size": 99, "d_model": 32, "d_kv": 8, "d_ff": 32, "num_heads": 4}
    layers = {"num_layers": 2, "num_sparse_encoder_layers": 1}
    model = SwitchTransformersModel(
        SwitchTransformersConfig(
            **sizes, **layers, num_experts=EXPERTS, expert_capacity=80, router_bias=True
        )
    ).encoder.eval()
    router = next(m for n, m in model.named_modules() if n.endswith("mlp.router"))
    nn.init.zeros_(router.classifier.bias)
    rates = []
    for bias in (0.0, 1e4):
        router.classifier.bias[5] = bias
        with routing.watch(model) as routed:
            model(tokens.repeat(1, 2))
        (layer,) = routed.layers.values()
        assert layer.counts.max() <= 2 * 80
        assert layer.counts.sum() + layer.dropped == layer.tokens == 800
        rates.append(layer.score("token_drop_rate"))
    assert rates[1] == 640 / 800 > rates[0]  # two texts, 80 tokens of each
    with pytest.raises(errors.BadRouting, match=r"token_drop_rate 0\.8 is above 0\.1"):
        routed.check()


def test_a_diffusion_transformer():
    model = routers.hidream()
    plain = routers.denoise(model)
    experts = routers.processed(model, lambda: routers.denoise(model))
    with routing.watch(model) as routed:
        assert torch.equal(routers.denoise(model), plain)
    assert routers.hooks_on(model) == 0
    assert len(routed.layers) == 2
    for path, layer in routed.layers.items():
        np.testing.assert_array_equal(layer.counts, experts[path.removesuffix(".gate")])
        with pytest.raises(Unmeasured, match="returns no logits"):
            layer.score("switch_loss")
    first = routed.layers["double_stream_blocks.0.block.ff_i.gate"].counts
    with routed:
        routers.denoise(model, seed=1)
    total = routed.layers["double_stream_blocks.0.block.ff_i.gate"]
    assert total.calls == 2
    assert total.counts.sum() == 2 * first.sum()


def test_probabilities_that_are_read_give_the_models_own_loss():
    model = routers.hidream()
    path = "double_stream_blocks.0.block.ff_i.gate"
    gate = model.get_submodule(path)
    inputs = []
    gate.register_forward_hook(lambda module, args, output: inputs.append(args[0]))
    with routing.watch(model, [Router(path, read=routers.hidream_scores)]) as routed:
        routers.denoise(model)
    gate.train()  # it tells its loss in training alone
    with torch.no_grad():
        own = float(gate(inputs[0])[2]) / gate.alpha
    assert routed.layers[path].score("switch_loss") == pytest.approx(own, rel=1e-5)


@torch.no_grad()
def test_experts_that_choose_tokens():
    diffusers = pytest.importorskip("diffusers")
    if not hasattr(diffusers, "NucleusMoEImageTransformer2DModel"):
        pytest.skip("this diffusers has no NucleusMoEImageTransformer2DModel")
    torch.manual_seed(0)
    model = diffusers.NucleusMoEImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=8,
        axes_dims_rope=(4, 6, 6),
        dense_moe_strategy="all_moe",
        num_experts=EXPERTS,
        moe_intermediate_dim=16,
        capacity_factors=1.5,
    ).eval()
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.1)
    random = torch.Generator().manual_seed(0)

    def run():
        return model(
            hidden_states=torch.randn(2, 64, 16, generator=random.manual_seed(0)),
            img_shapes=[(1, 8, 8)] * 2,
            encoder_hidden_states=torch.ones(2, 5, 8),
            encoder_hidden_states_mask=torch.ones(2, 5, dtype=torch.bool),
            timestep=torch.tensor([0.5, 0.5]),
            return_dict=False,
        )[0]

    plain = run()
    given, taken = [], []
    for block in model.transformer_blocks:
        moe = block.img_mlp
        moe.register_forward_pre_hook(lambda m, args: given.append(args[0].flatten(0, 1)))
        moe.experts.register_forward_pre_hook(lambda m, args: taken.append(args))
    with routing.watch(model) as routed:
        assert torch.equal(run(), plain)
    for layer, rows, (got, sizes) in zip(routed.layers.values(), given, taken, strict=True):
        np.testing.assert_array_equal(layer.counts, sizes)
        among = {row.numpy().tobytes() for row in got}
        left = sum(row.numpy().tobytes() not in among for row in rows)
        assert layer.dropped == left > 0
        assert layer.score("token_drop_rate") == left / 128


@pytest.fixture(scope="session")
def wan22():
    from pytest_vdb.models.twins.wan import tiny_wan22

    return tiny_wan22()


def generate(pipeline):
    return pipeline(
        prompt="a red ball",
        height=32,
        width=32,
        num_frames=5,
        num_inference_steps=4,
        guidance_scale=4.0,
        output_type="np",
        generator=torch.Generator().manual_seed(0),
    ).frames


def test_two_whole_experts_of_a_pipeline(wan22):
    plain = generate(wan22)
    with routing.watch(wan22) as routed:
        np.testing.assert_array_equal(generate(wan22), plain)
    high, low = (routed.steps[name].timesteps for name in ("transformer", "transformer_2"))
    assert len(high) + len(low) == 4
    assert min(high) >= 875 > max(low)  # boundary_ratio
    assert routed.steps["transformer"].calls == 2 * len(high)  # guidance
    assert routed.layers == {}
    routed.check()
    with pytest.raises(Unmeasured, match="none of transformer, transformer_2 ran"):
        routing.watch(wan22).check()
    with pytest.raises(Unmeasured, match="whole experts"):
        routed.score("gini")
    ratio = wan22.config.boundary_ratio
    wan22.register_to_config(boundary_ratio=0.0)
    try:
        with routing.watch(wan22) as routed:
            generate(wan22)
    finally:
        wan22.register_to_config(boundary_ratio=ratio)
    with pytest.raises(errors.BadRouting, match="transformer_2 had no step"):
        routed.check()
