import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from codecbench.metrics.base import Output, Reference, Signal
from codecbench.metrics.conformance import signals
from codecbench.metrics.spectral import cepstrum, lsd, mcd
from codecbench.metrics.stft import levels

NOISE = signals.noise(16_000) * np.float32(0.1)
Samples = NDArray[np.float32]


def pair(reference: Samples, output: Samples) -> tuple[Reference, Output]:
    return Reference(reference, 16_000), Output(output, 16_000)


def test_a_sine_of_full_scale_has_level_1_in_its_bin() -> None:
    sine = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000).astype(np.float32)
    assert levels(Signal(sine, 16_000), 16_000, 2048, 512)[10, 128] == pytest.approx(1, abs=1e-4)


@settings(max_examples=20)
@given(st.floats(-20, 20))
def test_a_gain_is_the_log_spectral_distance_and_no_cepstral_distortion(decibels: float) -> None:
    louder = NOISE * np.float32(10 ** (decibels / 20))
    assert lsd(*pair(NOISE, louder)) == pytest.approx(abs(decibels), abs=0.01)  # a rare bin is clipped
    assert mcd(*pair(NOISE, louder)) == pytest.approx(0, abs=1e-3)


def test_symmetric() -> None:
    other = signals.speech(1.0)
    assert lsd(*pair(NOISE, other)) == pytest.approx(lsd(*pair(other, NOISE)), rel=1e-6)
    assert mcd(*pair(NOISE, other)) == pytest.approx(mcd(*pair(other, NOISE)), rel=1e-6)


def test_levels_below_100_db_are_silence() -> None:
    tone = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)).astype(np.float32)
    faint = signals.noise(16_000) * np.float32(1e-7)
    assert lsd(*pair(tone, tone + faint)) < 0.01


def test_mcd_is_the_rms_difference_in_db_of_the_smoothed_mel_spectra() -> None:
    """Parseval: rebuild both log spectra from coefficients 1 to 13, and take the RMS over the 40 bands."""
    reference, output = pair(NOISE, signals.speech(1.0))
    angles = np.pi * np.outer(np.arange(1, 14), np.arange(40) + 0.5) / 40
    rebuilt = [10 / np.log(10) * 2 * cepstrum(signal) @ np.cos(angles) for signal in (reference, output)]
    expected = np.sqrt(np.mean((rebuilt[0] - rebuilt[1]) ** 2, axis=1)).mean()
    assert mcd(reference, output) == pytest.approx(expected, rel=1e-5)
