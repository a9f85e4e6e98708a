import warnings

import numpy as np
import pystoi
import pytest
from numpy.typing import NDArray

from codecbench.metrics.base import Output, Reference, Value, evaluate
from codecbench.metrics.conformance import signals
from codecbench.metrics.stoi import METRICS

SPEECH = signals.speech()
Samples = NDArray[np.float32]


def score(reference: Samples, output: Samples, rate: int = 16_000, metric: int = 0) -> Value:
    return evaluate(METRICS[metric], Reference(reference, rate), Output(output, rate))


@pytest.mark.parametrize("metric", [0, 1])
def test_too_little_speech_is_undefined_and_warns_nobody(metric: int) -> None:
    """The library returns 1e-5 with a warning where too few frames are left without silence."""
    blip = np.zeros(48_000, dtype=np.float32)
    blip[20_000:24_000] = SPEECH[9_000:13_000]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert score(blip, blip, metric=metric) == Value("undefined", "too_short")
        assert score(blip, SPEECH, metric=metric) == Value("undefined", "too_short")
        assert score(SPEECH[:6_000], SPEECH[:6_000], metric=metric) == Value("undefined", "too_short")


def test_the_librarys_own_resampler_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_args: object) -> None:
        raise AssertionError("pystoi resampled")

    monkeypatch.setattr(pystoi.stoi.__globals__["utils"], "resample_oct", forbidden)
    for rate in (8_000, 16_000, 48_000):
        speech = signals.speech(1.5, rate)
        assert score(speech, speech, rate).status == "ok"


@pytest.mark.parametrize("metric", [0, 1])
def test_digital_silence_in_the_output_gives_one_value_and_leaves_the_random_state(metric: int) -> None:
    """ESTOI normalises silence, so that the noise it adds would decide."""
    gappy = SPEECH.copy()
    gappy[10_000:30_000] = 0
    np.random.seed(5)
    expected = np.random.random(3)
    np.random.seed(5)
    values = {score(SPEECH, gappy, metric=metric).value for _ in range(3)}
    assert np.array_equal(np.random.random(3), expected)
    assert len(values) == 1
    assert values != {None}
