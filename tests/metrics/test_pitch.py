import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from codecbench.metrics.base import Output, Reference, Value, evaluate
from codecbench.metrics.conformance import signals
from codecbench.metrics.pitch import METRICS, track

SPEECH = signals.speech()
CORR, RMSE, VUV = METRICS
Samples = NDArray[np.float32]


def tone(hertz: float | NDArray[np.float64], seconds: float = 1.0) -> Samples:
    """Ten harmonics of a fundamental that may change with time."""
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(hertz, round(seconds * 16_000))) / 16_000
    return np.asarray(0.2 * sum(np.sin(k * phase) / k for k in range(1, 11)), dtype=np.float32)


def hiss(length: int, seed: int = 1) -> Samples:
    return np.asarray(signals.noise(length, seed) * 0.1, dtype=np.float32)


def outcomes(reference: Samples, output: Samples) -> list[Value]:
    return [evaluate(metric, Reference(reference, 16_000), Output(output, 16_000)) for metric in METRICS]


@settings(max_examples=25)
@given(st.floats(80, 580))
def test_a_constant_pitch_is_found_to_5_cents(hertz: float) -> None:
    pitch = track(tone(hertz, 0.5))
    assert len(pitch) == 47
    assert 1200 * np.abs(np.log2(pitch / hertz)).max() < 5


def test_a_gliding_pitch_is_found_frame_by_frame() -> None:
    glide = 100 * 4 ** (np.arange(32_000) / 32_000)
    pitch = track(tone(glide, 2.0))
    truth = glide[320 + 160 * np.arange(len(pitch))]
    assert 1200 * np.abs(np.log2(pitch / truth)).max() < 10


def test_noise_is_unvoiced_and_gain_does_not_matter() -> None:
    assert np.mean(track(hiss(16_000)) > 0) < 0.05
    assert np.array_equal(track(SPEECH), track(SPEECH * np.float32(0.25)))
    assert np.array_equal(track(SPEECH) > 0, track(-SPEECH) > 0)


def test_a_transposed_output_is_off_by_that_many_cents_and_fully_correlated() -> None:
    glide = 120 * 2 ** (np.arange(16_000) / 16_000)
    corr, rmse, vuv = outcomes(tone(glide), tone(glide * 2 ** (50 / 1200)))
    assert corr.value == pytest.approx(1, abs=1e-3)
    assert rmse.value == pytest.approx(50, abs=1)
    assert vuv.value == 0


def test_half_of_the_voicing_lost() -> None:
    whole = tone(150 * 2 ** (np.arange(16_000) / 32_000))
    half = whole.copy()
    half[8_000:] = hiss(8_000)
    corr, rmse, vuv = outcomes(whole, half)
    assert corr.value == pytest.approx(1, abs=1e-3)
    assert rmse.value == pytest.approx(0, abs=5)
    assert vuv.value == pytest.approx(0.5, abs=0.04)


def test_an_unvoiced_reference_is_undefined_but_its_voicing_is_not() -> None:
    corr, rmse, vuv = outcomes(hiss(16_000), tone(150))
    assert corr == rmse == Value("undefined", "ref_unvoiced")
    assert vuv.value == pytest.approx(1, abs=0.05)


def test_an_unvoiced_output_fails_but_its_voicing_error_is_a_number() -> None:
    flat = np.full(16_000, 0.1, dtype=np.float32)
    flat[::4_000] = -0.1
    corr, rmse, vuv = outcomes(tone(150), flat)
    assert corr == rmse == Value("failed", "output_unvoiced")
    assert vuv.value == 1


def test_few_common_frames() -> None:
    voiced_late = hiss(16_000)
    voiced_late[12_000:] = tone(150, 0.25)
    reference = tone(150)
    reference[13_200:] = hiss(2_800)
    corr, rmse, vuv = outcomes(reference, voiced_late)
    assert corr == rmse == Value("failed", "few_common_frames")
    assert vuv.status == "ok"


def test_a_monotone_has_no_correlation_but_an_error() -> None:
    glide = tone(120 * 2 ** (np.arange(16_000) / 16_000))
    corr, rmse, _ = outcomes(tone(160), glide)
    assert corr == Value("undefined", "ref_monotone")
    assert rmse.status == "ok"
    assert outcomes(glide, tone(160))[0] == Value("failed", "output_monotone")


def test_too_short_for_one_frame() -> None:
    for value in outcomes(SPEECH[8_000:8_600], SPEECH[8_000:8_600]):
        assert value == Value("undefined", "too_short")
