"""The pitch classes of a recording, as MusicGen (arXiv:2306.05284, section 2.3) hears a melody."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

CLASSES = 12
WINDOW, HOP = 16_384, 4_096
"""Samples, at 32 kHz, of a spectrum and from one to the next."""
LOWEST = 27.5
"""Hz of the A from which octaves are counted."""
CENTRE, WIDTH = 5.0, 2.0
"""Octaves: what is loudest in the weighting of the spectrum, and its deviation."""


@cache
def filters(rate: int) -> Tensor:
    """How much each bin of a spectrum belongs to each pitch class ``[12, WINDOW / 2 + 1]``, from C on.

    A Gaussian around each pitch, as wide as a bin or half a semitone; then a wide one over all octaves.
    """
    bins = torch.arange(1, WINDOW, dtype=torch.float64) * rate / WINDOW
    semitones = CLASSES * torch.log2(bins / LOWEST)
    semitones = torch.cat([semitones[:1] - 1.5 * CLASSES, semitones])  # 0 Hz has no pitch: far below, between two
    spacing = functional.pad(semitones.diff().clamp(min=1), (0, 1), value=1.0)
    distance = semitones - torch.arange(CLASSES)[:, None]
    distance = (distance + CLASSES / 2) % CLASSES - CLASSES / 2
    gains = functional.normalize(torch.exp(-0.5 * (2 * distance / spacing) ** 2), dim=0)
    gains = gains * torch.exp(-0.5 * ((semitones / CLASSES - CENTRE) / WIDTH) ** 2)
    return gains.roll(-3, dims=0)[:, : WINDOW // 2 + 1].float()


def chroma(samples: Tensor, rate: int) -> Tensor:
    """The loudest pitch class of each frame, as one of 12 that is 1: ``[1 + T / HOP, 12]`` of `samples` ``[T]``.

    Of equally loud ones, as in silence, the first. What is shorter than a window stands in the middle of zeros.
    """
    missing = max(0, WINDOW - len(samples))
    padded = functional.pad(samples, (missing // 2, missing - missing // 2))
    window = torch.hann_window(WINDOW, device=samples.device)
    spectrum = torch.stft(padded, WINDOW, HOP, window=window, return_complex=True) / window.square().sum().sqrt()
    loudness = filters(rate).to(samples.device) @ spectrum.abs().square()
    return functional.one_hot(loudness.argmax(dim=0), CLASSES).to(samples.dtype)
