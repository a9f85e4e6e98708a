"""SEANet, the convolutional encoder and decoder of EnCodec (arXiv:2210.13438, section 3.1) and its relatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from codecbench.models.blocks.conv import Conv1d, ConvStyle, ConvTranspose1d, scale_output
from codecbench.models.blocks.lstm import SkipLSTM
from codecbench.models.blocks.quantise import ResidualVQ, fill_codebooks

if TYPE_CHECKING:
    from codecbench.models.blocks.spectral import SpectralCodec

RELEASED_NAMES = (
    (r"^quantizer\.(?:vq\.)?layers\.(\d+)\._?codebook\.", r"quantiser.layers.\1."),
    (r"^(encoder|decoder)\.model\.", r"\1.layers."),
    (r"\.convtr\.convtr\.", ".conv."),
    (r"\.(?:conv|convtr)\.(conv|norm)\.", r".\1."),
)
"""Rules from the parameter names of the EnCodec release, or those of ``transformers``, to the names here."""

TRAINING_STATE = r"^quantizer\..*\.(inited|cluster_size|embed_avg)$"
"""Released tensors that only training needs."""


def _elu(_channels: int) -> nn.Module:
    return nn.ELU()


@dataclass(frozen=True)
class SEANet:
    """The shape of an encoder and its mirrored decoder.

    Attributes:
        channels: Audio channels.
        dimension: Channels of the latent frames.
        width: Channels after the first convolution; doubled at every stride.
        strides: Of the encoder, from the waveform inwards; their product is the hop length.
        units: Residual units before each stride.
        dilation_base: The dilation of unit ``j`` is ``dilation_base ** j``.
        kernel_size, residual_kernel_size, last_kernel_size: Of the first, the units' and the last convolution.
        compress: The hidden channels of a unit are its channels divided by this.
        conv_skip: Units add a 1 × 1 convolution of their input, not the input itself.
        lstm_layers: Of the LSTM inside the last stride; 0 for none.
        bidirectional: The encoder's LSTM runs both ways, and gives twice the channels.
        activation: From its channels, the module before every convolution but the first and the skips.
        style: Of all convolutions.
    """

    channels: int = 1
    dimension: int = 128
    width: int = 32
    strides: tuple[int, ...] = (2, 4, 5, 8)
    units: int = 1
    dilation_base: int = 2
    kernel_size: int = 7
    residual_kernel_size: int = 3
    last_kernel_size: int = 7
    compress: int = 2
    conv_skip: bool = True
    lstm_layers: int = 2
    bidirectional: bool = False
    activation: Callable[[int], nn.Module] = _elu
    style: ConvStyle = ConvStyle()  # noqa: RUF009 - frozen

    @property
    def hop(self) -> int:
        """Samples a frame."""
        return prod(self.strides)


class Row(nn.Module):
    """Modules one after another."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Run all of them."""
        return cast("Tensor", self.layers(x))


class Residual(nn.Module):
    """Modules one after another, and a shortcut of their input that is added."""

    def __init__(self, block: Sequence[nn.Module], shortcut: nn.Module | None) -> None:
        super().__init__()
        self.block = nn.Sequential(*block)
        self.shortcut = shortcut or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both."""
        return cast("Tensor", self.block(x).add_(self.shortcut(x)))


class ResidualUnit(Residual):
    """Activation, dilated convolution to fewer channels, activation, 1 × 1 convolution back; plus the skip.

    ``[B, C, T]`` in and out.
    """

    def __init__(self, channels: int, dilation: int, net: SEANet) -> None:
        hidden = channels // net.compress
        wide = Conv1d(channels, hidden, net.residual_kernel_size, dilation=dilation, style=net.style)
        back = Conv1d(hidden, channels, 1, style=net.style)
        shortcut = Conv1d(channels, channels, 1, style=net.style) if net.conv_skip else None
        super().__init__([net.activation(channels), wide, net.activation(hidden), back], shortcut)


def _units(channels: int, net: SEANet) -> list[nn.Module]:
    return [ResidualUnit(channels, net.dilation_base**j, net) for j in range(net.units)]


def lstm(channels: int, layers: int, *, bidirectional: bool = False) -> list[nn.Module]:
    """The LSTM inside the last stride, or nothing if it has no layers."""
    return [SkipLSTM(channels, layers, bidirectional=bidirectional)] if layers else []


class Encoder(Row):
    """Waveform ``[B, C, T]`` to frames ``[B, D, ceil(T / hop)]``."""

    def __init__(self, net: SEANet) -> None:
        width = net.width
        layers: list[nn.Module] = [Conv1d(net.channels, width, net.kernel_size, style=net.style)]
        for stride in net.strides:
            layers += _units(width, net)
            layers += [net.activation(width), Conv1d(width, 2 * width, 2 * stride, stride=stride, style=net.style)]
            width *= 2
        layers += lstm(width, net.lstm_layers, bidirectional=net.bidirectional)
        width *= 2 if net.bidirectional and net.lstm_layers else 1
        layers += [net.activation(width), Conv1d(width, net.dimension, net.last_kernel_size, style=net.style)]
        super().__init__(layers)


class Decoder(Row):
    """Frames ``[B, D, F]`` to waveform ``[B, C, F * hop]``, without a final activation."""

    def __init__(self, net: SEANet) -> None:
        width = net.width << len(net.strides)
        layers: list[nn.Module] = [Conv1d(net.dimension, width, net.kernel_size, style=net.style)]
        layers += lstm(width, net.lstm_layers)
        for stride in reversed(net.strides):
            up = ConvTranspose1d(width, width // 2, 2 * stride, stride=stride, style=net.style)
            layers += [net.activation(width), up]
            width //= 2
            layers += _units(width, net)
        layers += [net.activation(width), Conv1d(width, net.channels, net.last_kernel_size, style=net.style)]
        super().__init__(layers)


class SEANetCodec(nn.Module):
    """Encoder, residual quantiser and decoder."""

    def __init__(self, net: SEANet, codebooks: int, codebook_size: int) -> None:
        super().__init__()
        self.net = net
        self.encoder = Encoder(net)
        self.quantiser = ResidualVQ(codebooks, codebook_size, net.dimension)
        self.decoder = Decoder(net)

    @property
    def synthesis(self) -> nn.Module:
        """All that follows the codebooks: frames ``[B, D, F]`` to waveform ``[B, C, F * hop]``."""
        return self.decoder

    def encode(self, x: Tensor, codebooks: int | None = None) -> Tensor:
        """Codes ``[B, K, F]`` of the waveform `x` ``[B, C, T]``."""
        return self.quantiser.encode(self.encoder(x), codebooks)

    def decode(self, codes: Tensor) -> Tensor:
        """Waveform ``[B, C, F * hop]`` of `codes` ``[B, K, F]``."""
        return cast("Tensor", self.decoder(self.quantiser.decode(codes)))


def build(net: SEANet, codebooks: int, codebook_size: int, seed: int = 0) -> SEANetCodec:
    """A codec with random weights that depend on `seed` alone; torch's own random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return SEANetCodec(net, codebooks, codebook_size)


@torch.no_grad()
def enliven(codec: SEANetCodec | SpectralCodec, seed: int, level: float, output_level: float | None = None) -> None:
    """Make an untrained `codec` behave like one: varied codes, a lively output, less distortion with more codebooks.

    As built, the convolutions shrink a signal until only their biases are heard; here they keep its variance. The
    codebooks are filled for signals of about `level` (RMS), which come out at about `output_level`, if it is given.
    In double precision: the number of threads does not change the result.
    """
    for name, parameter in codec.named_parameters():
        if name.endswith(".conv.bias"):
            parameter.zero_()
        elif ".conv." in name and not name.endswith(".original1"):  # weight norm ignores its length
            parameter.mul_(3**0.5)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, codec.net.channels, 150 * codec.net.hop, generator=generator, dtype=torch.float64)
    codec.double()
    latent = codec.encoder(level * noise)
    fill_codebooks(codec.quantiser, latent, generator)
    if output_level is not None:
        scale_output(codec.decoder.layers[-1], output_level / codec.decoder(latent[..., :30]).std())
    codec.float()
