"""The convolutional network of DAC (arXiv:2306.06546): SEANet's plan with Snake, wider kernels and a wider decoder."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from codecbench.models.blocks.activations import Snake
from codecbench.models.blocks.conv import symmetric_padding
from codecbench.models.blocks.factorised import ResidualFactorisedVQ

DILATIONS = (1, 3, 9)
"""Of the three residual units of a stage."""


@dataclass(frozen=True)
class DACShape:
    """The shape of the network.

    Attributes:
        strides: Of the encoder, from the waveform inwards; the decoder has them in reverse.
        dimension: Channels of the latent frames.
        codebooks, codebook_size, code_dimension: Of the quantiser.
        width: Channels after the encoder's first convolution; doubled at every stride.
        decoder_width: Channels after the decoder's first convolution; halved at every stride.
        padded: Whether convolutions add zeros at both ends; without, each shortens its input.
    """

    strides: tuple[int, ...]
    dimension: int
    codebooks: int
    codebook_size: int = 1024
    code_dimension: int = 8
    width: int = 64
    decoder_width: int = 1536
    padded: bool = True

    @property
    def hop(self) -> int:
        """Samples a frame."""
        return prod(self.strides)


def _conv(
    inputs: int, outputs: int, kernel_size: int, net: DACShape, *, stride: int = 1, dilation: int = 1
) -> nn.Module:
    padding = symmetric_padding(kernel_size, stride, dilation) if net.padded else 0
    conv = nn.Conv1d(inputs, outputs, kernel_size, stride, padding, dilation)
    return cast("nn.Module", weight_norm(conv))


def _up(inputs: int, outputs: int, stride: int, net: DACShape) -> nn.Module:
    padding = symmetric_padding(2 * stride, stride) if net.padded else 0
    return cast("nn.Module", weight_norm(nn.ConvTranspose1d(inputs, outputs, 2 * stride, stride, padding)))


class ResidualUnit(nn.Sequential):
    """Snake, dilated convolution, Snake, 1 × 1 convolution; plus the input. ``[B, C, T]`` in and out."""

    def __init__(self, channels: int, dilation: int, net: DACShape) -> None:
        super().__init__(
            Snake(channels), _conv(channels, channels, 7, net, dilation=dilation),
            Snake(channels), _conv(channels, channels, 1, net),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Add the output to `x`, or to the middle of `x` where convolutions are not padded."""
        y: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        cut = (x.shape[-1] - y.shape[-1]) // 2
        return y.add_(x[..., cut : cut + y.shape[-1]])


def _units(channels: int, net: DACShape) -> list[nn.Module]:
    return [ResidualUnit(channels, dilation, net) for dilation in DILATIONS]


def _encoder(net: DACShape) -> nn.Sequential:
    """Waveform ``[B, 1, T]`` to latent frames ``[B, D, F]``."""
    width = net.width
    layers = [_conv(1, width, 7, net)]
    for stride in net.strides:
        down = _conv(width, 2 * width, 2 * stride, net, stride=stride)
        layers.append(nn.Sequential(*_units(width, net), Snake(width), down))
        width *= 2
    return nn.Sequential(*layers, Snake(width), _conv(width, net.dimension, 3, net))


def _decoder(net: DACShape) -> nn.Sequential:
    """Latent frames ``[B, D, F]`` to a waveform ``[B, 1, T]`` in [-1, 1]."""
    width = net.decoder_width
    layers = [_conv(net.dimension, width, 7, net)]
    for stride in reversed(net.strides):
        up = _up(width, width // 2, stride, net)
        layers.append(nn.Sequential(Snake(width), up, *_units(width // 2, net)))
        width //= 2
    return nn.Sequential(*layers, Snake(width), _conv(width, 1, 7, net), nn.Tanh())


class DACNetwork(nn.Module):
    """Encoder, residual quantiser and decoder."""

    def __init__(self, net: DACShape) -> None:
        super().__init__()
        self.net = net
        self.encoder = _encoder(net)
        self.quantiser = ResidualFactorisedVQ(net.codebooks, net.codebook_size, net.dimension, net.code_dimension)
        self.decoder = _decoder(net)

    def encode(self, x: Tensor, codebooks: int | None = None) -> Tensor:
        """Codes ``[B, K, F]`` of the waveform `x` ``[B, 1, T]`` of whole frames."""
        return self.quantiser.encode(self.encoder(x), codebooks)

    def decode(self, codes: Tensor) -> Tensor:
        """Waveform ``[B, 1, F * hop]`` of `codes` ``[B, K, F]``.

        A transposed convolution of an odd stride gives a sample less than its frames have. In the released weights it
        is the first that is missing: their output is early by as much. As many zeros are put before it.
        """
        audio = self.decode_raw(codes)
        return functional.pad(audio, (codes.shape[-1] * self.net.hop - audio.shape[-1], 0))

    def decode_raw(self, codes: Tensor) -> Tensor:
        """What the decoder makes of `codes` ``[B, K, F]``: ``[B, 1, T]``."""
        return cast("Tensor", self.decoder(self.quantiser.decode(codes)))


def build(net: DACShape, seed: int = 0) -> DACNetwork:
    """A codec with random weights that depend on `seed` alone; torch's own random state is left as it was.

    Biases are zero: they would outweigh what such weights leave of a signal, and give most frames the same codes.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = DACNetwork(net)
    for name, parameter in network.named_parameters():
        if name.endswith(".bias"):
            nn.init.zeros_(parameter)
    return network
