"""What a router returned, read: which experts each token goes to, and with which probabilities."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pytest_vdb.errors import Unmeasured

if TYPE_CHECKING:
    from pytest_vdb.metrics.router_watch import Router

EXPERTS = (
    *("num_experts", "n_routed_experts", "num_routed_experts", "num_local_experts"),
    *("moe_num_experts", "out_features"),
)
TOP_K = ("top_k", "topk", "num_experts_per_tok", "num_activated_experts", "moe_top_k")
UNSEEN = (
    *("n_group", "num_group", "topk_group", "e_score_correction_bias", "moe_statics"),
    *("expert_bias", "expert_capacity"),
)
"""Attributes of a block that chooses otherwise than by the largest logits."""

Routing = tuple[torch.Tensor, torch.Tensor | None]
Taken = Callable[
    [list[torch.Tensor]], tuple[torch.Tensor | None, Callable[[torch.Tensor], torch.Tensor]]
]


class Reader:
    """Turns what ``module`` returns into (chosen, probabilities), of T tokens each.

    chosen: integers (T, k), or bool (T, E); probabilities: (T, E) or None, and then ``why``.
    Raises Unmeasured, also when it is made, where the router cannot be read.
    """

    def __init__(self, router: Router, module: nn.Module, parent: nn.Module | None) -> None:
        block = None if parent is None else getattr(parent, "experts", None)
        self.router = router
        self.why = ""
        self.experts = router.experts or _experts(module, block, parent)
        self.top_k = router.top_k or _top_k(module, parent)
        owners = (module, parent)
        self.unseen = [name for name in UNSEEN for owner in owners if hasattr(owner, name)]
        self.capacity = router.capacity_factor
        if not self.capacity and not self.top_k:  # with a top_k it is a limit, not who chooses
            self.capacity = _number(parent, ("capacity_factor",), float)
        self.score = router.score
        if not self.score and getattr(parent, "use_sigmoid", False):
            self.score = "sigmoid"
        self.kept: dict[str, Any] = {}  # what the first call decided: to look means to wait
        if not self.experts:
            raise Unmeasured("how many experts there are is not told; give Router(experts=...)")

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Routing:
        if self.router.read is not None:
            self.why = "Router(read=...) gave no probabilities"
            return _checked(self.router.read(module, args, output), self.experts)
        floats = [t for t in _tensors(output) if t.is_floating_point()]
        wide = [t for t in floats if t.dim() > 1 and t.shape[-1] == self.experts]
        if self.capacity:
            return self._by_experts(wide)
        flat = [t.reshape(-1, t.shape[-1]) for t in wide]
        sparse = self._once("sparse", lambda: _sparse(flat, self.top_k))
        logits = [t for index, t in enumerate(flat) if index != sparse]
        chosen = self._chosen(output, flat, sparse, logits)
        if not logits:
            self.why = "the router returns no logits; give Router(read=...) that makes them"
            return chosen, None
        weights = partial(_weights, chosen, None if sparse is None else flat[sparse])
        return chosen, self._probabilities(logits[0], floats, weights)

    def _chosen(
        self, output: Any, flat: list[torch.Tensor], sparse: int | None, logits: list[torch.Tensor]
    ) -> torch.Tensor:
        whole = [t for t in _tensors(output) if not t.is_floating_point() and t.dim() > 1]
        rows = [t.reshape(-1, t.shape[-1]) for t in whole]
        if rows and (rows[0].shape[-1] == self.top_k or rows[0].shape[-1] != self.experts):
            return rows[0]
        if sparse is not None:
            return flat[sparse] != 0
        if rows:
            return rows[0] != 0
        if not logits:
            raise Unmeasured(
                f"it returns neither experts nor logits of {self.experts} experts, but "
                f"{_shapes(output)}; give Router(read=...)"
            )
        if not self.top_k or self.unseen:
            also = f", and {self.unseen[0]} says that not the largest win" if self.unseen else ""
            raise Unmeasured(
                f"it returns logits alone{also}; give Router(top_k=...), or Router(read=...) that "
                "chooses as the model does"
            )
        return logits[0].topk(self.top_k, dim=-1).indices

    def _probabilities(
        self, logits: torch.Tensor, floats: list[torch.Tensor], taken: Taken
    ) -> torch.Tensor | None:
        def decide() -> str:
            if not self.score and _sums_to_one(logits):
                return "given"
            return self.score or _agreeing(logits, *taken(floats))

        score = self._once("score", decide)
        if not score:
            self.why = (
                "its weights are neither a softmax nor a sigmoid of its logits; give "
                "Router(score=...) or Router(read=...)"
            )
            return None
        return logits.float() if score == "given" else _normal(logits, score)

    def _by_experts(self, wide: list[torch.Tensor]) -> Routing:
        """Each expert takes its share of a sequence: the tokens that score highest with it."""
        if not wide or wide[0].dim() != 3:
            raise Unmeasured("experts that choose tokens need logits (batch, tokens, experts)")
        logits = wide[0]
        scores = _scores(logits, self.score or "softmax").to(logits.dtype).transpose(1, 2)
        share = max(1, math.ceil(self.capacity * logits.shape[1] / self.experts))
        taken = scores.topk(min(share, logits.shape[1]), dim=-1).indices
        mask = torch.zeros(scores.shape, dtype=torch.bool, device=logits.device)
        mask = mask.scatter(2, taken, True).transpose(1, 2).reshape(-1, self.experts)
        return mask, _normal(logits.reshape(-1, self.experts), self.score or "softmax")

    def _once(self, name: str, decide: Callable[[], Any]) -> Any:
        if name not in self.kept:
            self.kept[name] = decide()
        return self.kept[name]


def _checked(read: Routing, experts: int) -> Routing:
    chosen, probabilities = read
    chosen = chosen.reshape(-1, chosen.shape[-1])
    if chosen.is_floating_point() or (chosen.dtype == torch.bool and chosen.shape[1] != experts):
        raise Unmeasured(
            f"read gave {chosen.dtype} {tuple(chosen.shape)}; give int (tokens, k) or bool "
            f"(tokens, {experts})"
        )
    if probabilities is None:
        return chosen, None
    return chosen, probabilities.reshape(-1, experts).float()


def _sparse(flat: list[torch.Tensor], top_k: int) -> int | None:
    """Which of several (T, E) tensors holds the weights of the chosen experts, and 0 elsewhere."""
    if len(flat) < 2 or not top_k:
        return None
    for index, rows in enumerate(flat):
        most = int((rows != 0).sum(dim=-1).max()) if rows.numel() else 0
        if 0 < most <= top_k < rows.shape[-1]:
            return index
    return None


def _weights(
    chosen: torch.Tensor, sparse: torch.Tensor | None, floats: list[torch.Tensor]
) -> tuple[torch.Tensor | None, Callable[[torch.Tensor], torch.Tensor]]:
    """The weights of the chosen experts, if returned, and how to pick those of (T, E)."""
    if sparse is not None:
        return sparse, lambda scores: scores * (sparse != 0)
    rows = [t.reshape(-1, t.shape[-1]) for t in floats if t.dim() > 1]
    same = [t for t in rows if t.shape == chosen.shape and chosen.dtype != torch.bool]
    return (same[0] if same else None), lambda scores: scores.gather(-1, chosen.long())


def _agreeing(
    logits: torch.Tensor,
    weights: torch.Tensor | None,
    pick: Callable[[torch.Tensor], torch.Tensor],
) -> str:
    """The score that the weights are, or are a multiple of row by row; empty if it is another.

    Softmax where nothing tells: there are no weights, or each token has one expert of weight 1.
    """
    if weights is None:
        return "softmax"
    ours = weights.float()
    rounding = max(1e-5, 2 * torch.finfo(weights.dtype).eps)
    several = int((ours != 0).sum(dim=-1).max()) > 1
    if not several and bool(((ours == 0) | (ours == 1)).all()):
        return "softmax"
    for score in ("softmax", "sigmoid"):
        theirs = pick(_scores(logits, score))
        pairs = [(ours, theirs), (_parts(ours), _parts(theirs))][: 1 + several]
        if any(torch.allclose(a, b, atol=rounding, rtol=0.0) for a, b in pairs):
            return score
    return ""


def _parts(rows: torch.Tensor) -> torch.Tensor:
    return rows / rows.sum(dim=-1, keepdim=True).clamp_min(1e-20)


def _scores(logits: torch.Tensor, score: str) -> torch.Tensor:
    return logits.float().sigmoid() if score == "sigmoid" else logits.float().softmax(dim=-1)


def _normal(logits: torch.Tensor, score: str) -> torch.Tensor:
    return _parts(_scores(logits, score))


def _sums_to_one(rows: torch.Tensor) -> bool:
    sums = rows.float().sum(dim=-1)
    return bool((rows >= 0).all()) and bool((sums - 1).abs().max() < 0.02)


def _tensors(output: Any) -> Iterator[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, dict):
        yield from (t for part in output.values() for t in _tensors(part))
    elif isinstance(output, list | tuple):
        yield from (t for part in output for t in _tensors(part))


def _shapes(output: Any) -> str:
    return ", ".join(f"{t.dtype} {tuple(t.shape)}" for t in _tensors(output)) or "no tensor"


def _experts(module: nn.Module, block: Any, parent: nn.Module | None) -> int:
    if isinstance(block, nn.ModuleList | nn.ModuleDict):
        return _number(module, EXPERTS) or len(block)
    return _number(module, EXPERTS) or _number(block, EXPERTS) or _number(parent, EXPERTS)


def _top_k(module: nn.Module, parent: nn.Module | None) -> int:
    named = re.search(r"[Tt]op(\d)", type(module).__name__)
    return _number(module, TOP_K) or _number(parent, TOP_K) or (int(named[1]) if named else 0)


def _number(owner: object, names: tuple[str, ...], kind: Any = int) -> Any:
    for name in names:
        value = getattr(owner, name, None)
        if isinstance(value, int | kind) and not isinstance(value, bool) and value > 0:
            return value
    return kind(0)
