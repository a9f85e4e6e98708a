"""SEANet over spectrograms: the encoder and decoder of FreqCodec (arXiv:2309.07405, table 2)."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from torch import nn

from codecbench.models.blocks.conv import Conv1d, ConvStyle
from codecbench.models.blocks.conv2d import Conv2d, ConvTranspose2d, Pair
from codecbench.models.blocks.seanet import Residual, Row, lstm


@dataclass(frozen=True)
class SEANet2d:
    """The shape of an encoder or a decoder; what is not named here is as in `SEANet`.

    Attributes:
        channels: Values at a point of the spectrogram.
        strides: Of the encoder, from the spectrogram inwards, each over bands and frames; they leave one band.
        dilation_base: Units are dilated over frames.
        group: Channels a group, on the narrower side, of the units' and the encoder's strided convolutions; 0 if
            those are not grouped.
        up_group: The same for transposed convolutions.
    """

    channels: int = 3
    dimension: int = 128
    width: int = 32
    strides: tuple[Pair, ...] = ((4, 1), (4, 2), (4, 1), (4, 1))
    units: int = 1
    dilation_base: int = 2
    kernel_size: int = 7
    residual_kernel_size: int = 3
    last_kernel_size: int = 7
    compress: int = 2
    conv_skip: bool = True
    lstm_layers: int = 2
    group: int = 0
    up_group: int = 0
    style: ConvStyle = ConvStyle()  # noqa: RUF009 - frozen

    @property
    def stride(self) -> int:
        """Frames of the spectrogram a latent frame."""
        return prod(frames for _, frames in self.strides)


def _conv(inputs: int, outputs: int, size: Pair, net: SEANet2d, stride: Pair = (1, 1), dilation: int = 1) -> Conv2d:
    groups = min(inputs, outputs) // net.group if net.group else 1
    return Conv2d(inputs, outputs, size, stride=stride, dilation=(1, dilation), groups=groups, style=net.style)


class ResidualUnit2d(Residual):
    """ELU, dilated convolution to fewer channels, ELU, 1 × 1 convolution back; plus the skip. ``[B, C, K, N]``."""

    def __init__(self, channels: int, dilation: int, net: SEANet2d) -> None:
        hidden, size = channels // net.compress, (net.residual_kernel_size,) * 2
        wide = _conv(channels, hidden, size, net, dilation=dilation)
        back = _conv(hidden, channels, (1, 1), net)
        shortcut = _conv(channels, channels, (1, 1), net) if net.conv_skip else None
        super().__init__([nn.ELU(), wide, nn.ELU(), back], shortcut)


def _units(channels: int, net: SEANet2d) -> list[nn.Module]:
    return [ResidualUnit2d(channels, net.dilation_base**j, net) for j in range(net.units)]


class Encoder2d(Row):
    """Spectrogram ``[B, C, K, N]`` to latent frames ``[B, D, ceil(N / stride)]``."""

    def __init__(self, net: SEANet2d) -> None:
        width = net.width
        layers: list[nn.Module] = [Conv2d(net.channels, width, (net.kernel_size,) * 2, style=net.style)]
        for stride in net.strides:
            layers += [*_units(width, net), nn.ELU()]
            layers += [_conv(width, 2 * width, (2 * stride[0], 2 * stride[1]), net, stride)]
            width *= 2
        layers += [nn.Flatten(1, 2), *lstm(width, net.lstm_layers), nn.ELU()]
        layers += [Conv1d(width, net.dimension, net.last_kernel_size, style=net.style)]
        super().__init__(layers)


class Decoder2d(Row):
    """Latent frames ``[B, D, F]`` to a spectrogram ``[B, C, K, F * stride]`` of one band more than the strides make."""

    def __init__(self, net: SEANet2d) -> None:
        width = net.width << len(net.strides)
        layers: list[nn.Module] = [Conv1d(net.dimension, width, net.kernel_size, style=net.style)]
        layers += [*lstm(width, net.lstm_layers), nn.Unflatten(1, (width, 1))]
        for i, stride in reversed(list(enumerate(net.strides))):
            size, groups = (2 * stride[0], 2 * stride[1]), width // 2 // net.up_group if net.up_group else 1
            up = ConvTranspose2d(
                width, width // 2, size, stride=stride, groups=groups, extra=int(i == 0), style=net.style
            )
            width //= 2
            layers += [nn.ELU(), up, *_units(width, net)]
        layers += [nn.ELU(), Conv2d(width, net.channels, (net.last_kernel_size,) * 2, style=net.style)]
        super().__init__(layers)
