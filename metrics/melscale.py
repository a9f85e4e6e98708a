"""The mel filters and mel power spectra that two published models were trained on, in numpy alone.

Slaney's mel scale (Auditory Toolbox, 1998): linear below 1 kHz, 15 mel, and logarithmic above, a factor of 6.4 in
27 mel. Each filter is a triangle over Hz of unit area.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from codecbench.audio import Audio

KNEE_HZ = 1000.0
KNEE_MEL = 15.0
MELS_PER_E = 27 / np.log(6.4)


def _to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    above = KNEE_HZ * np.exp((np.maximum(mel, KNEE_MEL) - KNEE_MEL) / MELS_PER_E)
    return np.where(mel < KNEE_MEL, mel * KNEE_HZ / KNEE_MEL, above)


@cache
def filterbank(rate: int, window: int, bands: int) -> NDArray[np.float32]:
    """Filters ``[1 + window // 2, bands]`` from 0 Hz to the Nyquist frequency, for a `window` even or odd."""
    top = KNEE_MEL + MELS_PER_E * np.log(rate / 2 / KNEE_HZ)
    edges = _to_hz(np.linspace(0, top, bands + 2))
    bins = np.arange(1 + window // 2)[:, None] * rate / window
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    triangles = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
    return np.asarray(np.maximum(triangles, 0) * 2 / (high - low), dtype=np.float32)


def mel_power(samples: Audio, rate: int, window: int, hop: int, bands: int) -> NDArray[np.float32]:
    """Mel power spectrum ``[1 + T // hop, bands]`` of `samples` ``[T]`` at `rate` Hz: periodic Hann window, no scaling.

    Frame ``f`` is centred on sample ``f * hop``; zeros surround the signal.
    """
    hann = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)).astype(np.float32)
    frames = sliding_window_view(np.pad(samples, window // 2), window)[::hop] * hann
    power = np.abs(np.fft.rfft(frames, axis=-1)) ** 2
    return np.asarray(power @ filterbank(rate, window, bands), dtype=np.float32)
