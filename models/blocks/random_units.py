"""Units of speech by random projection: a tokeniser that needs no training (BEST-RQ, arXiv:2202.01855, section 3).

It is the target that USM's encoder (arXiv:2303.01037) learns to predict, and stands in for tokenisers whose weights
are not published: similar sounds have the same unit, and no unit hears more than its own frame.
"""

from __future__ import annotations

from math import ceil, log1p
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional


class RandomProjectionUnits(nn.Module):
    """Log energies of a frame in bands, projected at random; the unit is the random vector of nearest direction.

    Args:
        units: How many there are.
        sample_rate: In Hz.
        hop: Samples a unit.
        seed: Of projection and vectors.
    """

    projection: Tensor
    entries: Tensor
    bands: Tensor

    def __init__(self, units: int, sample_rate: int, hop: int, seed: int = 0, *, dimension: int = 16) -> None:
        super().__init__()
        self.hop, count = hop, 80
        self.size = 1 << (hop - 1).bit_length()
        random = torch.Generator().manual_seed(seed)
        self.register_buffer("projection", torch.randn(count, dimension, generator=random))
        self.register_buffer("entries", functional.normalize(torch.randn(units, dimension, generator=random)))
        self.register_buffer("bands", mel_bands(self.size // 2 + 1, count, sample_rate))

    @torch.inference_mode()
    def forward(self, samples: Tensor) -> Tensor:
        """Units ``[F]`` of `samples` ``[T]``; ``F`` is ``T / hop``, rounded up."""
        frames = ceil(len(samples) / self.hop)
        whole = functional.pad(samples, (0, frames * self.hop - len(samples))).view(frames, self.hop)
        window = torch.hann_window(self.hop, device=samples.device)
        energy = torch.fft.rfft(whole * window, self.size).abs().square() @ self.bands
        loudness = (energy + 1e-6).log()
        shape = loudness - loudness.mean(dim=1, keepdim=True)
        return cast("Tensor", (shape @ self.projection @ self.entries.T).argmax(dim=1))


def mel_bands(bins: int, count: int, sample_rate: int) -> Tensor:
    """Triangular bands ``[bins, count]``, evenly spaced in mel from 0 to half the sample rate."""
    highest = 1127 * log1p(sample_rate / 2 / 700)
    edges = 700 * torch.expm1(torch.linspace(0, highest, count + 2) / 1127)
    places = torch.linspace(0, sample_rate / 2, bins)[:, None]
    rising = (places - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - places) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp(min=0)
