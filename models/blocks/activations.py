"""Activations with parameters of their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Snake(nn.Module):
    """``x + sin(alpha x)² / alpha`` with a learnt `alpha` a channel, for periodic signals (arXiv:2006.08195)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Activate `x` ``[B, C, T]``."""
        # The small term and the order of the operations are those of the released DAC, and of codecs derived from it.
        # In place: on long clips, fresh memory costs more than the arithmetic.
        y = self.alpha * x
        return y.sin_().pow_(2).mul_((self.alpha + 1e-9).reciprocal()).add_(x)
