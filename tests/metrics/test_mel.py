from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from codecbench.metrics import stft
from codecbench.metrics.base import Output, Reference, Undefined
from codecbench.metrics.conformance import signals
from codecbench.metrics.mel import filterbank, mel, mel_ms

NOISE = signals.noise(16_000)
Samples = NDArray[np.float32]


def pair(reference: Samples, output: Samples, rate: int = 16_000) -> tuple[Reference, Output]:
    return Reference(reference, rate), Output(output, rate)


@settings(max_examples=20)
@given(st.floats(-12, 12))
def test_a_gain_moves_every_band_by_its_logarithm(decibels: float) -> None:
    """White noise lies above the clip in every band."""
    louder = NOISE * np.float32(10 ** (decibels / 20))
    assert mel(*pair(NOISE, louder)) == pytest.approx(abs(decibels) * np.log(10) / 20, abs=1e-5)


@pytest.mark.parametrize("distance", [mel, mel_ms])
def test_symmetric(distance: type) -> None:
    other = signals.speech(1.0)
    assert distance(*pair(NOISE, other)) == pytest.approx(distance(*pair(other, NOISE)), rel=1e-12)


def test_the_scales_of_mel_ms_by_hand() -> None:
    """With twice the amplitude each scale adds ``2 log10 2`` and the mean mel magnitude of the reference."""
    reference, output = pair(NOISE, 2 * NOISE)
    means = [
        float(np.mean(stft.magnitudes(reference, 16_000, window, window // 4) @ filterbank(16_000, window, bands)))
        for window, bands in ((2048, 150), (512, 80))
    ]
    assert mel_ms(reference, output) == pytest.approx(4 * np.log10(2) + sum(means), rel=1e-5)


def test_bands_between_the_bins_are_empty_and_warn_nobody() -> None:
    filters = filterbank.__wrapped__(96_000, 512, 80)
    assert filters.shape == (257, 80)
    assert not filters.any(axis=0).all()
    assert filterbank(16_000, 2048, 80).any(axis=0).all()


def test_the_references_spectrum_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    transform, calls = np.fft.rfft, []

    def counted(frames: Samples, axis: int) -> Any:
        calls.append(len(frames))
        return transform(frames, axis=axis)

    monkeypatch.setattr(np.fft, "rfft", counted)
    reference = Reference(NOISE, 16_000)
    for _ in range(3):
        mel(reference, Output(NOISE * np.float32(0.5), 16_000))
    assert len(calls) == 4  # one reference, three outputs


def test_a_recording_shorter_than_the_window_is_undefined() -> None:
    with pytest.raises(Undefined, match="too_short"):
        mel_ms(*pair(NOISE[:2047], NOISE[:2047]))
    assert mel_ms(*pair(NOISE[:2048], NOISE[:2048])) == 0
