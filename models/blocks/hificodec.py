"""HiFi-Codec's network: a HiFi-GAN generator as decoder, its mirror as encoder, and a grouped residual quantiser.

arXiv:2305.02765, in the form of the released AcademiCodec.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from codecbench.models.blocks.conv import scale_output, symmetric_padding
from codecbench.models.blocks.grouped import GroupedResidualVQ
from codecbench.models.blocks.mrf import SLOPE, MultiReceptiveField, same_conv

BLOCKS = 12
"""Residual stacks of the encoder, and of the decoder: one a kernel size in each of four scales."""

RELEASED_NAMES = (
    (r"^generator\.", "decoder."),
    (r"^quantizer\.quantizer_modules\.(\d+)\.embedding\.weight$", r"quantiser.layers.0.\1.embed"),
    (r"^quantizer\.quantizer_modules2\.(\d+)\.embedding\.weight$", r"quantiser.layers.1.\1.embed"),
    (r"\.conv_pre\.", ".first."),
    (r"\.conv_post\.", ".last."),
    (r"\.ups\.", ".resample."),
    (r"\.convs1\.", ".dilated."),
    (r"\.convs2\.", ".plain."),
    *((rf"\.resblocks\.{n}\.", f".fields.{n // 3}.branches.{n % 3}.") for n in range(BLOCKS)),
    *((rf"\.normalize\.{n}\.", f".fields.{n // 3}.norms.{n % 3}.") for n in range(BLOCKS)),
)
"""Rules from the parameter names of the release, its parts' names in front, to the names here."""


@dataclass(frozen=True)
class HiFiGAN:
    """The shape of an encoder and its mirrored decoder.

    Attributes:
        strides: Of the encoder, from the waveform inwards; their product is the hop length.
        kernel_sizes: Of the strided convolutions; each exceeds its stride by an even number, half of which is padding
            on either side, so that whole frames lose no sample.
        width: Channels after the first convolution; doubled at every stride.
        normalised_group: Channels that the encoder's residual stacks are normalised over together.
        field_sizes, dilations: Kernel sizes of the residual stacks, and what their convolutions are dilated by.
    """

    strides: tuple[int, ...] = (2, 4, 5, 8)
    kernel_sizes: tuple[int, ...] = (4, 8, 11, 16)
    width: int = 32
    normalised_group: int = 16
    field_sizes: tuple[int, ...] = (3, 7, 11)
    dilations: tuple[int, ...] = (1, 3, 5)

    def __post_init__(self) -> None:
        if any((size - stride) % 2 or size < stride for size, stride in self.scales):
            raise ValueError(f"kernel sizes {self.kernel_sizes} do not exceed strides {self.strides} by even numbers")

    @property
    def scales(self) -> tuple[tuple[int, int], ...]:
        """Kernel size and stride of each scale, from the waveform inwards."""
        return tuple(zip(self.kernel_sizes, self.strides, strict=True))

    @property
    def hop(self) -> int:
        """Samples a frame."""
        return prod(self.strides)

    @property
    def dimension(self) -> int:
        """Channels of the latent frames."""
        return self.width << len(self.strides)


class Encoder(nn.Module):
    """Waveform ``[B, 1, F * hop]`` to frames ``[B, D, F]``."""

    def __init__(self, net: HiFiGAN) -> None:
        super().__init__()
        self.first = same_conv(1, net.width, 7)
        self.resample = nn.ModuleList()
        self.fields = nn.ModuleList()
        width = net.width
        for size, stride in net.scales:
            down = nn.Conv1d(width, 2 * width, size, stride, padding=symmetric_padding(size, stride))
            self.resample.append(parametrizations.weight_norm(down))
            width *= 2
            self.fields.append(MultiReceptiveField(width, net.field_sizes[::-1], net.dilations, net.normalised_group))
        self.last = nn.Conv1d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Encode `x` ``[B, 1, F * hop]``."""
        x = self.first(x)
        for resample, field in zip(self.resample, self.fields, strict=True):
            x = field(resample(functional.leaky_relu(x, SLOPE)))
        return cast("Tensor", self.last(functional.leaky_relu(x, 0.01)))


class Decoder(nn.Module):
    """Frames ``[B, D, F]`` to waveform ``[B, 1, F * hop]`` in (-1, 1)."""

    def __init__(self, net: HiFiGAN) -> None:
        super().__init__()
        width = net.dimension
        self.first = same_conv(width, width, 7)
        self.resample = nn.ModuleList()
        self.fields = nn.ModuleList()
        for size, stride in reversed(net.scales):
            up = nn.ConvTranspose1d(width, width // 2, size, stride, padding=symmetric_padding(size, stride))
            self.resample.append(parametrizations.weight_norm(up))
            width //= 2
            self.fields.append(MultiReceptiveField(width, net.field_sizes, net.dilations))
        self.last = same_conv(width, 1, 7)

    def forward(self, x: Tensor) -> Tensor:
        """Decode `x` ``[B, D, F]``."""
        x = self.first(x)
        for resample, field in zip(self.resample, self.fields, strict=True):
            x = field(resample(functional.leaky_relu(x, SLOPE)))
        return torch.tanh(self.last(functional.leaky_relu(x, SLOPE)))


class HiFiCodecNetwork(nn.Module):
    """Encoder, grouped residual quantiser (two layers of `groups` codebooks) and decoder."""

    def __init__(self, net: HiFiGAN, codebook_size: int, groups: int = 2) -> None:
        super().__init__()
        self.net = net
        self.encoder = Encoder(net)
        self.quantiser = GroupedResidualVQ(2, groups, codebook_size, net.dimension)
        self.decoder = Decoder(net)

    def encode(self, x: Tensor, codebooks: int | None = None) -> Tensor:
        """Codes ``[B, K, F]`` of the waveform `x` ``[B, 1, F * hop]``.

        Raises:
            ValueError: `codebooks` is not their number: the codec is not trained to do without the last ones.
        """
        codes = self.quantiser.encode(self.encoder(x))
        if codebooks not in (None, codes.shape[1]):
            raise ValueError(f"HiFi-Codec has {codes.shape[1]} codebooks and needs all of them, not {codebooks}")
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        """Waveform ``[B, 1, F * hop]`` of `codes` ``[B, K, F]``."""
        return cast("Tensor", self.decoder(self.quantiser.decode(codes)))


def build(net: HiFiGAN, codebook_size: int, seed: int = 0) -> HiFiCodecNetwork:
    """A codec with random weights that depend on `seed` alone; torch's own random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return HiFiCodecNetwork(net, codebook_size)


@torch.no_grad()
def enliven(codec: HiFiCodecNetwork, seed: int, level: float) -> None:
    """Make an untrained `codec` behave like one: varied codes, a lively output, less distortion in the second layer.

    As built, the convolutions shrink a signal until only their biases are heard; here those between the residual
    stacks keep its variance. The codebooks and the last convolution are set for signals of about `level` (RMS). In
    double precision: the number of threads does not change the result.
    """
    for name, parameter in codec.named_parameters():
        if name.endswith(".bias"):
            parameter.zero_()
        elif name.endswith(".original0") and ".branches." not in name:
            parameter.mul_(3**0.5)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, 1, 150 * codec.net.hop, generator=generator, dtype=torch.float64)
    codec.double()
    latent = codec.encoder(level * noise)
    codec.quantiser.fill(latent, generator)
    scale_output(codec.decoder.last, level / codec.decoder(latent[..., :30]).std())
    codec.float()
