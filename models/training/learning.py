"""What every training has, of a codec or of a language model: an optimiser on its course, averages, randomness."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from codecbench.models.training.muon import Muon


@dataclass
class Learner:
    """Parameters that learn, their optimiser, and the largest norm of their gradient.

    AdamW, or Muon for those of them that are `matrices`.
    """

    parameters: list[nn.Parameter]
    rate: float
    betas: tuple[float, float]
    clip: float
    weight_decay: float = 0.01
    matrices: Sequence[nn.Parameter] = ()

    def __post_init__(self) -> None:
        self.optimiser: torch.optim.Optimizer
        if self.matrices:
            self.optimiser = Muon(self.matrices, self.parameters, self.rate, self.betas)
            return
        # No optimiser takes an empty list, and a recipe may have no discriminators.
        self.optimiser = torch.optim.AdamW(
            self.parameters or [torch.zeros(1)], self.rate, self.betas, weight_decay=self.weight_decay
        )

    def step(self, course: float) -> float:
        """Follow the gradient at `course` times the learning rate; return the gradient's norm, which may be none."""
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self.clip))
        if math.isfinite(norm):
            for group in self.optimiser.param_groups:
                group["lr"] = self.rate * course
            self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return norm


class Averages:
    """Moving averages of the parameters of `network`, which are what is kept in the end.

    Args:
        network: What learns.
        decay: Of the averages. At first they follow closely, so that the random weights are soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._network, self._decay = network, decay
        self.values = {name: value.detach().clone() for name, value in network.named_parameters()}

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """The step number `step` was made."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, value in self._network.named_parameters():
            self.values[name].lerp_(value, 1 - decay)

    def restore(self, values: Mapping[str, Tensor]) -> None:
        """Go on from `values`."""
        self.values = {name: values[name].to(value.device) for name, value in self.values.items()}

    @torch.no_grad()
    def put(self, network: nn.Module) -> None:
        """Give the averages to `network`, which is another one of the same kind or that which learns."""
        for name, parameter in network.named_parameters():
            parameter.copy_(self.values[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within, the network has its averaged parameters and is not in training."""
        kept = {name: value.detach().clone() for name, value in self._network.named_parameters()}
        self.put(self._network)
        self._network.eval()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self._network.named_parameters():
                    parameter.copy_(kept[name])


def course(step: int, steps: int, warm_up: int) -> float:
    """Part of the learning rate in `step` of `steps`: after `warm_up` steps of growth, along a cosine to a tenth."""
    growth = min(1.0, (step + 1) / max(1, warm_up))
    return growth * (0.55 + 0.45 * math.cos(math.pi * min(1.0, step / max(1, steps))))


@contextmanager
def seeded(seed: int, step: int) -> Iterator[torch.Generator]:
    """Within, torch's random state depends on `seed` and `step` alone, as the generator does."""
    mixed = (seed * 1_000_003 + step + 1) % (1 << 63)
    with torch.random.fork_rng():
        torch.manual_seed(mixed)
        yield torch.Generator().manual_seed(mixed)
