"""Spectral distances in dB.

- ``lsd``, log-spectral distance (Gray and Markel 1976): the RMS difference of two log power spectra over the bins of
  a frame, averaged over frames. Window 2048, hop 512, at the dataset's own rate. Bins below -100 dB of full scale
  count as -100 dB, so that digital silence and 16-bit noise agree.
- ``mcd``, mel-cepstral distortion (Kubichek 1993), with the usual factor ``10 / ln 10 * sqrt(2)``: cepstral
  coefficients 1 to 13 of 40 mel bands up to 8 kHz, window 512, hop 128, averaged over frames. Coefficient 0, the
  level, is left out. There is no time warping: output and reference are parallel. With this factor the value is the
  RMS difference in dB of the two smoothed mel spectra.

How to read them: 0 dB is identical, lower is better, there is no upper end. ``lsd`` counts every bin alike, so a codec
that cuts the upper band scores badly at high sample rates; ``mcd`` looks at the spectral envelope below 8 kHz alone.
Published MCD values differ in their cepstra (order, warping, frames); compare within this benchmark only.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from codecbench.metrics.base import SPEECH, Metric, Output, Reference, Signal, require_sound
from codecbench.metrics.mel import filterbank
from codecbench.metrics.stft import levels

SILENCE = np.float32(1e-10)
"""The power of -100 dB."""
RATE, BANDS, ORDER = 16_000, 40, 13


def _log_power(signal: Signal) -> NDArray[np.float32]:
    """Power in dB ``[F, bins]``."""
    return signal.memo(
        "lsd", lambda: 10 * np.log10(np.maximum(levels(signal, signal.sample_rate, 2048, 512) ** 2, SILENCE))
    )


def lsd(reference: Reference, output: Output) -> float:
    """Log-spectral distance in dB, from 0 up."""
    require_sound(reference, output)
    difference = _log_power(reference) - _log_power(output)
    return float(np.sqrt(np.mean(difference**2, axis=1)).mean())


def cepstrum(signal: Signal) -> NDArray[np.float32]:
    """Mel cepstrum ``[F, 13]``: ``ln P = c0 + 2 * sum of c_d * cos(...)`` over the mel bands' powers ``P``."""
    from scipy.fft import dct

    def compute() -> NDArray[np.float32]:
        power = levels(signal, RATE, 512, 128) ** 2 @ filterbank(RATE, 512, BANDS, norm=None)
        coefficients = dct(np.log(np.maximum(power, SILENCE)), axis=1) / (2 * BANDS)
        return np.asarray(coefficients[:, 1 : ORDER + 1])

    return signal.memo("mcd", compute)


def mcd(reference: Reference, output: Output) -> float:
    """Mel-cepstral distortion in dB, from 0 up."""
    require_sound(reference, output)
    difference = cepstrum(reference) - cepstrum(output)
    return float(10 / np.log(10) * np.sqrt(2 * np.sum(difference**2, axis=1)).mean())


def _mcd_parts() -> Mapping[str, str]:
    bank = f"torchaudio-{version('torchaudio')}-peak1"
    return {"fb": bank, "rate": "16k", "win": "512", "hop": "128", "bands": str(BANDS), "order": f"1-{ORDER}"}


METRICS = (
    Metric(
        "lsd", "Log-spectral distance", "dB", "lower", lsd, perfect=0.0,
        parts=lambda: {"win": "2048", "hop": "512", "clip": "-100dB", "rate": "native"},
    ),
    Metric("mcd", "Mel-cepstral distortion", "dB", "lower", mcd, parts=_mcd_parts, perfect=0.0, domains=SPEECH),
)  # fmt: skip
