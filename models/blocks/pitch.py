"""How high a voice is, every 5 ms: for models that hear pitch beside units."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor
from torch.nn import functional

RATE, HOP = 16_000, 80
LOWEST, HIGHEST = 60.0, 400.0
WINDOW = 400
"""Samples that are compared with those a period later: 25 ms."""
VOICED = 0.5
"""Correlation from which on a frame counts as voiced."""
LOUD = 0.02
"""Of the loudest frame: quieter ones are unvoiced."""
OCTAVE = 0.02
"""By how much the correlation at half a pitch must be higher to be believed."""


def track(samples: Tensor) -> Tensor:
    """Fundamental frequency ``[ceil(T / 80)]`` in Hz of `samples` ``[T]`` at 16 kHz; 0 where a frame is unvoiced.

    The peak of the normalised cross-correlation of a window with later ones (Talkin 1995, section 2), smoothed by a
    median over 5 frames. Frame ``f`` is centred on sample ``80 f``.
    """
    longest, shortest = int(RATE / LOWEST), int(RATE / HIGHEST)
    frames = -(-len(samples) // HOP)
    side = (WINDOW + longest) // 2
    padded = functional.pad(samples.double(), (side, side + HOP))
    heard = padded.unfold(0, WINDOW + longest, HOP)[:frames]
    first = heard[:, :WINDOW]
    size = 2048  # holds the window and the longest lag, so that nothing wraps around
    spectra = torch.fft.rfft(first, size).conj() * torch.fft.rfft(heard, size)
    product = torch.fft.irfft(spectra, size)[:, : longest + 1]
    energy = functional.pad(heard.square().cumsum(dim=1), (1, 0))
    later = (energy[:, WINDOW:] - energy[:, :-WINDOW]).clamp(min=0)
    level = later[:, :1]
    correlation = product / (level * later + 1e-12).sqrt()
    lags = torch.arange(longest + 1, device=samples.device)
    score = correlation - OCTAVE * torch.log2(lags.clamp(min=1) / shortest)
    best = score[:, shortest:].argmax(dim=1) + shortest
    voiced = (correlation.gather(1, best[:, None])[:, 0] > VOICED) & (level[:, 0] > LOUD**2 * level.max() + 1e-9)
    found = torch.where(voiced, RATE / best, 0.0)
    return functional.pad(found[None], (2, 2), mode="replicate")[0].unfold(0, 5, 1).median(dim=1).values.float()


def of_units(pitch: Tensor, durations: Tensor, frames: int) -> Tensor:
    """The mean pitch ``[N]`` in Hz of the voiced frames of each unit; 0 where it has none.

    Args:
        pitch: ``[P]`` as of `track`, cut, or extended with its last, to fit.
        durations: Of the units ``[N]``, in frames of their own.
        frames: How many of `pitch` make one of those.
    """
    total = frames * int(durations.sum())
    whole = torch.cat([pitch[:total], pitch[-1:].expand(max(0, total - len(pitch)))])
    unit = torch.repeat_interleave(torch.arange(len(durations), device=pitch.device), durations * frames)
    sums = torch.zeros(len(durations), device=pitch.device).index_add(0, unit, whole)
    counts = torch.zeros(len(durations), device=pitch.device).index_add(0, unit, (whole > 0).float())
    return sums / counts.clamp(min=1)


def normalised(pitch: Tensor) -> Tensor:
    """`pitch` ``[N]`` in Hz as its natural logarithm less the mean of the voiced: 0 stays where nothing is voiced.

    Between voiced ones the unvoiced are interpolated; before the first and after the last they stay 0.
    """
    voiced = (pitch > 0).nonzero()[:, 0]
    if not len(voiced):
        return torch.zeros_like(pitch)
    mean = pitch[voiced].log().mean()
    if len(voiced) == 1:
        return torch.where(pitch > 0, pitch.clamp(min=1e-9).log() - mean, 0.0)
    places = torch.arange(len(pitch), device=pitch.device)
    after = torch.searchsorted(voiced, places).clamp(1, len(voiced) - 1)
    left, right = voiced[after - 1], voiced[after]
    share = (places - left) / (right - left)
    filled = pitch[left] + share * (pitch[right] - pitch[left])
    within = (places >= voiced[0]) & (places <= voiced[-1])
    return torch.where(within, filled.clamp(min=1e-9).log() - mean, 0.0)


def bins(count: int, spread: float = log(1.5)) -> Tensor:
    """Edges ``[count - 1]`` between `count` bins of heights, where none are given: even, up to `spread` each way."""
    return torch.linspace(-spread, spread, count - 1)
