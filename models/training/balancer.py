"""The balancer of EnCodec (arXiv:2210.13438, section 3.4): a loss weighs by its share of the gradient, at any scale."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Balancer:
    """Combines the gradients of losses on a codec's output.

    Each gradient is divided by a moving average of its norm, and multiplied by its weight's share of all weights.

    Args:
        weights: By the names of the losses.
        decay: Of the averages, for each step. They are corrected for their start.
        norm: What the norms add up to.
    """

    def __init__(self, weights: Mapping[str, float], *, decay: float = 0.999, norm: float = 1.0) -> None:
        self.weights, self.decay, self.norm = dict(weights), decay, norm
        self.sums: dict[str, float] = {}
        self.counts: dict[str, float] = {}

    def gradient(self, losses: Mapping[str, Tensor], output: Tensor) -> Tensor:
        """What to pass back from `output` ``[B, C, T]`` for `losses`, which were computed from it.

        A norm is the mean over the examples of a batch of their own. The graph is kept. Only the losses that are given
        share the weight: a loss that starts later takes nothing away before.
        """
        total = torch.zeros_like(output)
        weights = sum(self.weights[name] for name in losses)
        for name, loss in losses.items():
            (gradient,) = torch.autograd.grad(loss, [output], retain_graph=True)
            norm = self._average(name, float(gradient.flatten(1).norm(dim=1).mean()))
            total += self.weights[name] / weights * self.norm / (norm + 1e-12) * gradient
        return total

    def _average(self, name: str, norm: float) -> float:
        self.sums[name] = self.decay * self.sums.get(name, 0.0) + norm
        self.counts[name] = self.decay * self.counts.get(name, 0.0) + 1
        return self.sums[name] / self.counts[name]

    def state(self) -> dict[str, dict[str, float]]:
        """What `restore` needs to go on from here."""
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def restore(self, state: Mapping[str, Mapping[str, float]]) -> None:
        """Go on from a `state`."""
        self.sums, self.counts = dict(state["sums"]), dict(state["counts"])
