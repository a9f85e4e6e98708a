"""What all discriminators share. They stand in `discriminators_wave` and `discriminators_spectral`.

Each is a module that takes waveforms ``[B, C, T]`` and returns a `Verdict` for every scale, period or resolution of it.
The constructors' defaults are the published shapes; `width` makes any of them smaller.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple, cast

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations


class Verdict(NamedTuple):
    """What one part of a discriminator says: `logits`, high for real, and the `features` of its hidden layers."""

    logits: Tensor
    features: list[Tensor]


Norm = Literal["weight", "spectral", "none"]
"""How a convolution's weight is normalised."""


def normalised(conv: nn.Module, norm: Norm = "weight") -> nn.Module:
    """`conv` with its weight normalised."""
    if norm == "none":
        return conv
    make = parametrizations.weight_norm if norm == "weight" else parametrizations.spectral_norm
    return cast("nn.Module", make(conv))


class Stack(nn.Module):
    """Convolutions, each with a leaky ReLU, and a last one for the logits."""

    def __init__(self, hidden: Iterable[nn.Module], last: nn.Module, slope: float) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(hidden)
        self.last = last
        self.slope = slope

    def forward(self, x: Tensor) -> Verdict:
        """Judge `x`, in the layout of the convolutions."""
        features = []
        for conv in self.hidden:
            x = functional.leaky_relu(conv(x), self.slope)
            features.append(x)
        return Verdict(self.last(x), features)


class Jury(nn.Module):
    """Several discriminators as one.

    With `levelled`, they hear every clip without its mean and at a peak of 0.8, as DAC's do.
    """

    def __init__(self, *members: nn.Module, levelled: bool = False) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.levelled = levelled

    def forward(self, x: Tensor) -> list[Verdict]:
        """Judge `x` ``[B, C, T]``: the verdicts of all members, one after another."""
        if self.levelled:
            x = x - x.mean(dim=-1, keepdim=True)
            x = 0.8 * x / (x.abs().amax(dim=-1, keepdim=True) + 1e-9)
        return [verdict for member in self.members for verdict in member(x)]
