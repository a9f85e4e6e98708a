from math import exp

import numpy as np
import pesq as library
import pytest
from numpy.typing import NDArray

from codecbench.metrics.base import Output, Reference, Value, evaluate
from codecbench.metrics.conformance import signals
from codecbench.metrics.pesq import METRICS, _most_utterances

WIDE, NARROW = METRICS
Samples = NDArray[np.float32]


def score(reference: Samples, output: Samples, rate: int = 16_000, metric: int = 0) -> Value:
    return evaluate(METRICS[metric], Reference(reference, rate), Output(output, rate))


def bursts(seconds: float, on: float, off: float, rate: int = 16_000) -> Samples:
    time = np.arange(round(seconds * rate)) / rate
    return np.asarray(signals.noise(len(time)) * 0.1 * (time % (on + off) < on), dtype=np.float32)


def test_the_perfect_values_are_the_mapped_raw_score_of_4_5() -> None:
    """P.862.2 equation 1 and P.862.1 equation 1."""
    assert pytest.approx(0.999 + 4 / (1 + exp(-1.3669 * 4.5 + 3.8224)), abs=1e-6) == WIDE.perfect
    assert pytest.approx(0.999 + 4 / (1 + exp(-1.4945 * 4.5 + 4.6607)), abs=1e-6) == NARROW.perfect


@pytest.mark.parametrize("metric", [0, 1])
def test_no_value_lies_beyond_the_declared_range(metric: int) -> None:
    speech = signals.speech()
    low, high = METRICS[metric].floor, METRICS[metric].perfect
    assert low is not None
    assert high is not None
    for output in (speech, signals.noise(len(speech)), signals.at_snr(speech, -20)):
        value = score(speech, output, metric=metric).value
        assert value is not None
        assert low < value <= high


def test_gain_and_polarity_do_not_matter() -> None:
    speech = signals.speech()
    assert score(speech, -speech * np.float32(0.25)).value == pytest.approx(WIDE.perfect, abs=0.01)


def test_too_short() -> None:
    speech = signals.speech()[8_000:]
    assert score(speech[:3_999], speech[:3_999]).reason == "too_short"
    assert score(speech[:4_000], speech[:4_000]).status == "ok"


def test_a_reference_without_an_utterance_is_undefined_whatever_the_output() -> None:
    blips = np.zeros(48_000, dtype=np.float32)
    for start in (8_000, 30_000):
        blips[start : start + 800] = signals.noise(800) * 0.1
    for output in (blips, signals.speech()):
        assert score(blips, output) == Value("undefined", "ref_no_speech")


@pytest.mark.parametrize(
    "fault", [library.NoUtterancesError("none"), ValueError("cannot convert float NaN to integer")]
)
def test_an_output_that_pesq_cannot_compare_is_a_failure_of_the_output(
    monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    speech = signals.speech()
    measure = library.pesq

    def faulty(rate: int, original: Samples, coded: Samples, band: str) -> float:
        if original is not coded:
            raise fault
        return float(measure(rate, original, coded, band))

    monkeypatch.setattr(library, "pesq", faulty)
    assert score(speech, speech * np.float32(0.5)) == Value("failed", "no_alignment")


def test_another_error_of_the_library_is_not_the_outputs_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object) -> float:
        raise ValueError("mode should be either 'nb' or 'wb'")

    monkeypatch.setattr(library, "pesq", broken)
    speech = signals.speech()
    assert score(speech, speech).status == "error"


def test_references_that_would_crash_the_library_are_undefined() -> None:
    many = bursts(30, 0.25, 0.25)  # 60 utterances: a segmentation fault in the library
    assert score(many, many) == Value("undefined", "too_many_utterances")
    long = signals.speech(30.1)
    assert score(long, long) == Value("undefined", "too_long")


def test_the_estimate_of_utterances_counts_bursts_above_any_threshold() -> None:
    assert _most_utterances(bursts(15, 0.25, 0.25, 8_000)) == 30
    quiet = bursts(15, 0.25, 0.25, 8_000)
    quiet[: 8_000 * 3] = signals.noise(24_000)  # one loud utterance lifts the mean power above all others
    assert _most_utterances(quiet) >= 24
    assert _most_utterances(bursts(15, 0.1, 0.4, 8_000)) == 0  # bursts of 100 ms are no utterances
