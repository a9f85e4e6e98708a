"""Multi-receptive-field fusion, the residual blocks of HiFi-GAN (arXiv:2010.05646, section 2.2) and its relatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn.utils import parametrizations

from codecbench.models.blocks.conv import symmetric_padding

SLOPE = 0.1
"""Of the leaky ReLU before every convolution."""


def same_conv(inputs: int, outputs: int, kernel_size: int, dilation: int = 1) -> nn.Module:
    """A weight-normalised convolution ``[B, C, T]`` to ``[B, C', T]``, with zeros on both sides alike."""
    padding = symmetric_padding(kernel_size, dilation=dilation)
    conv = nn.Conv1d(inputs, outputs, kernel_size, padding=padding, dilation=dilation)
    return cast("nn.Module", parametrizations.weight_norm(conv))


Conv = Callable[[int, int, int, int], nn.Module]
"""Makes a convolution like `same_conv`, of the same arguments."""


class ResidualStack(nn.Module):
    """For each dilation: a dilated and a plain convolution, whose result is added to what came in. ``[B, C, T]``."""

    def __init__(self, channels: int, kernel_size: int, dilations: Sequence[int], conv: Conv = same_conv) -> None:
        super().__init__()
        self.dilated = nn.ModuleList(conv(channels, channels, kernel_size, each) for each in dilations)
        self.plain = nn.ModuleList(conv(channels, channels, kernel_size, 1) for _ in dilations)
        self.activation = nn.LeakyReLU(SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        """Pass `x` ``[B, C, T]`` through every pair of convolutions."""
        for dilated, plain in zip(self.dilated, self.plain, strict=True):
            hidden = dilated(self.activation(x))
            x = plain(self.activation(hidden)).add_(x)
        return x


class MultiReceptiveField(nn.Module):
    """The mean of residual stacks of different kernel sizes. ``[B, C, T]`` in and out.

    With `channels_per_group`, the sum is normalised in groups of so many channels after every stack is added to it:
    the running sum, not each stack by itself, as HiFi-Codec's encoder does.
    """

    def __init__(
        self,
        channels: int,
        kernel_sizes: Sequence[int],
        dilations: Sequence[int],
        channels_per_group: int | None = None,
        conv: Conv = same_conv,
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(ResidualStack(channels, size, dilations, conv) for size in kernel_sizes)
        self.norms = nn.ModuleList(
            nn.GroupNorm(channels // channels_per_group, channels, eps=1e-6) if channels_per_group else nn.Identity()
            for _ in kernel_sizes
        )

    def forward(self, x: Tensor) -> Tensor:
        """Average the stacks' results for `x` ``[B, C, T]``."""
        total: Tensor | None = None
        for branch, norm in zip(self.branches, self.norms, strict=True):
            total = norm(branch(x) if total is None else branch(x).add_(total))
        return cast("Tensor", total).div_(len(self.branches))
