"""Mel distances: how far apart two signals are in their log-mel spectra.

- ``mel``: mean absolute difference of log-mel magnitudes: 80 bands up to the Nyquist frequency, window 1024, hop
  256, natural logarithm of magnitudes of at least 1e-5: the constants of HiFi-GAN's mel loss (Kong et al. 2020), which
  stops at 8 kHz. In nepers: 0.1 Np is 0.87 dB.
- ``mel_ms``: the distance that DAC (Kumar et al. 2023) and Codec-SUPERB print as "mel": audiotools'
  ``MelSpectrogramLoss`` at its defaults. Windows 2048 and 512 with 150 and 80 bands and hops of a quarter window; for
  each, the mean absolute difference of ``log10`` squared magnitudes of at least 1e-5, plus that of the magnitudes.

How to read them: 0 is identical, lower is better, there is no upper end. They see level and spectrum and no phase, so
they suit codecs whose output only sounds like the input. Good neural codecs have a ``mel_ms`` of 0.4 to 1.3. Both
work at the dataset's own rate, so values of datasets with different rates do not compare. Above 48 kHz the lowest bands
fall between the bins of the short window and are empty; such a band adds 0, as in the published definition.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from codecbench.metrics.base import Metric, Output, Reference, Signal, require_sound
from codecbench.metrics.stft import Spectrum, magnitudes

FLOOR = np.float32(1e-5)


@cache
def filterbank(rate: int, window: int, bands: int, norm: Literal["slaney"] | None = "slaney") -> NDArray[np.float32]:
    """Triangular filters ``[1 + window // 2, bands]`` from 0 Hz to the Nyquist frequency on Slaney's mel scale.

    `norm` ``slaney`` gives each filter unit area over Hz, None a peak of 1.
    """
    import warnings

    from codecbench import tolerant_torchaudio

    functional = tolerant_torchaudio.load().functional
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="At least one mel filterbank has all zero values")
        filters = functional.melscale_fbanks(1 + window // 2, 0.0, rate / 2, bands, rate, norm=norm, mel_scale="slaney")
    return np.asarray(filters.numpy(), dtype=np.float32)


def mel_magnitudes(signal: Signal, window: int, hop: int, bands: int) -> Spectrum:
    """Mel magnitudes ``[F, bands]`` at the signal's own rate."""
    rate = signal.sample_rate
    return signal.memo(
        f"mel {window} {hop} {bands}",
        lambda: magnitudes(signal, rate, window, hop) @ filterbank(rate, window, bands),
    )


def _distance(one: Spectrum, other: Spectrum) -> float:
    return float(np.mean(np.abs(one - other), dtype=np.float64))


def _log(mel: Spectrum) -> Spectrum:
    return np.log(np.maximum(mel, FLOOR))


def mel(reference: Reference, output: Output) -> float:
    """Mean absolute difference of log-mel magnitudes in nepers, from 0 up."""
    require_sound(reference, output)
    return _distance(*(_log(mel_magnitudes(signal, 1024, 256, 80)) for signal in (reference, output)))


def mel_ms(reference: Reference, output: Output) -> float:
    """Sum over two scales of the log10 and the linear mel distance, from 0 up."""
    require_sound(reference, output)
    total = 0.0
    for window, bands in ((2048, 150), (512, 80)):
        one, other = (mel_magnitudes(signal, window, window // 4, bands) for signal in (reference, output))
        total += _distance(one, other) + 2 / np.log(10) * _distance(_log(one), _log(other))
    return float(total)


def _parts(**settings: str) -> Mapping[str, str]:
    return {"fb": f"torchaudio-{version('torchaudio')}-slaney", **settings, "clip": "1e-5", "rate": "native"}


METRICS = (
    Metric(
        "mel", "Mel distance", "Np", "lower", mel, perfect=0.0,
        parts=lambda: _parts(win="1024", hop="256", bands="80", log="ln"),
    ),
    Metric(
        "mel_ms", "Mel distance, multi-scale", "", "lower", mel_ms, perfect=0.0,
        parts=lambda: _parts(impl="audiotools-def", win="2048+512", hop="512+128", bands="150+80", log="log10sq"),
    ),
)  # fmt: skip
