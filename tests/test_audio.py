"""Clips and the one resampler."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecbench.audio import Clip, fit_length, resample, resampler_signature

RATES = (8000, 11025, 16000, 22050, 24000, 44100, 48000, 96000)


def noise(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, length).astype(np.float32)


@pytest.mark.parametrize("rate", RATES)
def test_equal_rates_touch_nothing(rate: int) -> None:
    samples = noise(100)
    assert resample(samples, rate, rate) is samples


@given(st.sampled_from(RATES), st.sampled_from(RATES), st.integers(1, 3000))
def test_length_is_the_rounded_ratio(rate_from: int, rate_to: int, length: int) -> None:
    assert resample(noise(length)[None], rate_from, rate_to).shape == (1, round(length * rate_to / rate_from))


@pytest.mark.parametrize("rate", [24000, 44100, 48000, 96000])
def test_up_and_down_again_loses_nothing_within_the_passband(rate: int) -> None:
    spectrum = np.fft.rfft(noise(16000))
    spectrum[int(0.9 * len(spectrum)) :] = 0
    samples = np.fft.irfft(spectrum).astype(np.float32)
    error = resample(resample(samples, 16000, rate), rate, 16000) - samples
    middle = slice(500, -500)  # the filters ring at the ends of a clip
    assert 10 * np.log10(np.sum(samples[middle] ** 2) / np.sum(error[middle] ** 2)) > 70


def test_channels_are_resampled_alike() -> None:
    stereo = np.stack([noise(1000, 1), noise(1000, 2)])
    both = resample(stereo, 16000, 24000)
    assert np.array_equal(both[1], resample(stereo[1], 16000, 24000))
    assert both.flags.c_contiguous


def test_the_signature_names_the_resampler_and_its_version() -> None:
    assert resampler_signature().startswith("soxr-1.")


def test_fit_length_cuts_or_adds_zeros_at_the_end() -> None:
    samples = np.ones((1, 3), np.float32)
    assert fit_length(samples, 2).tolist() == [[1, 1]]
    assert fit_length(samples, 4).tolist() == [[1, 1, 1, 0]]


@pytest.mark.parametrize("samples", [np.zeros(5, np.float32), np.zeros((1, 5)), np.zeros((1, 5), np.int16)])
def test_a_clip_is_float32_with_channels(samples: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"float32 \[C, T\]"):
        Clip(samples, 16000)
