"""Causal convolutions whose frames stand at the first sample of their stride, as in AudioDec.

`Conv1d` in a causal style lets frame ``f`` see its whole stride; here it sees no sample after ``f * stride``. Without
a stride the two are equal.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor

from codecbench.models.blocks.conv import Conv1d, ConvTranspose1d, pad


class EarlyConv1d(Conv1d):
    """A convolution ``[B, C, T]`` to ``[B, C', ceil(T / stride)]``: zeros for what is before the first sample."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `x` ``[B, C, T]``, ``T`` at least 1."""
        return cast("Tensor", self.norm(self.conv(pad(x, self.padding + self.stride - 1, 0, "constant"))))


class HeldConvTranspose1d(ConvTranspose1d):
    """A transposed convolution ``[B, C, F]`` to ``[B, C', F * stride]``: the first frame is also the one before it."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `x` ``[B, C, F]``."""
        return super().forward(pad(x, 1, 0, "replicate"))[..., self.stride :]
