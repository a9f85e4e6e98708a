"""Muon, an optimiser for matrices: momentum whose singular values are made equal.

Keller Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024). A step has a size of its own,
whatever the gradient's, and moves all directions alike; Adam's moves mostly the few in which gradients agree. PyTorch's
own is for matrices of two dimensions alone; kernels are matrices too, a row an output channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the odd polynomial that brings singular values near 1 when it is applied five times."""
ITERATIONS = 5
MOMENTUM = 0.9
REST = 0.1
"""The learning rate of what is no matrix, for that of matrices being 1."""


def matrices(*modules: nn.Module) -> list[nn.Parameter]:
    """The parameters of `modules` that are matrices: kernels and recurrences, no biases, no lengths of kernels."""
    found = (parameter for module in modules for parameter in module.parameters())
    return [p for p in found if p.ndim >= 2 and min(p.shape[0], p[0].numel()) > 1]


class Muon(torch.optim.Optimizer):
    """Muon for `matrices`, Adam with `betas` for what else is in `parameters`."""

    def __init__(
        self, matrices: Sequence[nn.Parameter], parameters: Sequence[nn.Parameter], rate: float,
        betas: tuple[float, float],
    ) -> None:  # fmt: skip
        chosen = {id(parameter) for parameter in matrices}
        rest = [parameter for parameter in parameters if id(parameter) not in chosen]
        super().__init__([{"params": list(matrices)}, {"params": rest}], {"lr": rate, "betas": betas})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002 - torch's signature
        """Follow the gradients."""
        for group, move in zip(self.param_groups, (_turn, _adapt), strict=True):
            for parameter in group["params"]:
                if parameter.grad is not None:
                    move(parameter, parameter.grad, self.state[parameter], group)


def equalised(matrix: Tensor) -> Tensor:
    """`matrix` ``[M, N]`` with singular values between about 0.7 and 1.2, by Newton's and Schulz's iteration."""
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x: Tensor = matrix / (matrix.norm() + 1e-7)
    x = x.t() if tall else x
    for _ in range(ITERATIONS):
        square = x @ x.t()
        x = a * x + (b * square + c * square @ square) @ x
    return x.t() if tall else x


def _turn(parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    momentum = state.setdefault("momentum", torch.zeros_like(parameter))
    momentum.lerp_(gradient, 1 - MOMENTUM)
    ahead = gradient.lerp(momentum, MOMENTUM).flatten(1)
    size = group["lr"] * max(1.0, ahead.shape[0] / ahead.shape[1]) ** 0.5
    parameter.add_(equalised(ahead).view_as(parameter), alpha=-size)


def _adapt(parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    first, second = (state.setdefault(name, torch.zeros_like(parameter)) for name in ("first", "second"))
    state["steps"] = steps = state.get("steps", 0) + 1
    one, other = group["betas"]
    first.lerp_(gradient, 1 - one)
    second.lerp_(gradient.square(), 1 - other)
    scale = (second / (1 - other**steps)).sqrt() + 1e-8
    parameter.addcdiv_(first / (1 - one**steps), scale, value=-REST * group["lr"])
