"""Tiny mixture-of-experts models with random weights: real architectures, and what they run."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

EXPERTS, K = 8, 2

SMALL = {
    "vocab_size": 99,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "num_experts_per_tok": K,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def causal(name, **config):
    """A model of that name, with routers that prefer some experts."""
    import transformers

    torch.manual_seed(3)
    config = getattr(transformers, f"{name}Config")(**SMALL | config)
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    for path, weight in model.named_parameters():
        if "gate.weight" in path or "router" in path:
            nn.init.normal_(weight, std=0.3)
    return model


MODELS = {
    "Mixtral": {"num_local_experts": EXPERTS},
    "Olmoe": {"num_experts": EXPERTS, "norm_topk_prob": True},
    "GptOss": {"num_local_experts": EXPERTS, "head_dim": 8, "sliding_window": 16},
    "DeepseekV3": {  # a sigmoid, experts in groups, and a bias on the choice alone
        "n_routed_experts": EXPERTS,
        "n_group": 2,
        "topk_group": 1,
        "moe_intermediate_size": 32,
        "first_k_dense_replace": 0,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 8,
        "head_dim": 8,
    },
}


def words(seed=1):
    return torch.randint(3, 99, (2, 200), generator=torch.Generator().manual_seed(seed))


def processed(model, run):
    """By block, how many tokens each expert was called with, from the experts' own inputs."""
    seen, hooks = {}, []
    for path, block in model.named_modules():
        if not path.endswith(".experts"):
            continue
        counts = seen[path.removesuffix(".experts")] = np.zeros(
            len(block) if isinstance(block, nn.ModuleList) else EXPERTS, dtype=int
        )
        if isinstance(block, nn.ModuleList):
            for index, expert in enumerate(block):

                def alone(module, args, counts=counts, index=index):
                    counts[index] += len(args[0])

                hooks.append(expert.register_forward_pre_hook(alone))
        else:

            def together(module, args, kwargs, counts=counts):
                chosen = next(a for a in (*args, *kwargs.values()) if a.dtype == torch.int64)
                counts += np.bincount(chosen.flatten(), minlength=len(counts))

            hooks.append(block.register_forward_pre_hook(together, with_kwargs=True))
    run()
    for hook in hooks:
        hook.remove()
    return seen


def hooks_on(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def hidream():
    from diffusers import HiDreamImageTransformer2DModel

    torch.manual_seed(0)
    return HiDreamImageTransformer2DModel(
        patch_size=2,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        caption_channels=[8, 8],
        text_emb_dim=8,
        num_routed_experts=4,
        num_activated_experts=K,
        axes_dims_rope=(8, 4, 4),
        max_resolution=(32, 32),
        llama_layers=[0, 1],
    ).eval()


def denoise(model, seed=0):
    random = torch.Generator().manual_seed(seed)

    def noise(*shape):
        return torch.randn(shape, generator=random)

    with torch.no_grad():
        return model(
            hidden_states=noise(2, 4, 32, 32),
            timesteps=torch.tensor([500, 500]),
            encoder_hidden_states_t5=noise(2, 8, 8),
            encoder_hidden_states_llama3=noise(2, 2, 8, 8),
            pooled_embeds=noise(2, 8),
            return_dict=False,
        )[0]


def hidream_scores(gate, inputs, output):
    rows = inputs[0].reshape(-1, inputs[0].shape[-1])
    return output[0], nn.functional.linear(rows, gate.weight).softmax(dim=-1)
