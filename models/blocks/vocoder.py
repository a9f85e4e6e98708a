"""The vocoders of AudioDec: HiFi-GAN generators (arXiv:2010.05646) made causal, from latent frames to a waveform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from codecbench.models.blocks.causal import HeldConvTranspose1d
from codecbench.models.blocks.conv import Conv1d, ConvStyle

STYLE = ConvStyle("weight", causal=True, padding="constant")
SLOPE = 0.1
DILATIONS = (1, 3, 5)


@dataclass(frozen=True)
class Vocoder:
    """The shape of a generator.

    Attributes:
        dimension: Channels of the latent frames.
        width: Channels after the first convolution; halved at every stride.
        strides: From the latent frames outwards.
        kernel_sizes: Of the residual blocks after each stride, whose outputs are averaged.
        groups: With more than one, a single block runs on so many copies of its input, each in a group of its own,
            and mixes them at the end.
    """

    dimension: int = 64
    width: int = 512
    strides: tuple[int, ...] = (5, 5, 4, 3)
    kernel_sizes: tuple[int, ...] = (3, 7, 11)
    groups: int = 1


class ResidualBlock(nn.Module):
    """Pairs of convolutions, a dilated one and a plain one, each pair added to its input ``[B, C, T]``."""

    def __init__(self, channels: int, kernel_size: int, groups: int = 1) -> None:
        super().__init__()

        def conv(dilation: int) -> Conv1d:
            return Conv1d(channels, channels, kernel_size, dilation=dilation, groups=groups, style=STYLE)

        self.dilated = nn.ModuleList(conv(dilation) for dilation in DILATIONS)
        self.plain = nn.ModuleList(conv(1) for _ in DILATIONS)
        self.activation = nn.LeakyReLU(SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        """Run over `x`."""
        for dilated, plain in zip(self.dilated, self.plain, strict=True):
            x = plain(self.activation(dilated(self.activation(x)))) + x
        return x


class GroupedBlock(ResidualBlock):
    """A residual block on `groups` copies of its input side by side, mixed back to ``[B, C, T]``."""

    def __init__(self, channels: int, kernel_size: int, groups: int) -> None:
        super().__init__(groups * channels, kernel_size, groups)
        self.groups = groups
        self.mix = Conv1d(groups * channels, channels, 1, bias=False, style=STYLE)

    def forward(self, x: Tensor) -> Tensor:
        """Run over `x`."""
        return cast("Tensor", self.mix(super().forward(x.repeat(1, self.groups, 1))))


class Mean(nn.Module):
    """The mean of what several modules make of one input."""

    def __init__(self, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """Run all on `x`."""
        total = torch.zeros((), device=x.device)
        for branch in self.branches:
            total = total + branch(x)
        return total / len(self.branches)


class Generator(nn.Module):
    """Frames ``[B, D, F]`` to waveform ``[B, 1, F * hop]`` in [-1, 1]."""

    def __init__(self, net: Vocoder) -> None:
        super().__init__()
        self.first = Conv1d(net.dimension, net.width, 7, style=STYLE)
        self.ups, self.blocks = nn.ModuleList(), nn.ModuleList()
        width = net.width
        for stride in net.strides:
            self.ups.append(HeldConvTranspose1d(width, width // 2, 2 * stride, stride=stride, style=STYLE))
            width //= 2
            self.blocks.append(_block(width, net))
        self.last = Conv1d(width, 1, 7, style=STYLE)
        self.activation = nn.LeakyReLU(SLOPE)
        self.last_activation = nn.LeakyReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Decode `x` ``[B, D, F]``."""
        x = self.first(x)
        for up, block in zip(self.ups, self.blocks, strict=True):
            x = block(up(self.activation(x)))
        return torch.tanh(self.last(self.last_activation(x)))


def _block(channels: int, net: Vocoder) -> nn.Module:
    if net.groups > 1:
        (kernel_size,) = net.kernel_sizes
        return GroupedBlock(channels, kernel_size, net.groups)
    return Mean([ResidualBlock(channels, kernel_size) for kernel_size in net.kernel_sizes])
