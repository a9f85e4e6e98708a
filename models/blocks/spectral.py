"""A codec in the frequency domain: spectra in magnitude and phase around a convolutional codec (arXiv:2309.07405)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench.models.blocks.conv import pad
from codecbench.models.blocks.quantise import ResidualVQ
from codecbench.models.blocks.seanet2d import Decoder2d, Encoder2d, SEANet2d

FLOOR = 1e-6
"""Smallest magnitude."""


@dataclass(frozen=True)
class SpectralNet:
    """The shape of a codec in the frequency domain.

    Attributes:
        encoder, decoder: Of the network over spectrograms, with three channels.
        window: Length of the Hann window, and of the transform.
        step: Samples from one spectrum to the next.
    """

    encoder: SEANet2d
    decoder: SEANet2d
    window: int = 512
    step: int = 160

    channels = 1
    """Of the audio."""

    @property
    def hop(self) -> int:
        """Samples a latent frame."""
        return self.step * self.encoder.stride


def analyse(x: Tensor, window: int, step: int) -> Tensor:
    """Logarithm of the magnitude, and the phase's cosine and sine, ``[B, 3, window // 2 + 1, T // step + 1]``.

    Spectra are centred on every multiple of `step` of the waveform `x` ``[B, 1, T]``, which is mirrored at both ends.
    """
    shape = torch.hann_window(window, dtype=x.dtype, device=x.device)
    padded = pad(x, window // 2, window // 2, "reflect")[:, 0]
    spectrum = torch.stft(padded, window, step, window=shape, center=False, return_complex=True)
    magnitude = spectrum.abs().clamp(min=FLOOR)
    phase = spectrum / magnitude
    return torch.stack([magnitude.log(), phase.real, phase.imag], dim=1)


def synthesise(x: Tensor, window: int, step: int) -> Tensor:
    """The waveform ``[B, 1, N * step]`` of `x` ``[B, 3, window // 2 + 1, N]``.

    Its channels are the magnitude before a softplus, and a complex number that stands for the phase but may have any
    magnitude itself. The last `step` samples are those after the centre of the last spectrum.
    """
    x = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x  # spectra have no half precision
    shape = torch.hann_window(window, dtype=x.dtype, device=x.device)
    spectrum = functional.softplus(x[:, 0]) * torch.complex(x[:, 1], x[:, 2])
    return torch.istft(spectrum, window, step, window=shape, length=x.shape[-1] * step)[:, None]


class SpectralEncoder(Encoder2d):
    """Waveform ``[B, 1, T]`` to latent frames ``[B, D, F]``."""

    def __init__(self, net: SpectralNet) -> None:
        super().__init__(net.encoder)
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Encode `x` ``[B, 1, T]``."""
        return super().forward(analyse(x, self.net.window, self.net.step))


class SpectralDecoder(Decoder2d):
    """Latent frames ``[B, D, F]`` to waveform ``[B, 1, F * hop]``."""

    def __init__(self, net: SpectralNet) -> None:
        super().__init__(net.decoder)
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Decode `x` ``[B, D, F]``."""
        return synthesise(super().forward(x), self.net.window, self.net.step)


class SpectralCodec(nn.Module):
    """Encoder, residual quantiser and decoder."""

    def __init__(self, net: SpectralNet, codebooks: int, codebook_size: int) -> None:
        super().__init__()
        self.net = net
        self.encoder = SpectralEncoder(net)
        self.quantiser = ResidualVQ(codebooks, codebook_size, net.encoder.dimension)
        self.decoder = SpectralDecoder(net)

    def encode(self, x: Tensor, codebooks: int | None = None) -> Tensor:
        """Codes ``[B, K, F]`` of the waveform `x` ``[B, 1, T]``."""
        return self.quantiser.encode(self.encoder(x), codebooks)

    def decode(self, codes: Tensor) -> Tensor:
        """Waveform ``[B, 1, F * hop]`` of `codes` ``[B, K, F]``."""
        return cast("Tensor", self.decoder(self.quantiser.decode(codes)))

    def delay(self, length: int) -> int:
        """Samples by which a decoded waveform of `length` samples is late.

        Strides over frames take what they lack on the left (see `Conv2d`), so the decoder's output begins with as
        many spectra that the clip does not have.
        """
        spectra = length // self.net.step + 1
        return -spectra % self.net.encoder.stride * self.net.step


class AlignedSpectralCodec(SpectralCodec):
    """A codec in the frequency domain whose decoder removes its delay; only for waveforms of whole frames.

    Such a waveform has one spectrum more than its frames hold, and so one frame more.
    """

    def decode(self, codes: Tensor) -> Tensor:
        """Waveform ``[B, 1, (F - 1) * hop]`` of `codes` ``[B, K, F]``."""
        length = (codes.shape[-1] - 1) * self.net.hop
        delay = self.delay(length)
        return super().decode(codes)[..., delay : delay + length]
