"""The outline of a voice: what few bits can keep of a frame, found by signal processing alone.

It is two things: the waveform below 800 Hz, as the lowest coefficients of a block cosine transform; and levels in 14
bands above, where the ear follows levels and hardly phases. By itself, a network takes long to find out that high
frequencies deserve no waveform. A codec whose latent frames are made to follow the outline has something to quantise
from the first steps on (docs/small-codecs.md).

A frame's levels are of the 25 ms that end with it, so that an encoder without look-ahead can know them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench.models.training.transform import cosines

EDGE = 800.0
"""Hz: the waveform is kept below, levels above."""
BANDS = 14
"""Above the edge, of equal width on the mel scale."""
WINDOW = 400
"""Samples that a frame's levels are of."""
EXPONENT = 0.3
"""Of amplitudes: about as loudness follows them."""
LOW, LEVEL, OFFSET = 4.4, 6.0, 1.0
"""Coefficients are multiplied by the first, levels by the second, less the third: for speech, values of about 1."""
FLOOR = 1e-8
"""Of a band's power."""
SOFT = 0.01
"""Level, as that of coefficients, below which errors in the waveform count as if it were as loud."""


class Outline(nn.Module):
    """The outline of waveforms of `rate` Hz with frames of `hop` samples."""

    basis: Tensor
    window: Tensor
    bands: Tensor

    def __init__(self, rate: int, hop: int) -> None:
        super().__init__()
        self.hop = hop
        self.register_buffer("basis", cosines(hop)[: round(2 * EDGE * hop / rate)], persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        self.register_buffer("bands", _bands(rate) / self.window.pow(2).sum(), persistent=False)

    @property
    def size(self) -> int:
        """Values a frame."""
        return len(self.basis) + len(self.bands)

    def forward(self, x: Tensor) -> Tensor:
        """The outline ``[B, D, F]`` of `x` ``[B, 1, T]`` of whole frames."""
        frames = functional.pad(x[:, 0], (WINDOW - self.hop, 0)).unfold(-1, WINDOW, self.hop) * self.window
        power = torch.fft.rfft(frames).abs().pow(2) @ self.bands.t()
        levels = LEVEL * (power + FLOOR).pow(EXPONENT / 2) - OFFSET
        return torch.cat([LOW * self.low(x), levels.transpose(1, 2)], dim=1)

    def low(self, x: Tensor) -> Tensor:
        """The lowest coefficients ``[B, K, F]`` of `x` ``[B, 1, T]``."""
        return (x.view(len(x), -1, self.hop) @ self.basis.t()).transpose(1, 2)

    def difference(self, output: Tensor, target: Tensor) -> Tensor:
        """How far waveforms ``[B, 1, T]`` are apart below the edge: a mean over coefficients, soft frames raised."""
        reference = self.low(target)
        level = reference.pow(2).mean(dim=1, keepdim=True).sqrt()
        return ((self.low(output) - reference).abs() / (level + SOFT).sqrt()).mean()


def distance(latent: Tensor, outline: Tensor, groups: int, late: int) -> Tensor:
    """Squared distance a frame of latent frames ``[B, D, F]`` to an outline ``[B, D', F]``.

    Args:
        latent: Where they have more channels than the outline, the last aim at zero; where fewer, its end is left out.
        outline: Dealt out to the groups of a grouped quantiser, so that each has a share of low and high.
        groups: Their number.
        late: Frames by which the latent ones come later.
    """
    room = latent.shape[1]
    wanted = functional.pad(outline[:, :room], (late, 0, 0, room - min(room, outline.shape[1])))
    frames = min(wanted.shape[-1], latent.shape[-1])
    dealt = wanted.view(len(wanted), room // groups, groups, -1).transpose(1, 2).flatten(1, 2)
    squares: Tensor = (latent[..., :frames] - dealt[..., :frames]).pow(2).sum(dim=1)
    return squares.mean()


def _bands(rate: int) -> Tensor:
    """Means over the bins of each band, ``[BANDS, WINDOW // 2 + 1]``."""
    edges = torch.linspace(_mel(EDGE), _mel(rate / 2), BANDS + 1)
    bins = torch.tensor([_mel(index * rate / WINDOW) for index in range(WINDOW // 2 + 1)])
    inside = ((bins >= edges[:-1, None]) & (bins < edges[1:, None])).float()
    return inside / inside.sum(dim=1, keepdim=True)


def _mel(frequency: float) -> float:
    return math.log1p(frequency / 700)
