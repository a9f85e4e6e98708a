"""Loudness of a clip as DAC's release measures it, after ITU-R BS.1770-4."""

from __future__ import annotations

from math import cos, log10, pi, sin, sqrt

import numpy as np
from numpy.typing import NDArray

from codecbench.audio import Audio

FLOOR = -70.0
"""In LUFS: quieter blocks do not count, and no clip is quieter."""


def loudness(samples: Audio, rate: int) -> float:
    """Gated loudness in LUFS, at least `FLOOR`, of one channel of `samples` ``[T]`` at `rate` Hz.

    Blocks of 0.4 s begin every 0.1 s. Other than in the standard, zeros complete the last one and clips below 0.5 s,
    and the filters are second-order shelf and high-pass filters of round frequencies, as in pyloudnorm.
    """
    from scipy.signal import lfilter

    block, step = int(0.4 * rate), int(0.4 * rate * 0.25)
    length = max(len(samples), int(0.5 * rate))
    missing = -(length - block) % step
    weighted = np.pad(samples.astype(np.float64), (0, length + missing - len(samples)))
    for numerator, denominator in (_shelf(rate), _high_pass(rate)):
        weighted = lfilter(numerator, denominator, weighted)
    weighted[length:] = 0  # no block hears the filters ring on after the end
    blocks = np.lib.stride_tricks.sliding_window_view(weighted, block)[::step]
    powers = np.square(blocks).sum(1) / (0.4 * rate)
    powers = powers[powers > _power(FLOOR)]
    if powers.size:
        powers = powers[powers > powers.mean() * 0.1]
    return max(FLOOR, _level(float(powers.mean()))) if powers.size else FLOOR


def _level(power: float) -> float:
    return -0.691 + 10 * log10(power)


def _power(level: float) -> float:
    return float(10 ** ((level + 0.691) / 10))


def _shelf(rate: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Numerator and denominator of a shelf of 4 dB above 1500 Hz (Audio EQ Cookbook, Q of 1/√2)."""
    gain, omega = 10 ** (4 / 40), 2 * pi * 1500 / rate
    c, slope = cos(omega), sqrt(gain) * sin(omega) * sqrt(2)
    plus, minus = gain + 1, gain - 1
    numerator = gain * np.array([plus + minus * c + slope, -2 * (minus + plus * c), plus + minus * c - slope])
    denominator = np.array([plus - minus * c + slope, 2 * (minus - plus * c), plus - minus * c - slope])
    return numerator, denominator


def _high_pass(rate: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Numerator and denominator of a high-pass filter at 38 Hz (Audio EQ Cookbook, Q of 0.5)."""
    omega = 2 * pi * 38 / rate
    c, alpha = cos(omega), sin(omega)
    return np.array([1 + c, -2 * (1 + c), 1 + c]) / 2, np.array([1 + alpha, -2 * c, 1 - alpha])
