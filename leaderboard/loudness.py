"""Loudness after ITU-R BS.1770-5, so that a listener can compare recordings at equal loudness."""

from __future__ import annotations

from math import log10, pi, tan

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]
SHELF = (1681.974450955533, 0.7071752369554196, 3.999843853973347)
"""Frequency in Hz, quality and gain in dB of the first stage of the K-weighting, which make the table of the
standard's annex 1 at 48 kHz."""
HIGH_PASS = (38.13547087602444, 0.5003270373238773)
"""Frequency in Hz and quality of its second stage."""
GATE, RELATIVE_GATE = -70.0, -10.0


def loudness(samples: Samples, rate: int) -> float | None:
    """Integrated loudness in LUFS of one channel of `samples` ``[T]``, full scale ±1, at `rate` Hz.

    Gated as the standard says: blocks of 0.4 s, three quarters of each shared with the next, first those above
    -70 LUFS, then those above 10 LU below their mean. Samples shorter than one block are one block.

    Returns:
        None where no block passes the first gate: silence has no loudness.
    """
    from scipy.signal import lfilter

    if not len(samples):
        return None
    weighted = samples
    for numerator, denominator in (_shelf(rate), _high_pass(rate)):
        weighted = lfilter(numerator, denominator, weighted)
    block = min(round(0.4 * rate), len(samples))
    windows = np.lib.stride_tricks.sliding_window_view(weighted, block)[:: max(1, round(0.1 * rate))]
    powers = np.square(windows).mean(1)
    powers = powers[powers > _power(GATE)]
    if not powers.size:
        return None
    powers = powers[powers > powers.mean() * 10 ** (RELATIVE_GATE / 10)]
    return -0.691 + 10 * log10(float(powers.mean()))


def _power(level: float) -> float:
    return float(10 ** ((level + 0.691) / 10))


def _shelf(rate: int) -> tuple[Samples, Samples]:
    frequency, quality, gain = SHELF
    k, high = tan(pi * frequency / rate), 10 ** (gain / 20)
    middle = high**0.4996667741545416
    return _filter(
        (high + middle * k / quality + k * k, 2 * (k * k - high), high - middle * k / quality + k * k), k, quality
    )


def _high_pass(rate: int) -> tuple[Samples, Samples]:
    frequency, quality = HIGH_PASS
    k = tan(pi * frequency / rate)
    numerator, denominator = _filter((1.0, -2.0, 1.0), k, quality)
    return numerator * (1 + k / quality + k * k), denominator  # its numerator is 1, -2, 1 in the standard


def _filter(numerator: tuple[float, float, float], k: float, quality: float) -> tuple[Samples, Samples]:
    """A second-order section by the bilinear transform, with the denominator that both stages share."""
    first = 1 + k / quality + k * k
    return np.array(numerator) / first, np.array([1.0, 2 * (k * k - 1) / first, (1 - k / quality + k * k) / first])
