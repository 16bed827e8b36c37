"""The routing metrics as `torchmetrics.Metric`: counts over many batches and processes.

One instance is one layer's: the counts of several layers, added up, hide one that collapsed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torchmetrics import Metric

from pytest_vdb.errors import Unmeasured
from pytest_vdb.metrics import routing


class _Routing(Metric):
    is_differentiable = False
    full_state_update = False

    def _sum(self, name: str, *shape: int, dtype: torch.dtype = torch.int64) -> None:
        self.add_state(name, default=torch.zeros(shape, dtype=dtype), dist_reduce_fx="sum")


class _OfCounts(_Routing):
    """A metric of the assignments of one layer's ``experts`` experts."""

    compute_from: ClassVar[Callable[..., float]]
    counts: torch.Tensor

    def __init__(self, experts: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._sum("counts", experts)

    def update(self, counts: Any) -> None:
        """Add (E,) assignments, integers."""
        self.counts += torch.as_tensor(counts, device=self.counts.device)

    def compute(self) -> torch.Tensor:
        """float64, no dimensions. Raises Unmeasured where nothing was assigned."""
        value = type(self).compute_from(self.counts.cpu().numpy())
        return torch.tensor(value, dtype=torch.float64)


class UtilisationCv(_OfCounts):
    """`routing.utilisation_cv`."""

    higher_is_better = False
    compute_from = staticmethod(routing.utilisation_cv)


class Gini(_OfCounts):
    """`routing.gini`."""

    higher_is_better = False
    compute_from = staticmethod(routing.gini)


class RoutingEntropy(_OfCounts):
    """`routing.routing_entropy`."""

    higher_is_better = True
    compute_from = staticmethod(routing.routing_entropy)


class UnusedExperts(_OfCounts):
    """`routing.unused_experts`."""

    higher_is_better = False
    compute_from = staticmethod(routing.unused_experts)


class TokenDropRate(_Routing):
    """`routing.token_drop_rate`."""

    higher_is_better = False
    dropped: torch.Tensor
    tokens: torch.Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._sum("dropped")
        self._sum("tokens")

    def update(self, dropped: int, tokens: int) -> None:
        """Add ``tokens`` tokens, of which no expert took ``dropped``."""
        self.dropped += dropped
        self.tokens += tokens

    def compute(self) -> torch.Tensor:
        """float64, no dimensions. Raises Unmeasured where there was no token."""
        value = routing.token_drop_rate(int(self.dropped), int(self.tokens))
        return torch.tensor(value, dtype=torch.float64)


class SwitchLoss(_Routing):
    """`routing.switch_loss`."""

    higher_is_better = False
    counts: torch.Tensor
    probabilities: torch.Tensor
    tokens: torch.Tensor

    def __init__(self, experts: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._sum("counts", experts)
        self._sum("probabilities", experts, dtype=torch.float64)
        self._sum("tokens")

    def update(self, counts: Any, probabilities: Any) -> None:
        """Add (E,) assignments and the probabilities of each token, (T, E)."""
        rows = torch.as_tensor(probabilities, device=self.counts.device)
        self.counts += torch.as_tensor(counts, device=self.counts.device)
        self.probabilities += rows.double().sum(dim=0)
        self.tokens += len(rows)

    def compute(self) -> torch.Tensor:
        """float64, no dimensions. Raises Unmeasured where nothing was assigned."""
        mean = (self.probabilities / self.tokens).cpu().numpy()
        value = routing.switch_loss(self.counts.cpu().numpy(), mean)
        return torch.tensor(value, dtype=torch.float64)


class TokenEntropy(_Routing):
    """`routing.token_entropy`."""

    higher_is_better = None
    entropy: torch.Tensor
    tokens: torch.Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._sum("entropy", dtype=torch.float64)
        self._sum("tokens")

    def update(self, probabilities: Any) -> None:
        """Add the probabilities of each token, (T, E)."""
        rows = torch.as_tensor(probabilities)
        value = routing.token_entropy(rows.detach().double().cpu().numpy())
        self.entropy += value * len(rows)
        self.tokens += len(rows)

    def compute(self) -> torch.Tensor:
        """float64, no dimensions. Raises Unmeasured where there was no token."""
        if not self.tokens:
            raise Unmeasured("token_entropy: no token yet; call update() first")
        return self.entropy / self.tokens
