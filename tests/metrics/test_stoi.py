"""STOI and ESTOI against the package pystoi, and where the two must not agree."""

import warnings
from unittest.mock import Mock

import numpy as np
import pystoi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from codecbench.audio import resample
from codecbench.metrics import stoi
from codecbench.metrics.base import Output, Reference, Value, evaluate
from codecbench.metrics.conformance import signals

SPEECH = signals.speech()
Samples = NDArray[np.float32]
NOTHING_LEFT = "Not enough STFT frames"


def score(reference: Samples, output: Samples, rate: int = 16_000, metric: int = 0) -> Value:
    return evaluate(stoi.METRICS[metric], Reference(reference, rate), Output(output, rate))


def by_pystoi(reference: Samples, output: Samples, metric: int, rate: int = stoi.RATE) -> float | None:
    """The package's value; None where it says that too little is left."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = pystoi.stoi(reference.astype(float), output.astype(float), rate, extended=bool(metric))
    return None if any(NOTHING_LEFT in str(warning.message) for warning in caught) else float(value)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Samples, Samples]:
    """A reference of noise that swells, with pauses soft and digital, and an output that is more or less like it."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    length = draw(st.integers(4_000, 16_000))
    swell = np.interp(np.arange(length), np.linspace(0, length, 24), generator.uniform(0.0, 1.0, 24))
    reference = generator.standard_normal(length) * swell
    for _ in range(draw(st.integers(0, 3))):
        start = int(generator.integers(0, length))
        reference[start : start + int(generator.integers(1, length // 2))] *= draw(st.sampled_from([0.0, 1e-4, 1e-2]))
    noise = generator.standard_normal(length) * draw(st.sampled_from([1e-3, 0.1, 1.0, 10.0]))
    output = draw(st.sampled_from([-1.0, 0.01, 1.0, 30.0])) * (reference + noise)
    return reference.astype(np.float32), output.astype(np.float32)


@pytest.mark.parametrize("metric", [0, 1])
@settings(max_examples=150)
@given(pair=pairs())
def test_agrees_with_pystoi(metric: int, pair: tuple[Samples, Samples]) -> None:
    outcome, expected = score(*pair, rate=stoi.RATE, metric=metric), by_pystoi(*pair, metric)
    if outcome.reason in ("ref_no_speech", "ref_silent"):  # decided before STOI is asked
        return
    if expected is None:
        assert outcome == Value("undefined", "too_short")
    else:
        assert outcome.value == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("metric", [0, 1])
@pytest.mark.parametrize("case", sorted(signals.cases(SPEECH)))
def test_agrees_with_pystoi_on_what_sounds_like_speech(metric: int, case: str) -> None:
    output = signals.cases(SPEECH)[case]
    expected = by_pystoi(SPEECH, output, metric, 16_000)
    assert score(SPEECH, output, 16_000, metric).value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", [0, 1])
@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 24_000, 44_100, 48_000])
def test_agrees_with_pystoi_at_every_rate(metric: int, rate: int) -> None:
    reference = resample(SPEECH, 16_000, rate)
    output = reference + np.float32(0.02) * np.random.default_rng(0).standard_normal(len(reference)).astype(np.float32)
    expected = by_pystoi(reference, output, metric, rate)
    assert score(reference, output, rate, metric).value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", [0, 1])
@pytest.mark.parametrize("frames", [30, 31, 32, 33])
@pytest.mark.parametrize("extra", [0, 1, 127])
def test_the_shortest_signals_end_where_pystoi_ends(metric: int, frames: int, extra: int) -> None:
    samples = np.random.default_rng(3).standard_normal((frames - 1) * 128 + 256 + extra).astype(np.float32)
    expected = by_pystoi(samples, samples, metric)
    assert score(samples, samples, stoi.RATE, metric).status == ("undefined" if expected is None else "ok")


@pytest.mark.parametrize("metric", [0, 1])
def test_too_little_speech_is_undefined_and_warns_nobody(metric: int) -> None:
    """The package returns 1e-5 with a warning where too few frames are left without silence."""
    blip = np.zeros(48_000, dtype=np.float32)
    blip[20_000:24_000] = SPEECH[9_000:13_000]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert score(blip, blip, metric=metric) == Value("undefined", "too_short")
        assert score(blip, SPEECH, metric=metric) == Value("undefined", "too_short")
        assert score(SPEECH[:6_000], SPEECH[:6_000], metric=metric) == Value("undefined", "too_short")


@pytest.mark.parametrize("metric", [0, 1])
def test_digital_silence_in_the_output_has_no_correlation(metric: int) -> None:
    """The package's ESTOI normalises noise of its own there, so that its value is another each time."""
    gappy = SPEECH.copy()
    gappy[10_000:30_000] = 0
    np.random.seed(5)
    expected = np.random.random(3)
    np.random.seed(5)
    values = {score(SPEECH, gappy, metric=metric).value for _ in range(3)}
    assert np.array_equal(np.random.random(3), expected), "the global random state was touched"
    (value,) = values
    reference, output = (Reference(samples, 16_000).at(stoi.RATE) for samples in (SPEECH, gappy))
    theirs = [by_pystoi(reference, output, metric) or 0.0 for _ in range(9)]
    assert value == pytest.approx(np.mean(theirs), abs=0.02)


def test_the_reference_is_analysed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    bands = Mock(side_effect=stoi.bands)
    monkeypatch.setattr(stoi, "bands", bands)
    reference = Reference(SPEECH, 16_000)
    for gain in (0.5, 0.25):
        output = Output(SPEECH * np.float32(gain), 16_000)
        assert all(evaluate(metric, reference, output).status == "ok" for metric in stoi.METRICS)
    assert bands.call_count == 3


def test_an_output_may_have_two_references() -> None:
    late = np.roll(SPEECH, 4_000)
    output = Output(SPEECH, 16_000)
    found = [evaluate(stoi.METRICS[0], Reference(samples, 16_000), output) for samples in (SPEECH, late)]
    assert found == [score(SPEECH, SPEECH), score(late, SPEECH)]
    assert found[0] != found[1]
