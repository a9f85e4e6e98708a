"""The recurrent block between the convolutions and the quantiser."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn


class SkipLSTM(nn.Module):
    """An LSTM over time with its input added to its output; ``[B, C, F]`` in and out.

    A bidirectional one has ``2 C`` channels out, first those of the forward direction: its input is added to both.
    """

    def __init__(self, channels: int, layers: int, *, bidirectional: bool = False) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, layers, bidirectional=bidirectional)

    def forward(self, x: Tensor) -> Tensor:
        """Run over `x` ``[B, C, F]`` from a zero state."""
        x = x.permute(2, 0, 1).contiguous()  # oneDNN's LSTM misreads strides where there are several in a batch
        skip = x.repeat(1, 1, 2) if self.lstm.bidirectional else x
        return cast("Tensor", (self.lstm(x)[0] + skip).permute(1, 2, 0))
