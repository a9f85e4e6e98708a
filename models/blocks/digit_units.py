"""Units of spoken digits: clusters of what a small network hears that was taught which part of which digit a frame is.

They stand in for the units of self-supervised models (`blocks.units`), which need far more data and size: a supervised
tokeniser in the way of CosyVoice (arXiv:2407.05407, section 2.1), though clustered by k-means as those of HuBERT are.
The network hears nothing above 4 kHz, and no further than 0.18 s to both sides of a frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench.models.blocks.random_units import mel_bands

SAMPLE_RATE, STEP, WINDOW, SIZE = 16_000, 160, 400, 512
"""Of the spectra: their step, window and transform in samples."""
ALL_BANDS, BANDS = 60, 45
"""Mel bands up to 8 kHz, and how many of the lower ones are heard."""
FLOOR = 1e-4
"""Energy of a band that is as good as none: silence is 0, as what is beyond the ends."""


@dataclass(frozen=True)
class DigitUnitsShape:
    """The shape of a `DigitUnits`.

    Attributes:
        units: Clusters.
        labels: Parts of digits that the network tells apart, silence with them.
        channels: Of every layer.
        dilations: Of the residual convolutions.
    """

    units: int = 64
    labels: int = 41
    channels: int = 96
    dilations: tuple[int, ...] = (1, 2, 3)

    @property
    def hop(self) -> int:
        """Samples a unit: 50 a second."""
        return 2 * STEP

    @property
    def reach(self) -> int:
        """Samples of the shortest clip: one unit."""
        return self.hop


class DigitUnits(nn.Module):
    """Samples to units."""

    bands: Tensor
    window: Tensor
    centroids: Tensor

    def __init__(self, net: DigitUnitsShape) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("bands", mel_bands(SIZE // 2 + 1, ALL_BANDS, SAMPLE_RATE)[:, :BANDS], persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        self.first = nn.Conv1d(BANDS, net.channels, 5, padding=2)
        self.halve = nn.Conv1d(net.channels, net.channels, 4, stride=2, padding=1)
        self.norms = nn.ModuleList(nn.LayerNorm(net.channels) for _ in net.dilations)
        self.convs = nn.ModuleList(nn.Conv1d(net.channels, net.channels, 3, padding=d, dilation=d)
                                   for d in net.dilations)  # fmt: skip
        self.norm = nn.LayerNorm(net.channels)
        self.last = nn.Linear(net.channels, net.labels)
        self.register_buffer("centroids", torch.zeros(net.units, net.channels))

    @property
    def entries(self) -> int:
        """The number of units."""
        return len(self.centroids)

    def spectra(self, samples: Tensor) -> Tensor:
        """Logarithmic mel spectra ``[2 F, N]`` of `samples` ``[T]``; ``F`` is ``T / hop``, rounded up."""
        frames = 2 * ceil(len(samples) / self.net.hop)
        around = (WINDOW - STEP) // 2
        whole = functional.pad(samples, (around, around + frames * STEP - len(samples)))
        energy = torch.fft.rfft(whole.unfold(0, WINDOW, STEP) * self.window, SIZE).abs().square() @ self.bands
        return torch.log1p(energy / FLOOR)

    def hear(self, spectra: Tensor) -> Tensor:
        """Features ``[B, F, C]`` of `spectra` ``[B, 2 F, N]``."""
        x = functional.gelu(self.halve(functional.gelu(self.first(spectra.mT)))).mT
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = x + functional.gelu(conv(norm(x).mT)).mT
        return cast("Tensor", self.norm(x))

    def features(self, samples: Tensor) -> Tensor:
        """Features ``[F, C]`` of `samples` ``[T]``."""
        return self.hear(self.spectra(samples)[None])[0]

    def forward(self, samples: Tensor) -> Tensor:
        """Units ``[F]`` of `samples` ``[T]``; ``F`` is ``T / hop``, rounded up."""
        features = self.features(samples)
        distance: Tensor = self.centroids.square().sum(dim=1) - 2 * features @ self.centroids.mT
        return distance.argmin(dim=1)


def build(net: DigitUnitsShape, seed: int) -> DigitUnits:
    """A tokeniser with random weights from `seed`, whose centroids its features come near to.

    Torch's own random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        tokeniser = DigitUnits(net).eval()
        swell = torch.rand(net.units).repeat_interleave(net.hop)
        tokeniser.centroids.copy_(tokeniser.features(0.1 * torch.randn(len(swell)) * swell))
    return tokeniser
