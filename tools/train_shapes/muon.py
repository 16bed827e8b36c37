"""Muon: momentum whose update is made orthogonal, for matrices and convolutions.

Formula and constants: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/; torch's own
`torch.optim.Muon` takes matrices only. It halved the time to a given loss here.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Parameters of two or more dimensions; all but the first are flattened."""

    def __init__(
        self, params: Iterable[torch.nn.Parameter], lr: float, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                average = state.setdefault("average", torch.zeros_like(parameter))
                average.lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(average, group["momentum"])
                update = orthogonal(update.flatten(1))
                rows, columns = update.shape
                scale = max(1, rows / columns) ** 0.5
                parameter.add_(update.view_as(parameter), alpha=-group["lr"] * scale)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """Newton-Schulz: about the nearest matrix whose singular values are 1."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    a, b, c = QUINTIC
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


class Both:
    """Muon for ``matrices``, AdamW for the rest, one schedule: warm-up, then cosine to zero."""

    def __init__(
        self,
        matrices: list[torch.nn.Parameter],
        rest: list[torch.nn.Parameter],
        steps: int,
        muon: float,
        adam: float,
        warmup: int = 30,
    ) -> None:
        self._optimisers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(rest, adam, betas=(0.9, 0.98), weight_decay=0)
        ]
        if matrices:
            self._optimisers.append(Muon(matrices, muon))

        def factor(step: int) -> float:
            decay = 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * step / steps))))
            return min((step + 1) / warmup, 1) * decay

        self._schedules = [
            torch.optim.lr_scheduler.LambdaLR(optimiser, factor) for optimiser in self._optimisers
        ]

    def step(self, loss: torch.Tensor) -> None:
        """One update from ``loss``; gradients are clipped to norm 1."""
        parameters = [
            p for opt in self._optimisers for group in opt.param_groups for p in group["params"]
        ]
        for parameter in parameters:
            parameter.grad = None
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimiser, schedule in zip(self._optimisers, self._schedules, strict=True):
            optimiser.step()
            schedule.step()


def averaged(model: torch.nn.Module, decay: float) -> torch.optim.swa_utils.AveragedModel:
    """An exponential moving average of ``model``'s weights."""
    return torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(decay)
    )
