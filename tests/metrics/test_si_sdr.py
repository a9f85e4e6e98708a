import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from codecbench.metrics.base import Alignment, Failed, Output, Reference, Value, evaluate
from codecbench.metrics.conformance import signals
from codecbench.metrics.si_sdr import METRICS, advance, ratio

SPEECH = signals.speech(1.0)
Samples = NDArray[np.float32]


def delayed(samples: Samples, delay: float) -> Samples:
    """Band-limited delay by a sum of shifted sincs: another way than the one under test."""
    reach = 400
    taps = np.arange(-reach, reach + 1)
    kernel = np.sinc(taps - delay) * np.hanning(2 * reach + 3)[1:-1]
    return np.convolve(samples, kernel)[reach : reach + len(samples)].astype(np.float32)


def smooth(length: int) -> Samples:
    """Noise without its top fifth, which a windowed sinc does not carry, and with silence at its ends."""
    spectrum = np.fft.rfft(signals.noise(length))
    spectrum[int(0.8 * len(spectrum)) :] = 0
    window = np.clip(np.minimum(np.arange(length), np.arange(length)[::-1]) / 500 - 2, 0, 1)
    return (0.1 * window * np.fft.irfft(spectrum, length)).astype(np.float32)


def scores(reference: Samples, output: Samples, alignment: Alignment | None = None) -> tuple[Value, Value]:
    pair = Reference(reference, 16_000), Output(output, 16_000, alignment=alignment)
    raw, aligned = METRICS
    return evaluate(raw, *pair), evaluate(aligned, *pair)


@pytest.mark.parametrize("decibels", [-10, 0, 10, 40])
def test_noise_at_a_right_angle_gives_its_ratio_exactly(decibels: int) -> None:
    reference = SPEECH.astype(np.float64)
    noise = signals.noise(len(reference)).astype(np.float64)
    noise -= (noise @ reference) / (reference @ reference) * reference
    noise *= np.sqrt(reference @ reference / (noise @ noise)) * 10 ** (-decibels / 20)
    assert ratio(SPEECH, (reference + noise).astype(np.float32)) == pytest.approx(decibels, abs=1e-3)


@settings(max_examples=50)
@given(st.floats(0.01, 100), st.sampled_from([1, -1]), st.floats(-10, 40))
def test_gain_and_polarity_drop_out(gain: float, polarity: int, decibels: float) -> None:
    noisy = signals.at_snr(SPEECH, decibels)
    assert ratio(SPEECH, np.float32(gain * polarity) * noisy) == pytest.approx(ratio(SPEECH, noisy), abs=1e-3)


def test_the_cap_is_the_value_of_an_output_equal_but_for_rounding() -> None:
    assert ratio(SPEECH, SPEECH * np.float32(0.3)) == 100
    assert ratio(SPEECH, signals.at_snr(SPEECH, 95)) == pytest.approx(95, abs=0.1)


@pytest.mark.parametrize("delay", [5.0, -5.0, 0.5, 12.3, -7.75, 200.0])
def test_alignment_removes_the_systems_delay(delay: float) -> None:
    reference = smooth(16_000)
    raw, aligned = scores(reference, delayed(reference, delay), Alignment(delay, -1, -6.0, 16_000))
    assert raw.value is not None
    assert aligned.value is not None
    assert raw.value < 10
    assert aligned.value > 60


def test_a_delay_counted_at_another_rate() -> None:
    reference = smooth(16_000)
    late = signals.late(reference, 5)
    aligned = scores(reference, late, Alignment(15.0, sample_rate=48_000))[1]
    assert aligned.value is not None
    assert aligned.value > 90


def test_what_the_delay_pushed_out_is_not_compared() -> None:
    """The output of a late system ends before the reference does: its last samples are lost, not wrong."""
    late = signals.late(SPEECH, 1_000)
    aligned = scores(SPEECH, late, Alignment(1_000.0, sample_rate=16_000))[1]
    assert aligned.value is not None
    assert aligned.value > 90


def test_without_a_delay_both_are_the_same() -> None:
    raw, aligned = scores(SPEECH, signals.at_snr(SPEECH, 10))
    assert raw == aligned


def test_failures() -> None:
    assert scores(SPEECH, SPEECH, Alignment(20_000.0, sample_rate=16_000))[1] == Value("failed", "delay_exceeds_clip")
    half = np.zeros(100, dtype=np.float32)
    half[:50] = 1
    with pytest.raises(Failed, match="output_uncorrelated"):
        ratio(half, 1 - half)


@settings(max_examples=30)
@given(st.floats(-50, 50))
def test_advance_is_undone_by_its_negative(delay: float) -> None:
    samples = smooth(4_000)
    there = advance(samples, delay).astype(np.float32)
    assert advance(there, -delay) == pytest.approx(samples, abs=1e-4)
