"""The vocoders of AudioDec: HiFi-GAN generators (arXiv:2010.05646) made causal, from latent frames to a waveform."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from codecbench.models.blocks.causal import HeldConvTranspose1d
from codecbench.models.blocks.conv import Conv1d, ConvStyle
from codecbench.models.blocks.mrf import SLOPE, MultiReceptiveField, ResidualStack

STYLE = ConvStyle("weight", causal=True, padding="constant")
DILATIONS = (1, 3, 5)


@dataclass(frozen=True)
class Vocoder:
    """The shape of a generator.

    Attributes:
        dimension: Channels of the latent frames.
        width: Channels after the first convolution; halved at every stride.
        strides: From the latent frames outwards.
        kernel_sizes: Of the residual stacks after each stride, whose outputs are averaged.
        groups: With more than one, a single stack runs on so many copies of its input, each in a group of its own,
            and mixes them at the end.
    """

    dimension: int = 64
    width: int = 512
    strides: tuple[int, ...] = (5, 5, 4, 3)
    kernel_sizes: tuple[int, ...] = (3, 7, 11)
    groups: int = 1


def _conv(inputs: int, outputs: int, kernel_size: int, dilation: int = 1, groups: int = 1) -> Conv1d:
    return Conv1d(inputs, outputs, kernel_size, dilation=dilation, groups=groups, style=STYLE)


class GroupedStack(ResidualStack):
    """A residual stack on `groups` copies of its input side by side, mixed back to ``[B, C, T]``."""

    def __init__(self, channels: int, kernel_size: int, groups: int) -> None:
        super().__init__(groups * channels, kernel_size, DILATIONS, partial(_conv, groups=groups))
        self.groups = groups
        self.mix = Conv1d(groups * channels, channels, 1, bias=False, style=STYLE)

    def forward(self, x: Tensor) -> Tensor:
        """Run over `x` ``[B, C, T]``."""
        copies = x.mT.repeat(1, 1, self.groups).mT  # channels side by side: see `inference`
        return cast("Tensor", self.mix(super().forward(copies)))


class Generator(nn.Module):
    """Frames ``[B, D, F]`` to waveform ``[B, 1, F * hop]`` in [-1, 1]."""

    def __init__(self, net: Vocoder) -> None:
        super().__init__()
        self.first = _conv(net.dimension, net.width, 7)
        self.ups, self.blocks = nn.ModuleList(), nn.ModuleList()
        width = net.width
        for stride in net.strides:
            self.ups.append(HeldConvTranspose1d(width, width // 2, 2 * stride, stride=stride, style=STYLE))
            width //= 2
            self.blocks.append(_block(width, net))
        self.last = _conv(width, 1, 7)
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
        return GroupedStack(channels, kernel_size, net.groups)
    return MultiReceptiveField(channels, net.kernel_sizes, DILATIONS, conv=_conv)
