"""The short-time spectrum that the spectral metrics share, computed once a signal and setting."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from codecbench.metrics.base import Signal, Undefined

Spectrum: TypeAlias = NDArray[np.float32]
"""Magnitudes ``[F, bins]``."""


def hann(window: int) -> NDArray[np.float32]:
    """The periodic Hann window of `window` samples."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)).astype(np.float32)


def magnitudes(signal: Signal, rate: int, window: int, hop: int) -> Spectrum:
    """Magnitudes ``[1 + T // hop, 1 + window // 2]`` of the signal at `rate` Hz: Hann window, no scaling.

    Frame ``f`` is centred on sample ``f * hop``; the signal is reflected at its ends.

    Raises:
        Undefined: ``too_short``: the signal does not fill one window.
    """
    samples = signal.at(rate)
    if len(samples) < window:
        raise Undefined("too_short")

    def compute() -> Spectrum:
        padded = np.pad(samples, window // 2, mode="reflect")
        frames = sliding_window_view(padded, window)[::hop] * hann(window)
        return np.abs(np.fft.rfft(frames, axis=-1)).astype(np.float32)

    return signal.memo(f"stft {rate} {window} {hop}", compute)


def levels(signal: Signal, rate: int, window: int, hop: int) -> Spectrum:
    """`magnitudes` scaled so that a sine of full scale has 1 in its bin."""
    return magnitudes(signal, rate, window, hop) * np.float32(4 / window)
