"""The recurrent block between the convolutions and the quantiser."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn


class SkipLSTM(nn.Module):
    """A unidirectional LSTM over time with its input added to its output; ``[B, C, F]`` in and out."""

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, layers)

    def forward(self, x: Tensor) -> Tensor:
        """Run over `x` ``[B, C, F]`` from a zero state."""
        x = x.permute(2, 0, 1)
        return cast("Tensor", (self.lstm(x)[0] + x).permute(1, 2, 0))
