"""The encoder and decoder of SoundStream (arXiv:2107.03312, section III) and of the codecs that kept its layout.

A residual unit is a dilated convolution of width 7 and one of width 1; three of them stand beside each stride. The
paper names ELU but not its places, and its relatives differ in them, in biases and in padding: these are options.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Literal, cast

import torch
from torch import Tensor, nn

from codecbench.models.blocks.conv import Conv1d, ConvStyle, ConvTranspose1d, pad
from codecbench.models.blocks.quantise import ResidualVQ, fill_codebooks

DILATIONS = (1, 3, 9)


@dataclass(frozen=True)
class SoundStream:
    """The shape of an encoder and its mirrored decoder.

    Attributes:
        dimension: Channels of the latent frames.
        width: Channels after the first convolution; doubled at every stride.
        strides: Of the encoder, from the waveform inwards; their product is the hop length.
        elu_after: ELU follows each convolution of a residual unit; otherwise it goes before.
        elu_before: The other convolutions that have ELU before them: the encoder's strided ones (``down``), the
            decoder's (``up``), the last one of both (``last``).
        bias: Whether convolutions without a stride have a bias; those with one always have.
        tanh: The decoder ends in a hyperbolic tangent.
        conv, transpose: Kinds of the convolutions.
        style: Of all convolutions.
    """

    dimension: int
    width: int = 32
    strides: tuple[int, ...] = (2, 4, 5, 8)
    elu_after: bool = False
    elu_before: tuple[Literal["down", "up", "last"], ...] = ("down", "up", "last")
    bias: bool = True
    tanh: bool = False
    conv: type[Conv1d] = Conv1d
    transpose: type[ConvTranspose1d] = ConvTranspose1d
    style: ConvStyle = ConvStyle(causal=True, padding="constant")  # noqa: RUF009 - frozen

    @property
    def hop(self) -> int:
        """Samples a frame."""
        return prod(self.strides)

    def elu(self, where: Literal["down", "up", "last"]) -> nn.Module:
        """What goes before a convolution there."""
        return nn.ELU() if where in self.elu_before else nn.Identity()

    def plain(self, inputs: int, outputs: int, kernel_size: int, dilation: int = 1) -> Conv1d:
        """A convolution without a stride."""
        return self.conv(inputs, outputs, kernel_size, dilation=dilation, bias=self.bias, style=self.style)

    def units(self, channels: int) -> nn.Sequential:
        """The residual units of a block."""
        return nn.Sequential(*(ResidualUnit(channels, dilation, self) for dilation in DILATIONS))


class ResidualUnit(nn.Module):
    """Two convolutions, each with its ELU, added to their input ``[B, C, T]``."""

    def __init__(self, channels: int, dilation: int, net: SoundStream) -> None:
        super().__init__()
        self.convs = nn.ModuleList([net.plain(channels, channels, 7, dilation), net.plain(channels, channels, 1)])
        self.elu = nn.ELU()
        self.after = net.elu_after

    def forward(self, x: Tensor) -> Tensor:
        """Add the unit's output to `x`."""
        y = x
        for conv in self.convs:
            y = self.elu(conv(y)) if self.after else conv(self.elu(y))
        return y.add_(x)


class Down(nn.Module):
    """Residual units, then a convolution ``[B, C, T]`` to ``[B, 2C, ceil(T / stride)]``."""

    def __init__(self, channels: int, stride: int, net: SoundStream) -> None:
        super().__init__()
        self.units = net.units(channels)
        self.elu = net.elu("down")
        self.conv = net.conv(channels, 2 * channels, 2 * stride, stride=stride, style=net.style)

    def forward(self, x: Tensor) -> Tensor:
        """Shorten `x`."""
        return cast("Tensor", self.conv(self.elu(self.units(x))))


class Up(nn.Module):
    """A transposed convolution ``[B, 2C, F]`` to ``[B, C, F * stride]``, then residual units."""

    def __init__(self, channels: int, stride: int, net: SoundStream) -> None:
        super().__init__()
        self.elu = net.elu("up")
        self.conv = net.transpose(2 * channels, channels, 2 * stride, stride=stride, style=net.style)
        self.units = net.units(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Lengthen `x`."""
        return cast("Tensor", self.units(self.conv(self.elu(x))))


class Encoder(nn.Module):
    """Waveform ``[B, 1, T]`` to frames ``[B, D, ceil(T / hop)]``."""

    def __init__(self, net: SoundStream) -> None:
        super().__init__()
        self.first = net.plain(1, net.width, 7)
        self.blocks = nn.Sequential(*(Down(net.width << i, stride, net) for i, stride in enumerate(net.strides)))
        self.elu = net.elu("last")
        self.last = net.plain(net.width << len(net.strides), net.dimension, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Encode `x` ``[B, 1, T]``."""
        return cast("Tensor", self.last(self.elu(self.blocks(self.first(x)))))


class Decoder(nn.Module):
    """Frames ``[B, D, F]`` to waveform ``[B, 1, F * hop]``."""

    def __init__(self, net: SoundStream) -> None:
        super().__init__()
        self.first = net.plain(net.dimension, net.width << len(net.strides), 7)
        blocks = [Up(net.width << i, stride, net) for i, stride in enumerate(net.strides)]
        self.blocks = nn.Sequential(*reversed(blocks))
        self.elu = net.elu("last")
        self.last = net.plain(net.width, 1, 7)
        self.squash = nn.Tanh() if net.tanh else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Decode `x` ``[B, D, F]``."""
        return cast("Tensor", self.squash(self.last(self.elu(self.blocks(self.first(x))))))


class Normalise(nn.Module):
    """Subtract a mean and divide by a scale, both given for every channel of ``[B, D, F]``."""

    mean: Tensor
    scale: Tensor

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dimension))
        self.register_buffer("scale", torch.ones(dimension))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `x`."""
        return (x - self.mean[:, None]) / self.scale[:, None]


class SoundStreamCodec(nn.Module):
    """Encoder, residual quantiser and decoder.

    Attributes:
        late: Samples by which the decoder's output follows the input, since both see so little ahead; `decode` leaves
            them out.

    Args:
        net: Shape of the encoder and, unless another is given, of the decoder.
        codebooks, codebook_size: Of the quantiser.
        straight_through: See `ResidualVQ`.
        decoder: Another decoder of frames ``[B, D, F]``, whose last convolution is its `last`; its frames are
            normalised.
    """

    late: int = 0

    def __init__(
        self, net: SoundStream, codebooks: int, codebook_size: int, *, straight_through: bool = False,
        decoder: Callable[[], nn.Module] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.net = net
        self.encoder = Encoder(net)
        self.quantiser = ResidualVQ(codebooks, codebook_size, net.dimension, straight_through=straight_through)
        self.normalise = Normalise(net.dimension) if decoder else nn.Identity()
        self.decoder = decoder() if decoder else Decoder(net)

    @property
    def synthesis(self) -> nn.Module:
        """All that follows the codebooks: frames ``[B, D, F]`` to waveform ``[B, 1, F * hop]``."""
        return nn.Sequential(self.normalise, self.decoder)

    def encode(self, x: Tensor, codebooks: int | None = None) -> Tensor:
        """Codes ``[B, K, F]`` of the waveform `x` ``[B, 1, T]``, and of the silence after it that `late` asks for."""
        return self.quantiser.encode(self.encoder(pad(x, 0, self.late, "constant")), codebooks)

    def decode(self, codes: Tensor) -> Tensor:
        """Waveform ``[B, 1, F * hop - late]`` of `codes` ``[B, K, F]``."""
        return cast("Tensor", self.decoder(self.normalise(self.quantiser.decode(codes))))[..., self.late :]


def build(make: Callable[[], SoundStreamCodec], seed: int) -> SoundStreamCodec:
    """What `make` returns, with weights that depend on `seed` alone; torch's own random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return make()


@torch.no_grad()
def enliven(codec: SoundStreamCodec, seed: int, level: float = 0.1) -> None:
    """Make an untrained `codec` behave like one: varied codes, and an output of about `level` (RMS) for such input.

    As built, the convolutions shrink a signal until only their biases are heard; here they keep its variance. In
    double precision: the number of threads does not change the result.
    """
    for name, parameter in codec.named_parameters():
        if not name.endswith(".original1"):  # weight norm ignores its length
            parameter.mul_(level if name.endswith(".bias") else 3**0.5)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, 1, 150 * codec.net.hop, generator=generator, dtype=torch.float64)
    codec.double()
    latent = codec.encoder(level * noise)
    fill_codebooks(codec.quantiser, latent, generator)
    if isinstance(codec.normalise, Normalise):
        codec.normalise.scale, codec.normalise.mean = torch.std_mean(latent[0], dim=1)
    _set_level(codec, latent, level)
    codec.float()


def _set_level(codec: SoundStreamCodec, latent: Tensor, level: float) -> None:
    last, heard = cast("Conv1d", codec.decoder.last), []
    hook = last.register_forward_hook(lambda _module, _inputs, output: heard.append(output.std()))
    codec.decoder(codec.normalise(latent[..., :30]))
    hook.remove()
    for name, parameter in last.named_parameters():
        if not name.endswith(".original1"):
            parameter.mul_(level / heard[0])
